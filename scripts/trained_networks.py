"""Networks for digits that benchmarks train once: the paper's, a small VGG and a residual one.

The functions without arguments also give modules to `network.name`, such as
`trained_networks:small_vgg`, where this folder is on Python's path.
"""

import argparse
import itertools
from collections import OrderedDict

import torch
from torch import nn

from patchcollide.images.digits import read_digits
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.training import train_module
from patchcollide.networks.models.weights import load_weights, read_state_dict, write_weights
from patchcollide.networks.network import CollisionNetwork

LAYERS = {
    "mlp": ("act1", "act2"),
    "lenet5": ("act1", "act2", "act3", "act4"),
    "vgg": ("act1", "act3", "act5"),
    "residual": ("act1", "act3"),
}


class Residual(nn.Module):
    """What a block computes, added to what goes into it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.act = nn.BatchNorm2d(channels), nn.ReLU()
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the sum."""
        found: torch.Tensor = x + self.norm2(self.second(self.act(self.norm1(self.first(x)))))
        return found


def small_vgg() -> nn.Module:
    """Returns five layers with max pooling between them, for grey images of 28 x 28 pixels."""
    layers: list[tuple[str, nn.Module]] = []
    channels = (1, 4, 4, 8, 8)
    for number, (before, after) in enumerate(itertools.pairwise(channels), 1):
        layers += [
            (f"conv{number}", nn.Conv2d(before, after, 3, padding=1)),
            (f"act{number}", nn.ReLU(inplace=True)),
        ]
        layers += [(f"pool{number}", nn.MaxPool2d(2))] if number % 2 == 0 else []
    layers += [
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(8 * 49, 64)),
        ("act5", nn.ReLU()),
        ("fc2", nn.Linear(64, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


def small_residual() -> nn.Module:
    """Returns two residual blocks with batch norms, for grey images of 28 x 28 pixels."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, stride=2, padding=1),
            act1=nn.ReLU(),
            block1=Residual(6),
            act2=nn.ReLU(),
            conv2=nn.Conv2d(6, 12, 3, stride=2, padding=1),
            act3=nn.ReLU(),
            block2=Residual(12),
            act4=nn.ReLU(),
            pool=nn.AvgPool2d(3, stride=4),
            flatten=nn.Flatten(),
            fc=nn.Linear(12 * 4, 10),
        )
    )


def network_of(name: str, arguments: argparse.Namespace) -> CollisionNetwork:
    """Returns a trained network, by training it once."""
    path = arguments.out / f"{name}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(arguments.seed)
        own = {"vgg": small_vgg, "residual": small_residual}
        module = own[name]() if name in own else build_digit_network(name, "relu", arguments.seed)
    if path.exists():
        load_weights(module, read_state_dict(path), str(path))
    else:
        digits = [read_digits(arguments.data, split) for split in ("train", "test")]
        trained = train_module(module, *digits, epochs=arguments.epochs, seed=arguments.seed)
        about = {"network": name, "test_accuracy": f"{trained.test_accuracy:.4f}"}
        write_weights(path, trained.module, about)
    return CollisionNetwork(
        module,
        name=name,
        layer=LAYERS[name][0],
        input_size=28,
        mean=(0.0,),
        scale=(1.0,),
        class_names=[str(digit) for digit in range(10)],
    )
