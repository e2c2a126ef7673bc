"""A small network on images of 16 pixels, with two activations that work in place."""

from typing import Any

import torch
from torch import nn

from patchcollide.networks.network import CollisionNetwork

SIZE = 16
MEAN, SCALE = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def small_module(rng: torch.Generator, *last: nn.Module) -> nn.Sequential:
    """Returns its layers, and those that are to come behind them."""
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(5 * (SIZE // 4) ** 2, 9),
        nn.ReLU(inplace=True),
        nn.Linear(9, 4),
        *last,
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=rng)
    return module


def wrap(module: nn.Module, layer: str = "act", **options: Any) -> CollisionNetwork:
    defaults: dict[str, Any] = {"mean": MEAN, "scale": SCALE, "input_size": SIZE}
    return CollisionNetwork(module, name="small", layer=layer, **defaults | options)
