from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.affine import affine_layer
from patchcollide.errors import NetworkError
from patchcollide.networks import CollisionNetwork

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
    layer = affine_layer(network)
    shape = (7, network.channels, SIZE, SIZE)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network.pre_activation(images).numpy()
    found = images.reshape(7, -1).double().numpy() @ layer.matrix.T + layer.offset
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layer.matrix.shape == (network.units, network.channels * SIZE**2)


def test_the_map_is_the_layers_own_weights():
    network = dense(3)
    layer = affine_layer(network)
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
        assert affine_layer(network).matrix.shape == (5, SIZE**2)
        return
    with pytest.raises(NetworkError, match=rf"'act' of small is not affine.* is {culprit}"):
        affine_layer(network)


def test_a_step_between_modules_is_found_too():
    network = network_of(body=Functional, out=lambda: nn.Linear(4, 2), layer="body.act")
    with pytest.raises(NetworkError, match=r"is 'body' \(Functional\): sigmoid is not"):
        affine_layer(network)


def test_a_matrix_that_is_too_large_is_refused_before_it_is_made():
    with pytest.raises(NetworkError, match=r"5 units and its input 36 values: as a matrix 0\.0 GB"):
        affine_layer(dense(), max_bytes=8 * 5 * 36 - 1)
    assert affine_layer(dense(), max_bytes=8 * 5 * 36).matrix.size == 180
