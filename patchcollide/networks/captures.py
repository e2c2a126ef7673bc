"""What reaches several layers of a network in one forward pass."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.probes import noise_image
from patchcollide.shapes import Float, Tensor

Receiver = Callable[[str, Tensor], None]


@torch.no_grad()
def run_capturing(
    network: CollisionNetwork,
    images: Float[Tensor, "batch channels height width"],
    layers: Iterable[str],
    receive: Receiver,
) -> Float[Tensor, "batch classes"]:
    """Runs a network once, and hands over the pre-activations of layers as they come.

    So none need be kept: early layers of large networks have millions of units.

    Args:
        network: Its own layer does not matter.
        images: In ``[0, 1]``, of any size.
        layers: The own names of activations.
        receive: Called with a layer's name and its pre-activation, ``(batch, units)`` in channel,
            height, width order. That may be the network's own memory, which an activation in place
            overwrites next: what is kept of it must be a copy.

    Returns:
        The logits, without gradients.

    Raises:
        NetworkError: If a layer does not run exactly once, or sees no batch of images.
    """
    runs = Counter(dict.fromkeys(layers, 0))

    def count(layer: str, value: Tensor) -> None:
        runs[layer] += 1
        if value.shape[:1] != (len(images),):
            raise NetworkError(
                f"Layer '{layer}' of {network.name} should see a batch of {len(images)} first, but "
                f"sees {tuple(value.shape)}. Choose another layer."
            )
        receive(layer, value.flatten(1) if value.ndim > 1 else value[:, None])

    with contextlib.ExitStack() as hooks:
        for layer in runs:
            hooks.enter_context(_watched(network.module, layer, count))
        logits = network.logits_of_prepared(network.prepared(images))
    for layer, times in runs.items():
        if times != 1:
            raise NetworkError(
                f"Layer '{layer}' of {network.name} should run once in a forward pass, but ran "
                f"{times} times. Choose another layer."
            )
    return logits


@torch.no_grad()
def layers_run_once(network: CollisionNetwork) -> dict[str, int]:
    """Returns the usable layers that run once in a forward pass, and how many units they have."""
    units: dict[str, int] = {}
    runs: Counter[str] = Counter()

    def measure(layer: str, value: Tensor) -> None:
        runs[layer] += 1
        units[layer] = value.numel()

    names = network.usable_layers
    with contextlib.ExitStack() as hooks:
        for name in names:
            hooks.enter_context(_watched(network.module, name, measure))
        network.module(network.prepared(noise_image(network.channels, network.input_size)))
    return {name: units[name] for name in names if runs[name] == 1}


@contextlib.contextmanager
def _watched(module: nn.Module, layer: str, receive: Receiver) -> Iterator[None]:
    """Hands what goes into a layer's activation to ``receive``, as long as the block lasts."""

    def capture(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        (value,) = (*args, *kwargs.values())
        receive(layer, value)

    part = module.get_submodule(layer)
    with part.register_forward_pre_hook(capture, with_kwargs=True):
        yield
