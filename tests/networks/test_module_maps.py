"""Layers of small networks against the Jacobians that automatic differentiation gives."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.affine import read_module_map
from patchcollide.networks.calls import Call
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.probes import replaced_input
from patchcollide.networks.trace import Trace
from tests.helpers.presence import present

SIZE = 8


class Function(nn.Module):
    """A function as a module without a name that anything knows."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *values):
        return self.function(*values)


class Skip(nn.Module):
    """Adds what goes in to what comes out, then activates."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.act = inner, nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.inner(x)
        y += x
        return self.act(y)


class Gate(nn.Module):
    """Multiplies what goes in with a number that depends on it."""

    def forward(self, x):
        return x * x.mean(dim=(1, 2, 3), keepdim=True).sigmoid()


class Bending(nn.Conv2d):
    """A convolution that cuts off what no input is likely to reach."""

    def forward(self, x):
        return super().forward(x.clamp(min=-1e9))


class Into(nn.Module):
    """Adds a module's output to its input, in place."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.act = inner, nn.ReLU()

    def forward(self, x):
        x = F.gelu(x)
        x += self.inner(x)
        return self.act(x)


class Shared(nn.Module):
    """One activation at two places."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.act, self.other = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.other(self.second(self.act(self.first(self.act(x)))))


class Twice(nn.Module):
    """One convolution at two places."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(self.conv(x)))


class Beside(nn.Module):
    """A linear module runs before the activation, but leads elsewhere."""

    def __init__(self):
        super().__init__()
        self.conv, self.aside, self.act = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        y, aside = self.conv(x), self.aside(x)
        return self.act(y) + aside


def batch_norm(channels):
    norm = nn.BatchNorm2d(channels)
    present(norm.running_mean).normal_()
    present(norm.running_var).uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def named(**parts):
    module = nn.Sequential()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def relus(**parts):
    """A stem, then the parts."""
    return named(stem=nn.Conv2d(3, 4, 3, padding=1), relu=nn.ReLU(), **parts)


CASES = {
    "the image": lambda: (named(conv=nn.Conv2d(3, 4, 3), act=nn.ReLU()), "act"),
    "the image, flat": lambda: (
        named(flat=nn.Flatten(), fc=nn.Linear(3 * SIZE**2, 9), act=nn.ReLU()),
        "act",
    ),
    "batch norm": lambda: (
        relus(conv=nn.Conv2d(4, 6, 3, stride=2), norm=batch_norm(6), act=nn.ReLU6()),
        "act",
    ),
    "groups": lambda: (
        relus(conv=nn.Conv2d(4, 8, 3, groups=2, dilation=2), act=nn.ReLU(inplace=True)),
        "act",
    ),
    "pooled before": lambda: (
        relus(pool=nn.MaxPool2d(2), conv=nn.Conv2d(4, 2, 3, padding=1), act=nn.Hardtanh()),
        "act",
    ),
    "pooled and flattened before": lambda: (
        relus(pool=nn.AvgPool2d(2), flat=nn.Flatten(), fc=nn.Linear(64, 7), act=nn.ReLU()),
        "act",
    ),
    "flattened between": lambda: (
        relus(conv=nn.Conv2d(4, 2, 3), flat=nn.Flatten(), drop=nn.Dropout(), act=nn.ReLU()),
        "act",
    ),
    "a skip connection": lambda: (
        relus(skip=Skip(named(conv=nn.Conv2d(4, 4, 3, padding=1), norm=batch_norm(4)))),
        "skip.act",
    ),
    "a skip connection in place": lambda: (
        named(stem=nn.Conv2d(3, 4, 1), relu=nn.ReLU(True), skip=Into(nn.Conv2d(4, 4, 1))),
        "skip.act",
    ),
    "no activation before": lambda: (
        relus(one=nn.Conv2d(4, 2, 1), conv=nn.Conv2d(2, 5, 1), act=nn.ReLU()),
        "act",
    ),
    "rows of features": lambda: (
        named(rows=nn.Flatten(2), fc=nn.Linear(SIZE**2, 5), act=nn.ReLU()),
        "act",
    ),
}


def network_of(features, layer):
    """The features with a classifier behind; inputs are normalised channel by channel."""
    features.eval()
    with torch.no_grad():
        width = features(torch.zeros(1, 3, SIZE, SIZE)).numel()
    module = named(features=features, flatten=nn.Flatten(), out=nn.Linear(width, 4))
    return CollisionNetwork(
        module,
        name="small",
        layer=f"features.{layer}",
        input_size=SIZE,
        mean=(0.4, 0.5, 0.6),
        scale=(0.2, 0.25, 0.3),
    ).in_float64()


