"""A network for digits that passes everything through two numbers, so that it can be drawn."""

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from patchcollide.networks.digit_networks import CLASS_NAMES, INPUT_SIZE

NUM_UNITS = 8
BOTTLENECK = "norm"
LAYER = "fc3"

_STEEPNESS = 3.0


def build_planar_network(seed: int) -> nn.Module:
    """Returns 784-64-2-8-10 with ReLUs but at the bottleneck, untrained.

    The two numbers are normalised over the batch: about 1 in size. The lines of the eight units
    that see them start around the unit circle, blind within it, so that some digits can come to
    activate none; as PyTorch draws them, the lines pass near the origin, and every digit activates
    some. All else is as PyTorch draws it.

    Args:
        seed: Of the weights; torch's global generators are left as they are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc1=nn.Linear(INPUT_SIZE**2, 64),
                act1=nn.ReLU(),
                fc2=nn.Linear(64, 2),
                norm=nn.BatchNorm1d(2, affine=False),
                fc3=nn.Linear(2, NUM_UNITS),
                act3=nn.ReLU(),
                fc4=nn.Linear(NUM_UNITS, len(CLASS_NAMES)),
            )
        )
        angles = 2 * math.pi * (torch.arange(NUM_UNITS) + torch.rand(())) / NUM_UNITS
    layer: Any = module.get_submodule(LAYER)
    with torch.no_grad():
        layer.weight.copy_(_STEEPNESS * torch.stack([angles.cos(), angles.sin()], dim=1))
        layer.bias.fill_(-_STEEPNESS)
    return module
