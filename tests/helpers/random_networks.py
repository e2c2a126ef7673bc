"""Small random networks of every layer that can be bounded, and hulls of random images."""

import itertools
from typing import Any

import numpy as np
import torch
from torch import nn

from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.shapes import UInt8, ndarray

SIZE = 6
CLASSES = 3
_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.Hardtanh,
    nn.PReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.Hardsigmoid,
)
_POOLS = (
    lambda: nn.MaxPool2d(2),
    lambda: nn.AvgPool2d(2),
    lambda: nn.MaxPool2d(3, stride=2, padding=1),
    lambda: nn.AdaptiveAvgPool2d(3),
)


class Block(nn.Module):
    """Two ways side by side, added up or joined, in place or not."""

    def __init__(self, channels: int, joins: bool, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.activation, self.joins = activation, joins

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.activation(self.norm(self.conv(x)))
        return torch.cat([found, x], dim=1) if self.joins else found + x


def random_network(seed: int, *, scale: float = 2.0) -> CollisionNetwork:
    """Returns a network of random layers; its first activation, a ReLU, is the layer.

    Args:
        seed: Decides everything.
        scale: What weights of linear layers are multiplied by: the more, the more bends count.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = (
            nn.Sequential(*_conv_layers(rng)) if seed % 2 else nn.Sequential(*_linear_layers(rng))
        )
        with torch.no_grad():
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.Conv2d):
                    part.weight *= scale
                if isinstance(part, nn.BatchNorm2d):
                    for statistics in (part.running_mean, part.running_var):
                        assert statistics is not None
                        statistics.uniform_(0.5, 2)
                    part.weight.normal_()
                    part.bias.normal_()
    layer = next(name for name, part in module.named_modules() if type(part) is nn.ReLU)
    return CollisionNetwork(
        module, name="random", layer=layer, input_size=SIZE, mean=(0.3,), scale=(0.5,)
    )


def _activation(rng: np.random.Generator) -> nn.Module:
    return _ACTIVATIONS[int(rng.integers(len(_ACTIVATIONS)))]()


def _linear_layers(rng: np.random.Generator) -> list[nn.Module]:
    widths = rng.integers(4, 12, size=3).tolist()
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(SIZE**2, widths[0]), nn.ReLU()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), _activation(rng)]
    return [*layers, nn.Linear(widths[-1], CLASSES)]


def _conv_layers(rng: np.random.Generator) -> list[nn.Module]:
    joins = bool(rng.integers(2))
    layers: list[nn.Module] = [
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        Block(3, joins, _activation(rng)),
        _POOLS[int(rng.integers(len(_POOLS)))](),
        nn.Flatten(),
        nn.Linear(9 * (6 if joins else 3), 6),
        _activation(rng),
        nn.Linear(6, CLASSES),
    ]
    return layers


def silences_targets(network: CollisionNetwork, vertices: Any) -> bool:
    """Says whether the layer says nothing of the first vertex, so that it is no target."""
    return bool((target_of(network, vertices).pre_activation <= 0).all())


def random_hull(seed: int, num_vertices: int, spread: int = 60) -> UInt8[ndarray, "v 6 6 1"]:
    """Returns 8-bit images around a random one, some pixels of which are all equal."""
    rng = np.random.default_rng([seed, 1])
    middle = rng.integers(0, 256, (1, SIZE, SIZE, 1))
    moved = middle + rng.integers(-spread, spread + 1, (num_vertices, SIZE, SIZE, 1))
    moved[:, 0] = middle[:, 0]
    return np.asarray(moved.clip(0, 255).astype(np.uint8))


def target_of(network: CollisionNetwork, vertices: Any) -> Target:
    """Returns the first vertex as what the others are to collide with."""
    return Target.of_picture(network, vertices[0])