def read(features, layer):
    network = network_of(features, layer)
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    trace = Trace(network, image, network.usable_layers)
    return network, image, read_module_map(trace, network.layer)


def differentiated(network, image, found):
    """The Jacobian of the layer by the input of its module, and that input."""
    entered = []
    linear = network.module.get_submodule(found.module)
    with linear.register_forward_pre_hook(lambda _, args: entered.append(args[0].clone())):
        network.pre_activation(image)

    def of_input(values):
        part = Call(found.module, found.module, linear)
        with replaced_input(network.module, part, values.flatten(1)):
            return network.pre_activation(image)

    jacobian = torch.autograd.functional.jacobian(of_input, entered[0])
    return jacobian.reshape(len(found.pre_activation), -1).numpy()


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(11)
        yield


@pytest.mark.parametrize("name", CASES)
def test_layers_are_read_as_their_jacobians(name):
    network, image, found = read(*CASES[name]())
    expected = differentiated(network, image, found)
    if found.input_kind.name == "pixels":
        scale = torch.tensor([0.2, 0.25, 0.3], dtype=torch.float64).reshape(1, 3, 1, 1)
        expected /= scale.expand_as(image).reshape(-1).numpy()
        np.testing.assert_allclose(found.target, image.numpy().reshape(-1))
    rows = found.rows(np.arange(len(expected)))
    np.testing.assert_allclose(rows, expected, atol=1e-11)
    for block in found.connections.blocks():
        place = np.ix_(found.connections.units_of(block), found.connections.inputs_of(block))
        np.testing.assert_allclose(found.matrix_of(block), expected[place], atol=1e-11)
    z = network.pre_activation(image)[0].numpy()
    np.testing.assert_allclose(found.pre_activation, z, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "kind", "span"),
    [
        ("the image", "pixels", (0, 1)),
        ("the image, flat", "pixels", (0, 1)),
        ("batch norm", "features.relu", (0, math.inf)),
        ("pooled before", "features.relu", (0, math.inf)),
        ("pooled and flattened before", "features.relu", (0, math.inf)),
        ("no activation before", "any", (-math.inf, math.inf)),
    ],
)
def test_inputs_have_the_range_of_what_they_come_from(name, kind, span):
    _, _, found = read(*CASES[name]())
    assert (found.input_kind.name, found.input_kind.range) == (kind, span)


@pytest.mark.parametrize(
    ("between", "kind", "span"),
    [
        ({"act": nn.ReLU6()}, "features.act", (0, 6)),
        ({"act": nn.Tanh()}, "features.act", (-1, 1)),
        ({"act": nn.Hardtanh(1, 2), "p": nn.AvgPool2d(2, padding=1)}, "features.act", (0, 2)),
        ({"act": nn.Hardtanh(1, 2), "p": nn.AvgPool2d(2)}, "features.act", (1, 2)),
        ({"act": nn.ReLU(), "drop": nn.Dropout()}, "features.act", (0, math.inf)),
        ({"act": nn.ReLU(), "norm": nn.BatchNorm2d(4, eps=1e-300)}, "any", (-math.inf, math.inf)),
        ({"act": nn.LeakyReLU()}, "any", (-math.inf, math.inf)),
        ({"act": nn.GELU()}, "any", (-math.inf, math.inf)),
        ({"act": nn.ReLU(), "f": Function(lambda x: -x)}, "any", (-math.inf, math.inf)),
        ({"act": nn.ReLU(), "f": Function(lambda x: x)}, "features.act", (0, math.inf)),
        ({"act": nn.ReLU(), "f": Function(lambda x: x.clone()[:])}, "features.act", (0, math.inf)),
        # What this image's values are left by, another's may not be.
        (
            {"act": nn.ReLU(), "f": Function(lambda x: x.clamp(max=1e6))},
            "features.f.clamp",
            (-math.inf, 1e6),
        ),
        (
            {"act": nn.ReLU(), "f": Function(lambda x: x.clamp_(max=1e6))},
            "features.f.clamp_",
            (-math.inf, 1e6),
        ),
        (
            {"act": nn.ReLU(), "f": Function(lambda x: torch.minimum(x, x.new_tensor(1e6)))},
            "any",
            (-math.inf, math.inf),
        ),
        ({"f": Function(F.relu)}, "features.f.relu", (0, math.inf)),
        (
            {"act": nn.ReLU(), "f": Function(lambda x: (x.data.clamp_(max=1e6), x)[1])},
            "any",
            (-math.inf, math.inf),
        ),
        ({"act": nn.ReLU(), "f": Function(lambda x: x.mT)}, "any", (-math.inf, math.inf)),
    ],
)
def test_activations_pools_and_functions_say_what_they_let_through(between, kind, span):
    features = named(stem=nn.Conv2d(3, 4, 1), **between, conv=nn.Conv2d(4, 2, 2), last=nn.ReLU())
    _, _, found = read(features, "last")
    assert (found.input_kind.name, found.input_kind.range) == (kind, span)


