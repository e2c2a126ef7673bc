"""What a classifier returns becomes logits once, whatever was made of them before."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.evaluation.claims import walk_edges
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import run_capturing
from tests.helpers.presence import present

SIZE = 8


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


class Then(nn.Module):
    """A module with a function behind it."""

    def __init__(self, module, function):
        super().__init__()
        self.inner, self.function = module, function

    def forward(self, images):
        return self.function(self.inner(images))


def plain(rng, outputs=3):
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIZE**2, 12), nn.ReLU(), nn.Linear(12, outputs)
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=rng)
    return module


def wrap(module, **options):
    layer = next(name for name, part in module.named_modules() if isinstance(part, nn.ReLU))
    zero, one = (0.0,) * 3, (1.0,) * 3
    return CollisionNetwork(
        module, name="small", layer=layer, input_size=SIZE, mean=zero, scale=one, **options
    )


ENDINGS = {
    "softmax module": lambda module: nn.Sequential(*module, nn.Softmax(dim=1)),
    "softmax function": lambda module: Then(module, lambda values: F.softmax(values, dim=-1)),
    "softmax method": lambda module: Then(module, lambda values: values.softmax(1)),
    "by hand": lambda module: Then(module, lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
    "log softmax module": lambda module: nn.Sequential(*module, nn.LogSoftmax(dim=1)),
    "log softmax function": lambda module: Then(module, lambda x: x.log_softmax(1)),
    "mean of two": lambda module: Then(module, lambda x: (x.softmax(1) + (2 * x).softmax(1)) / 2),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_probabilities_are_taken_as_they_are(ending, rng):
    module = plain(rng)
    ended = ENDINGS[ending](copy.deepcopy(module))
    images = torch.rand(4, 3, SIZE, SIZE, generator=rng)
    expected = ended(images)
    expected = expected.exp() if "log" in ending else expected
    network = wrap(ended)
    torch.testing.assert_close(network.probabilities(images), expected.detach())
    output = network.in_float64()(images)
    torch.testing.assert_close(output.probabilities, expected.detach().double())
    assert network.num_classes == 3
    logits = run_capturing(network, images, [network.layer], lambda *_: None)
    torch.testing.assert_close(logits, network(images).logits)


@pytest.mark.parametrize("ending", ["softmax module", "softmax function"])
def test_features_alone_get_the_same_probabilities_as_their_image(ending, rng):
    network = wrap(ENDINGS[ending](plain(rng)))
    output = network(torch.rand(4, 3, SIZE, SIZE, generator=rng))
    torch.testing.assert_close(network.classify_features(output.pre_activation), output.logits)


@pytest.mark.parametrize("ending", ["softmax module", "log softmax module"])
def test_a_network_that_ends_in_a_softmax_is_walked_as_one_without(ending, rng):
    module = plain(rng)
    vertices = torch.rand(3, 3, SIZE, SIZE, generator=rng)
    expected, found = (
        walk_edges(wrap(each), vertices, 0, num_edges=None, max_pieces=200)
        for each in (module, ENDINGS[ending](copy.deepcopy(module)))
    )
    assert found["complete"]
    assert found["worst_margin"] == pytest.approx(expected["worst_margin"], rel=1e-9)
    assert found["worst_edge"] == expected["worst_edge"]


def test_a_probability_of_zero_has_finite_logits_and_gradients(rng):
    network = wrap(ENDINGS["softmax function"](plain(rng)))
    with torch.no_grad():
        network.module.inner[3].weight.mul_(1e4)
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng).requires_grad_()
    logits = network(images).logits
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()


SINGLE = {
    "a logit": lambda module: module,
    "a logit without a dimension": lambda module: Then(module, lambda values: values[:, 0]),
    "a sigmoid module": lambda module: nn.Sequential(*module, nn.Sigmoid()),
    "a sigmoid function": lambda module: Then(module, torch.sigmoid),
    "a sigmoid without a dimension": lambda module: Then(module, lambda x: x.sigmoid().squeeze(1)),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_one_output_has_the_two_classes_of_a_sigmoid(kind, rng, caplog):
    module = plain(rng, 1)
    images = torch.rand(5, 3, SIZE, SIZE, generator=rng)
    second = torch.sigmoid(module(images)).detach()
    with caplog.at_level("INFO"):
        network = wrap(SINGLE[kind](module), class_names=("cat", "dog"))
    assert re.search("small returns (one logit|a sigmoid) of two classes", caplog.text)
    assert re.fullmatch(r"small \(which returns .* of two classes\)", network.full_name)
    assert network.at_layer(network.layer).full_name == network.full_name
    assert network.num_classes == 2
    expected = torch.cat([1 - second, second], dim=1)
    torch.testing.assert_close(network.probabilities(images), expected)
    logits = run_capturing(network, images, [network.layer], lambda *_: None)
    torch.testing.assert_close(logits.softmax(dim=1), expected)
    image = (255 * images[0]).byte().permute(1, 2, 0)
    index, name, probability = network.top(image)
    assert name == ("cat", "dog")[index]
    assert 0.5 <= probability < 1


def test_both_classes_of_one_output_occur(rng):
    module = plain(rng, 1)
    images = torch.rand(50, 3, SIZE, SIZE, generator=rng)
    with torch.no_grad():
        module[3].bias.sub_(module(images).median())
    classes = wrap(module).probabilities(images).argmax(dim=1)
    assert sorted(set(classes.tolist())) == [0, 1]
    assert torch.equal(classes, (module(images)[:, 0] > 0).long())


@pytest.mark.parametrize("kind", ["a logit", "a logit without a dimension", "a sigmoid module"])
def test_edges_of_a_network_with_one_output_are_walked(kind, rng):
    module = plain(rng, 1)
    network = wrap(SINGLE[kind](copy.deepcopy(module)))
    vertices = torch.rand(2, 3, SIZE, SIZE, generator=rng)
    found = walk_edges(network, vertices, 1, num_edges=None, max_pieces=200)
    places = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None, None, None]
    points = torch.lerp(vertices[:1].double(), vertices[1:].double(), places)
    with torch.no_grad():
        sampled = float(module.double()(points).min())
    assert found["complete"]
    assert sampled - 0.01 <= present(found["worst_margin"]) <= sampled + 1e-9


@pytest.mark.parametrize(
    ("names", "expected"),
    [((), "1"), (("cat",), "cat"), (("cat", "dog"), "dog")],
)
def test_one_output_may_have_one_name_or_two(names, expected, rng):
    network = wrap(plain(rng, 1), class_names=names)
    assert network.class_name(1) == expected
    if len(names) == 1:
        assert network.class_name(0) == "not cat"


class Rounded(nn.Module):
    def forward(self, values):
        return values.argmax(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("outputs", "behind", "message"),
    [
        (1, nn.Softmax(dim=1), "ends in a softmax over one output, which is the same for every"),
        (1, nn.LogSoftmax(dim=1), "ends in a log_softmax over one output"),
        (3, nn.Sigmoid(), "ends in 3 sigmoids, each a probability of its own.*without the sigmoid"),
        (3, Rounded(), r"a floating-point logit .* 1 values of torch\.int64"),
        (2, nn.Unflatten(1, (2, 1, 1)), r"logits of shape \(1, classes\).*\(1, 2, 1, 1\)"),
    ],
)
def test_outputs_that_say_nothing_of_one_class_are_refused(outputs, behind, message, rng):
    with pytest.raises(NetworkError, match=message):
        wrap(nn.Sequential(*plain(rng, outputs), behind))


def test_a_network_without_classes_is_refused(rng):
    with pytest.raises(NetworkError, match="returned 0 values"):
        wrap(Then(plain(rng), lambda values: values[:, :0]))


@pytest.mark.parametrize("dead", [False, True])
def test_a_network_of_one_answer_is_said(dead, rng, caplog):
    module = plain(rng)
    if dead:
        module[3].weight.data.zero_()
    wrap(module)
    assert ("a collision with its class says nothing" in caplog.text) == dead


def test_a_sigmoid_in_the_middle_changes_nothing(rng):
    module = plain(rng)
    network = wrap(nn.Sequential(module[0], nn.Sigmoid(), *module[1:]))
    assert network.outputs.are_logits
    assert network.full_name == "small"
    assert network.classifier is network.module


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_same_is_found_in_every_grad_mode(mode, rng):
    module = ENDINGS["softmax function"](plain(rng))
    with mode():
        network = wrap(module)
    assert str(network.outputs) == "probabilities"
