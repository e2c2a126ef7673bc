"""Runs of activations: their names, and what goes into them, against torchvision's extraction."""

import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from patchcollide.errors import NetworkError
from patchcollide.networks.activations import activated
from patchcollide.networks.calls import Hooks, calls_hooked
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import run_capturing
from tests.helpers.small_networks import SIZE, wrap

NETWORKS = {
    "resnet18": 17,
    "googlenet": 57,
    "shufflenet_v2_x0_5": 37,
    "squeezenet1_1": 26,
    "mnasnet0_5": 35,
    "convnext_tiny": 18,
}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def of_torchvision(name):
    unset = {"init_weights": False} if name == "googlenet" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None, **unset)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing")
def test_each_run_is_named_and_valued_as_torchvision_extracts_it(name, rng):
    module = of_torchvision(name)
    half = (0.5,) * 3
    network = CollisionNetwork(
        module, name=name, layer="", input_size=32, tolerance=0.01, mean=half, scale=half
    )
    assert len(network.calls) == NETWORKS[name]
    assert [call.name for call in network.calls] == network.usable_layers
    extractor = create_feature_extractor(module, [call.name for call in network.calls])
    images = torch.rand(2, 3, 32, 32, generator=rng)
    found = {}

    def keep(call, z):
        found[call.name] = z.clone()

    entering = {call: Hooks(functools.partial(keep, call)) for call in network.calls}
    with torch.no_grad(), calls_hooked(module, entering):
        network(images)
    with torch.no_grad():
        expected = extractor(network.prepared(images))
    for call in network.calls:
        assert torch.equal(activated(call.activation, found[call.name]), expected[call.name]), call
    for call in network.calls[1::7]:
        z = network.at_layer(call.name).pre_activation(images)
        assert torch.equal(z, found[call.name].flatten(1)), call


class Functions(nn.Module):
    """Activations in every way that people write them."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()
        self.head, self.inner = nn.Linear(4, 5), Inner()

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = torch.relu(x - 0.1)
        x = (x - 0.1).relu()
        x = (x - 0.1).relu_()
        x = F.relu(x - 0.1, inplace=True)
        x = F.relu6(input=x - 0.1)
        x = torch.clamp(x - 0.1, 0, 6)
        x = (x - 0.1).clamp(min=0)
        x = (x - 0.1).clamp_(0, max=3)
        x = F.hardtanh(x, -0.5, 0.5)
        x = self.act(self.inner(self.inner(x)))
        return self.head(F.threshold(x, 0.1, 0).mean((2, 3)))


class Inner(nn.Module):
    def forward(self, x):
        return F.leaky_relu(F.relu(x) - 0.2, 0.3)


NAMED = {
    "relu": (0, None),
    "relu_1": (0, None),
    "relu_2": (0, None),
    "relu_": (0, None),
    "relu_3": (0, None),
    "relu6": (0, 6),
    "clamp": (0, 6),
    "clamp_1": (0, None),
    "clamp_": (0, 3),
    "hardtanh": (-0.5, 0.5),
    "inner.relu": (0, None),
    "inner.relu_1": (0, None),
    "act": (0, None),
    "_threshold": (0.1, None),
}


def test_functions_are_named_by_the_module_around_them_and_a_number(rng):
    network = wrap(Functions(), "")
    assert network.layer == "_threshold"
    found = {name: network.find_layer(name)[1] for name in network.usable_layers}
    assert {name: (blind.low, blind.high) for name, blind in found.items()} == NAMED
    assert wrap(Functions(), "act", tolerance=0.1).usable_layers[-3] == "inner.leaky_relu_1"


@pytest.mark.parametrize("name", [*NAMED])
def test_what_goes_into_a_function_is_shown_with_gradients(name, rng):
    network = wrap(Functions(), name)
    images = torch.rand(2, 3, SIZE, SIZE, generator=rng).requires_grad_()
    z = network.pre_activation(images)
    whole, logits = network(images)
    assert torch.equal(z, whole)
    assert torch.equal(logits, network.module(network.prepared(images)))
    assert torch.autograd.grad(z.sum(), images)[0].any()
    run_capturing(network, images, [name], lambda _, found: torch.testing.assert_close(found, z))
    double = network.in_float64()
    torch.testing.assert_close(double.pre_activation(images.double()).float(), z)


def test_functions_behind_a_function_are_given_its_features(rng):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 7), Inner(), nn.Linear(7, 3))
    network = wrap(module, "2.relu")
    output = network(torch.rand(4, 3, SIZE, SIZE, generator=rng))
    torch.testing.assert_close(network.classify_features(output.pre_activation), output.logits)


def test_a_module_keeps_its_name_where_a_function_has_the_same():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.relu, self.relu_1 = nn.Flatten(), nn.ReLU(), nn.ReLU()
            self.head = nn.LazyLinear(3)

        def forward(self, x):
            x = F.relu(self.relu(self.relu_1(F.relu(self.flat(x)))))
            return self.head(self.relu(x))

    module = Both()
    module(torch.zeros(1, 3, SIZE, SIZE))
    network = wrap(module, "relu_1")
    assert network.usable_layers == ["relu_2", "relu_1", "relu", "relu_3", "relu_4"]
    assert [call.number for call in network.calls] == [0, 0, 0, 1, 1]
    assert [call.kind for call in network.calls] == ["relu()", "ReLU", "ReLU", "relu()", "ReLU"]


class Early(nn.Module):
    """Activates its own weights before it looks at the image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, 3 * SIZE**2))
        self.act, self.other, self.bias = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        weight = F.relu(self.act(self.weight))
        bias = self.bias(self.weight[:, 0].expand(len(x), -1))
        return self.other(x.flatten(1) @ weight.T) + bias


def test_what_runs_without_the_image_is_no_layer():
    network = wrap(Early(), "other")
    assert network.usable_layers == ["other"]
    with pytest.raises(NetworkError, match=r"no layer 'relu'\. Usable are other"):
        network.at_layer("relu")
    with pytest.raises(
        NetworkError, match=r"'act' of small should see a batch .* usable are other"
    ):
        network.at_layer("act")


def test_a_layer_before_the_image_is_used_is_refused():
    with pytest.raises(NetworkError, match=r"'bias' of small does not depend .* usable are other"):
        wrap(Early(), "bias")


def test_no_hook_outlives_a_pass_that_fails(rng):
    network = wrap(Functions(), "inner.relu_1")
    present = [part for part in network.module.modules() if part._forward_hooks]
    network.module.head = nn.Linear(9, 5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(torch.rand(1, 3, SIZE, SIZE, generator=rng))
    hooks = [part._forward_hooks or part._forward_pre_hooks for part in network.module.modules()]
    assert not any(hooks)
    assert not present


def test_a_pass_with_a_way_out_is_counted_right(rng):
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.broken, self.inner, self.head = nn.Linear(1, 1), Inner(), nn.Linear(768, 3)

        def forward(self, x):
            x = x.flatten(1)
            try:
                x = self.broken(x)
            except RuntimeError:
                x = F.relu(x)
            return self.head(self.inner(x))

    assert wrap(Catching(), "").usable_layers == ["relu", "inner.relu"]
