from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.affine import read_image_map
from patchcollide.networks.network import CollisionNetwork

SIZE = 6


def network_of(layer="act", *, channels=1, **parts):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(OrderedDict((name, make()) for name, make in parts.items()))
    options = {"name": "small", "input_size": SIZE, "layer": layer}
    half = (0.5,) * channels
    return CollisionNetwork(module, mean=half, scale=half, **options)


def dense(channels=1, units=5):
    values = channels * SIZE**2
    return network_of(
        channels=channels,
        flatten=nn.Flatten,
        fc=lambda: nn.Linear(values, units),
        act=lambda: nn.ReLU(inplace=True),
        out=lambda: nn.Linear(units, 3),
    )


def convolutional(channels):
    return network_of(
        channels=channels,
        conv=lambda: nn.Conv2d(channels, 4, 3, stride=2, padding=1),
        norm=lambda: nn.BatchNorm2d(4),
        act=nn.ReLU,
        flatten=nn.Flatten,
        out=lambda: nn.Linear(4 * 9, 3),
    )


@pytest.mark.parametrize("network", [dense(), dense(3), dense(1, 1), convolutional(1)])
def test_the_map_gives_the_pre_activation(network):
    layer = read_image_map(network)
    shape = (7, network.channels, SIZE, SIZE)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network.pre_activation(images).numpy()
    found = images.reshape(7, -1).double().numpy() @ layer.matrix.T + layer.offset
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layer.matrix.shape == (network.units, network.channels * SIZE**2)


def test_the_map_is_the_layers_own_weights():
    network = dense(3)
    layer = read_image_map(network)
    weight = network.module.fc.weight.double().numpy()
    bias = network.module.fc.bias.double().numpy()
    # Images are normalised first: (x - 0.5) / 0.5.
    np.testing.assert_allclose(layer.matrix, 2 * weight, atol=1e-12)
    np.testing.assert_allclose(layer.offset, bias - weight.sum(axis=1), atol=1e-12)


class Squared(nn.Module):
    def forward(self, x):
        return x * x


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(SIZE**2, 4)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.fc(x.flatten(1).sigmoid()))


@pytest.mark.parametrize(
    ("parts", "culprit"),
    [
        ({"first": nn.ReLU}, r"'first' \(ReLU\)"),
        ({"first": lambda: nn.ReLU(inplace=True)}, r"'first' \(ReLU\)"),
        ({"pool": lambda: nn.MaxPool2d(1)}, None),
        ({"pool": lambda: nn.MaxPool2d(3, 1, 1)}, r"'pool' \(MaxPool2d\)"),
        ({"square": Squared, "late": nn.ReLU}, r"'square' \(Squared\)"),
    ],
)
def test_the_first_step_that_is_not_affine_is_named(parts, culprit):
    network = network_of(
        **parts,
        flatten=nn.Flatten,
        fc=lambda: nn.Linear(SIZE**2, 5),
        act=nn.ReLU,
        out=lambda: nn.Linear(5, 2),
    )
    if culprit is None:
        assert read_image_map(network).matrix.shape == (5, SIZE**2)
        return
    with pytest.raises(NetworkError, match=rf"'act' of small is not affine.* is {culprit}"):
        read_image_map(network)


def test_a_step_between_modules_is_found_too():
    network = network_of(body=Functional, out=lambda: nn.Linear(4, 2), layer="body.act")
    with pytest.raises(NetworkError, match=r"is 'body' \(Functional\): sigmoid is not"):
        read_image_map(network)


def test_a_matrix_that_is_too_large_is_refused_before_it_is_made():
    with pytest.raises(NetworkError, match=r"5 units and its input 36 values: as a matrix 0\.0 GB"):
        read_image_map(dense(), max_bytes=8 * 5 * 36 - 1)
    assert read_image_map(dense(), max_bytes=8 * 5 * 36).matrix.size == 180


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def behind(function, values=SIZE**2):
    """A linear layer behind a function of flat images."""
    return network_of(
        flatten=nn.Flatten,
        step=lambda: Function(function),
        fc=lambda: nn.Linear(values, 5),
        act=nn.ReLU,
        out=lambda: nn.Linear(5, 2),
    )


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        # None of these bends at any image that is likely to be drawn, or near one.
        (lambda x: (x + 1.001).relu(), "it bends"),
        (lambda x: x.clamp(max=1e6), "it bends"),
        (lambda x: x - (x.sum(1, keepdim=True) - 1e3).relu_(), "it bends"),
        (lambda x: torch.maximum(x, x - 1e-3), "it bends"),
        (lambda x: x + 1e-12 * x.square(), "pow is not"),
        (lambda x: x + 1e-12 * x * x.mean(1, keepdim=True), "mul is not"),
        (lambda x: x + 1e-12 * x.exp(), "exp is not"),
        (lambda x: x if x.sum() < 1e6 else -x, "lt is not"),
        (lambda x: x.float().double(), "rounds"),
    ],
)
def test_what_bends_where_no_image_is_likely_to_be_is_refused(function, reason):
    with pytest.raises(NetworkError, match=rf"first step .* is 'step' \(Function\): .*{reason}"):
        read_image_map(behind(lambda x: function(x) if x.dtype == torch.float64 else x))


