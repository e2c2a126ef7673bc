"""What networks are asked before they are trusted, and what is asked of features alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.loading import load_network
from tests.helpers.small_networks import SIZE, small_module, wrap


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


class Through(nn.Module):
    """A function, a layer with an activation, a function, a layer."""

    def __init__(self, before=lambda x: x, behind=lambda x: x, by_name=False):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3 * SIZE**2, 12), nn.ReLU(), nn.Linear(12, 4)
        self.before, self.behind, self.by_name = before, behind, by_name

    def forward(self, images):
        hidden = self.first(self.before(images).flatten(1))
        shown = self.act(input=hidden) if self.by_name else self.act(hidden)
        return self.last(self.behind(shown))


class Skipping(Through):
    """Adds something of the image behind the activation."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, images):
        flat = images.flatten(1)
        return self.last(self.act(self.first(flat)) + self.share * flat[:, :12])


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize(("layer", "shape"), [("1", (5, SIZE, SIZE)), ("5", (9,))])
def test_features_get_the_logits_of_the_rest_of_the_network(batch, layer, shape, rng):
    module = small_module(rng)
    network = wrap(module, layer)
    features = torch.randn(batch, *shape, generator=rng)
    given = features.flatten(1)
    logits = network.classify_features(given)
    expected = module[int(layer) :](features.clone())
    torch.testing.assert_close(logits, expected)
    # Activations that work in place must not reach what was given.
    assert torch.equal(given, features.flatten(1))


@pytest.mark.parametrize("by_name", [False, True])
def test_an_images_own_features_get_its_logits(by_name, rng):
    network = wrap(Through(by_name=by_name))
    output = network(torch.rand(3, 3, SIZE, SIZE, generator=rng))
    torch.testing.assert_close(network.classify_features(output.pre_activation), output.logits)


def test_features_of_efficientnet_get_the_images_class(rng):
    network = load_network(Network(weights="random"))
    output = network(torch.rand(1, 3, 224, 224, generator=rng))
    torch.testing.assert_close(network.classify_features(output.pre_activation), output.logits)


def test_gradients_reach_given_features(rng):
    features = torch.randn(2, 9, generator=rng, requires_grad=True)
    logits = wrap(small_module(rng), "5").classify_features(features)
    (gradient,) = torch.autograd.grad(logits.sum(), features)
    assert ((gradient != 0) == (features > 0)).all()


def test_nothing_is_left_behind_even_when_features_are_refused(rng):
    network = wrap(Skipping(0.5))
    with pytest.raises(NetworkError, match="way round"):
        network.classify_features(torch.randn(1, 12, generator=rng))
    assert not any(part._forward_pre_hooks for part in network.module.modules())


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_features_behind_a_skip_connection_decide_no_class(share, rng):
    with pytest.raises(
        NetworkError, match=r"'act' of small do not decide the class .*Give an image"
    ):
        wrap(Skipping(share)).classify_features(torch.randn(2, 12, generator=rng))


def test_more_or_fewer_features_than_units_are_refused(rng):
    with pytest.raises(NetworkError, match=r"'5' of small has 9 units, but features have 8 values"):
        wrap(small_module(rng), "5").classify_features(torch.randn(1, 8, generator=rng))


def dropped(values):
    return F.dropout(values, 0.5, training=True)


@pytest.mark.parametrize(
    "options",
    [
        {"before": dropped},
        {"behind": dropped},
        {"behind": lambda values: values + torch.randn(12)},
        {"before": lambda images: images * torch.rand(1)},
    ],
)
def test_networks_that_answer_at_random_are_refused(options):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = Through(**options)
        with pytest.raises(NetworkError, match=r"small answers at random: .*Look for dropout"):
            wrap(module)


def batch_norm(**options):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, **options),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * (SIZE - 2) ** 2, 4),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: (batch_norm(track_running_stats=False), "2"),
        lambda: (Through(behind=lambda values: values - values.mean(dim=0)), "act"),
    ],
)
def test_networks_whose_answer_depends_on_the_batch_are_refused(make):
    with pytest.raises(NetworkError, match=r"another answer when other images .*track_running"):
        wrap(*make())


def test_dropout_and_batch_norm_in_evaluation_mode_are_welcome():
    module = nn.Sequential(batch_norm(), nn.Dropout(0.5)).train()
    assert wrap(module, "0.2").units == 4 * (SIZE - 2) ** 2