REFUSED = {
    "another activation between": (
        lambda: (relus(c=nn.Conv2d(4, 3, 3), f=Function(F.relu), act=nn.ReLU()), "act"),
        r"what lies between it and 'features\.c' is not affine unit by unit",
    ),
    "a bend between, where nothing reaches": (
        lambda: (
            relus(c=nn.Conv2d(4, 3, 3), f=Function(lambda x: x.clamp(max=1e12)), act=nn.ReLU()),
            "act",
        ),
        r"what lies between it and 'features\.c' is not affine unit by unit: .*it bends",
    ),
    "a convolution that bends what it reads": (
        lambda: (relus(c=Bending(4, 3, 3), act=nn.ReLU()), "act"),
        r"not affine unit by unit: 'features\.c' \(Bending\): it bends",
    ),
    "a gate between": (
        lambda: (relus(c=nn.Conv2d(4, 3, 3), gate=Gate(), act=nn.ReLU()), "act"),
        r"not affine unit by unit",
    ),
    "units are mixed between": (
        lambda: (
            relus(c=nn.Conv2d(4, 3, 3), f=Function(lambda x: x.flip(1)), act=nn.ReLU()),
            "act",
        ),
        r"not affine unit by unit",
    ),
    "pooled between": (
        lambda: (relus(c=nn.Conv2d(4, 3, 3), pool=nn.AvgPool2d(2), act=nn.ReLU()), "act"),
        r"'features\.c' before it has 108 outputs, but it has 27 units",
    ),
    "nothing linear before": (
        lambda: (named(act=nn.ReLU()), "act"),
        r"no nn\.Linear or nn\.Conv2d runs before it",
    ),
    "one linear module twice": (lambda: (Twice(), "act"), r"'features\.conv' runs 2 times"),
    "a linear module that leads elsewhere": (
        lambda: (Beside(), "act"),
        r"nothing of 'features\.aside', the linear module before it, reaches it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_are_no_affine_map_of_their_input_are_refused(name):
    features, reason = REFUSED[name]
    with pytest.raises(NetworkError, match=reason):
        read(*features())


def test_each_run_of_an_activation_has_its_own_module_before_it():
    network = network_of(Shared(), "other")
    image = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    trace = Trace(network, image, ["features.act", "features.act_1"])
    assert torch.equal(
        present(trace.pre_activation("features.act")), network.prepared(image).flatten()
    )
    with pytest.raises(NetworkError, match=r"no nn\.Linear or nn\.Conv2d runs before it"):
        trace.linear_before("features.act")
    found = read_module_map(trace, "features.act_1")
    assert found.module == "features.first"
    assert (found.input_kind.name, found.input_kind.range) == ("features.act", (0, math.inf))


def test_a_layer_that_does_not_run_has_nothing_before_it():
    module = Shared()
    module.add_module("unused", nn.ReLU())
    trace = Trace(
        network_of(module, "other"), torch.zeros(1, 3, SIZE, SIZE).double(), ["features.unused"]
    )
    assert trace.pre_activation("features.unused") is None
    with pytest.raises(NetworkError, match="it does not run in a forward pass"):
        trace.linear_before("features.unused")


def test_a_matrix_that_the_network_does_not_follow_is_refused():
    _, _, found = read(*CASES["batch norm"]())
    found.connections.weight[0, -1, 0, 0] += 1e-3
    with pytest.raises(NetworkError, match=r"does not change as the weights of 'features\.conv'"):
        found.try_rows()
    with pytest.raises(NetworkError, match="does not change"):
        found.matrix_of(next(found.connections.blocks()))
    with pytest.raises(NetworkError, match="does not change"):
        found.rows(np.arange(len(found.pre_activation)))


def test_nothing_is_left_on_the_network():
    network, _, _ = read(*CASES["batch norm"]())
    for part in network.module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