def test_the_second_relu_of_a_trained_network_is_refused():
    # Trained units are switched by images that are mostly dark, and by no image of noise.
    network = network_of(
        layer="second",
        flatten=nn.Flatten,
        fc=lambda: nn.Linear(SIZE**2, 8),
        first=nn.ReLU,
        next=lambda: nn.Linear(8, 5),
        second=nn.ReLU,
        out=lambda: nn.Linear(5, 3),
    )
    with torch.no_grad():
        network.module.fc.weight.abs_()
        network.module.fc.bias.fill_(1.9)
    noise = torch.rand(500, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert (network.at_layer("first").pre_activation(noise) > 0).all()
        assert (network.at_layer("first").pre_activation(torch.zeros(1, 1, SIZE, SIZE)) < 0).all()
    with pytest.raises(NetworkError, match=r"'second' of small is not affine.*'first' \(ReLU\)"):
        read_image_map(network)
    assert read_image_map(network.at_layer("first")).matrix.shape == (8, SIZE**2)


AFFINE = {
    "fourier": lambda x: torch.fft.irfft(torch.fft.rfft(x)[:, 2:].conj()),
    "transposed": lambda x: x.T.flip(0).T.roll(1, 1),
    "in place": lambda x: x.clone().mul_(3).add_(x.flip(1), alpha=-2),
    "images": lambda x: (
        torch.nn.functional.interpolate(x.view(-1, 1, SIZE, SIZE), scale_factor=2, mode="bilinear")
        .mT[..., ::2, 1::2]
        .flatten(1)
    ),
    "cumulated": lambda x: x.cumsum(1) / 7 - x.mean(1, keepdim=True),
    "one window": lambda x: torch.nn.functional.max_pool1d(x, 1),
}


@pytest.mark.parametrize("name", AFFINE)
def test_any_affine_functions_may_come_before(name):
    function = AFFINE[name]
    with torch.no_grad():
        values = function(torch.zeros(1, SIZE**2)).shape[1]
    network = behind(function, values)
    layer = read_image_map(network)
    images = torch.rand((9, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network.in_float64().pre_activation(images).numpy()
    found = images.flatten(1).double().numpy() @ layer.matrix.T + layer.offset
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_large_offsets_take_no_digits_from_the_matrix():
    network = dense()
    plain = read_image_map(network).matrix
    with torch.no_grad():
        network.module.fc.bias += 1e8
    np.testing.assert_array_equal(read_image_map(network).matrix, plain)


def test_the_network_is_compared_with_what_was_read():
    network = dense()
    layer = read_image_map(network)
    images = np.random.default_rng(0).random((4, SIZE**2))
    layer.require_right(images, "vertices")
    layer.matrix[2, 3] += 1e-6
    message = (
        r"Layer 'act' of small was read as an affine function of the image, but at vertices the "
        r"network differs from it by up to \d\.?\d*e-07, where values reach"
    )
    with pytest.raises(NetworkError, match=message):
        layer.require_right(images, "vertices")


def test_a_network_that_drifts_from_pass_to_pass_is_found_out():
    drift = iter(range(1, 1000))
    layer = read_image_map(behind(lambda x: x * (1 + 1e-6 * next(drift))))
    with pytest.raises(NetworkError, match=r"was read as an affine function .* at the target the"):
        layer.require_right(np.ones((1, SIZE**2)), "the target")


def test_the_callers_modes_change_no_matrix():
    network = dense()
    plain = read_image_map(network)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found = read_image_map(network)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found.matrix, plain.matrix)
    np.testing.assert_array_equal(found.offset, plain.offset)
