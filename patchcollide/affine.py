"""A layer's pre-activation as an affine function of the image, where it is one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks import CollisionNetwork
from patchcollide.shapes import Float64, Tensor, ndarray

MAX_BYTES = 2 << 30
_BATCH_SIZE = 256
# Of the largest value: float64 takes a millionth of it, and what is not affine far more.
_SAME_SHARE = 1e-9


@dataclass(frozen=True)
class AffineLayer:
    """What a layer makes of an image: ``matrix @ image + offset``.

    Attributes:
        matrix: One row a unit, over the image's values in ``[0, 1]`` in channel, height, width
            order.
        offset: Of each unit.
    """

    matrix: Float64[ndarray, "units values"]
    offset: Float64[ndarray, "units"]


def affine_layer(network: CollisionNetwork, max_bytes: int = MAX_BYTES) -> AffineLayer:
    """Reads a network's layer as an affine function, by what it makes of each single value.

    Args:
        network: The network and its layer.
        max_bytes: How large the matrix may be.

    Raises:
        NetworkError: If the layer is not affine in the image, or its matrix is too large.
    """
    num_values = network.channels * network.input_size**2
    needed = 8 * num_values * network.units
    if needed > max_bytes:
        raise NetworkError(
            f"Layer '{network.layer}' of {network.name} has {network.units} units and its input "
            f"{num_values} values: as a matrix {needed / 2**30:.1f} GB, more than the "
            f"{max_bytes / 2**30:.1f} GB that exact polytopes may take. Choose a smaller layer or "
            "network, or search with `patchcollide collide`."
        )
    double = network.in_float64()
    _require_affine(double)
    shape = (network.channels, network.input_size, network.input_size)
    with torch.no_grad():
        offset = double.pre_activation(torch.zeros(1, *shape, dtype=torch.float64))[0]
        columns = [
            double.pre_activation(batch.reshape(-1, *shape)) - offset
            for batch in _unit_images(num_values)
        ]
    matrix = torch.cat(columns).T.contiguous()
    return AffineLayer(matrix.cpu().numpy(), offset.cpu().numpy())


def _unit_images(num_values: int) -> Iterator[Tensor]:
    """Yields the rows of the identity, a batch at a time."""
    for first in range(0, num_values, _BATCH_SIZE):
        count = min(_BATCH_SIZE, num_values - first)
        batch = torch.zeros(count, num_values, dtype=torch.float64)
        batch[torch.arange(count), first + torch.arange(count)] = 1
        yield batch


def _require_affine(double: CollisionNetwork) -> None:
    """Raises :class:`NetworkError` if a point between two images is not between what they give."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, double.channels, double.input_size, double.input_size)
    ends = torch.rand(shape, generator=generator, dtype=torch.float64)
    images = torch.cat([ends, ends.mean(dim=0, keepdim=True)])
    culprits: list[str] = []

    def judge(name: str, part: nn.Module, output: Any) -> None:
        # At once: a later step may overwrite it in place.
        if not _is_affine(output):
            culprits.append(f"'{name}' ({type(part).__name__})")

    hooks = [
        part.register_forward_hook(lambda part, _, output, name=name: judge(name, part, output))
        for name, part in double.module.named_modules()
        if not list(part.children())
    ]
    try:
        with torch.no_grad():
            z = double.pre_activation(images)
    finally:
        for hook in hooks:
            hook.remove()
    if _is_affine(z):
        return
    culprit = culprits[0] if culprits else "no module, but something between them"
    raise NetworkError(
        f"Layer '{double.layer}' of {double.name} is not affine in the image: the first step "
        f"before it that is not is {culprit}. Exact polytopes need a layer before that; for this "
        "one search with `patchcollide collide`."
    )


def _is_affine(values: Any) -> bool:
    if not isinstance(values, torch.Tensor) or len(values) != 3:
        return True
    middle = (values[0] + values[1]) / 2
    difference = (values[2] - middle).abs().amax()
    return bool(difference <= _SAME_SHARE * values.abs().amax().clamp(min=1e-300))
