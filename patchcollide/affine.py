"""A layer's pre-activation as an affine function of the image, where it is one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.networks import CollisionNetwork
from patchcollide.piecewise import Bounds, Line
from patchcollide.rays import straight_line
from patchcollide.shapes import Float64, Tensor, ndarray
from patchcollide.torch_modes import proof_modes

MAX_BYTES = 2 << 30
_BATCH_SIZE = 256
# Of the largest value: float64 takes a millionth of it, and what is not affine far more.
_SAME_SHARE = 1e-9


@dataclass(frozen=True, eq=False)
class AffineLayer:
    """What a layer makes of an image: ``matrix @ image + offset``.

    Attributes:
        matrix: One row a unit, over the image's values in ``[0, 1]`` in channel, height, width
            order.
        offset: Of each unit.
        network: In float64, to compare with.
    """

    matrix: Float64[ndarray, "units values"]
    offset: Float64[ndarray, "units"]
    network: CollisionNetwork

    @proof_modes()
    def require_right(self, images: Float64[ndarray, "images values"], what: str) -> None:
        """Compares with the network itself.

        Args:
            images: Flat; they may leave ``[0, 1]``.
            what: Of what kind, in the plural, for errors.

        Raises:
            NetworkError: If the network gives something else.
        """
        network = self.network
        shape = (-1, network.channels, network.input_size, network.input_size)
        with torch.no_grad():
            found = network.pre_activation(torch.from_numpy(images).reshape(shape)).cpu().numpy()
        products = images @ self.matrix.T
        size = max(abs(products).max(initial=0.0), abs(self.offset).max(initial=0.0))
        gap = abs(found - products - self.offset).max(initial=0.0)
        if not gap <= _SAME_SHARE * size:
            raise NetworkError(
                f"Layer '{network.layer}' of {network.name} was read as an affine function of the "
                f"image, but at {what} the network differs from it by up to {gap:.3g}, where "
                f"values reach {size:.3g}. Look for what makes it compute otherwise from one pass "
                "to the next; search with `patchcollide collide` meanwhile."
            )


@proof_modes()
def affine_layer(network: CollisionNetwork, max_bytes: int = MAX_BYTES) -> AffineLayer:
    """Reads a network's layer as an affine function, by what it makes of each single value.

    That it is one is told from what the network computes, operator by operator, and not from its
    values: nothing on the way from the image may bend.

    Args:
        network: The network and its layer.
        max_bytes: How large the matrix may be.

    Raises:
        NetworkError: If the layer is not affine in the image, or not known to be, or its matrix is
            too large.
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
    matrix = np.empty((network.units, num_values))
    offset = np.empty(network.units)
    for first, batch in _unit_images(num_values):
        line = _line_to_layer(double, batch)
        matrix[:, first : first + len(batch)] = line.slope.T.cpu().numpy()
        offset[:] = line.value[0].cpu().numpy()
    return AffineLayer(matrix, offset, double)


def _unit_images(num_values: int) -> Iterator[tuple[int, Tensor]]:
    """Yields the rows of the identity, a batch at a time, and the first one's number."""
    for first in range(0, num_values, _BATCH_SIZE):
        count = min(_BATCH_SIZE, num_values - first)
        batch = torch.zeros(count, num_values, dtype=torch.float64)
        batch[torch.arange(count), first + torch.arange(count)] = 1
        yield first, batch


def _line_to_layer(double: CollisionNetwork, directions: Float64[Tensor, "images values"]) -> Line:
    """Returns the layer's values at a black image, and their slopes along directions from it."""
    shape = (-1, double.channels, double.input_size, double.input_size)
    slope = directions.reshape(shape).to(double.device)
    line = Line(torch.zeros_like(slope), slope, Bounds(len(slope), slope.device, may_bend=False))
    try:
        found = straight_line(double.pre_activation, double.module, line)
    except NetworkError as error:
        raise NetworkError(
            f"Layer '{double.layer}' of {double.name} is not affine in the image: the first step "
            f"before it that is not is {error}. Exact polytopes need a layer before that; for this "
            "one search with `patchcollide collide`."
        ) from error
    if isinstance(found, Line):
        return found
    return line.to(found, torch.zeros_like(found))
