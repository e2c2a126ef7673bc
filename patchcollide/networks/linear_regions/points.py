"""Points of a straight line, sent through a network together, or one by one where they must be."""

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.lines import Bounds, Line
from patchcollide.networks.linear_regions.rays import straight_line
from patchcollide.shapes import Float64, Tensor

WALKABLE = (
    "Networks of convolutions, linear layers, batch norm, ReLU, ReLU6, Hardtanh, LeakyReLU, PReLU, "
    "clamp, abs, maximum, max and average pooling, sums and views"
)
"""What a network may be made of, in words."""


def trace(
    module: nn.Module, value: Float64[Tensor, "points ..."], slope: Float64[Tensor, "..."]
) -> Line:
    """Sends points of a line through a network, in the modes that the caller has set.

    Args:
        module: A network in float64, in evaluation mode, of what :data:`WALKABLE` names.
        value: The points.
        slope: The line's direction, of the shape of one point.

    Returns:
        The output, with the distances to the breakpoints around each point. It is not in order if
        the points had to go through the network one by one.

    Raises:
        NetworkError: If a part of the network is not piecewise linear, or not known to be.
    """
    slopes = slope.expand_as(value)
    together = _traced(module, value, slopes)
    if together.leads and not together.bounds.are_mixed:
        return together
    return _joined([_traced(module, value[[row]], slopes[[row]]) for row in range(len(value))])


def _traced(module: nn.Module, value: Tensor, slope: Tensor) -> Line:
    bounds = Bounds(len(value), value.device)
    try:
        found = straight_line(module, module, Line(value, slope, bounds))
    except NetworkError as error:
        raise NetworkError(
            f"A walk needs a piecewise linear network, but in {error}. {WALKABLE} can be walked."
        ) from error
    if isinstance(found, Line) and found.value.shape[:1] == (len(value),):
        return found
    if isinstance(found, Tensor) and found.shape[:1] == (len(value),):
        return Line(found, torch.zeros_like(found), bounds)
    what = (
        "logits of another batch"
        if isinstance(found, Line | Tensor)
        else f"a {type(found).__name__}"
    )
    raise NetworkError(
        "A walk needs a network that returns logits, a row for each input, but "
        f"{type(module).__name__} returned {what}."
    )


def _joined(lines: list[Line]) -> Line:
    """Returns lines of a point each as one of several points."""
    value, slope = (torch.cat([getattr(x, part) for x in lines]) for part in ("value", "slope"))
    bounds = Bounds.joined([line.bounds for line in lines])
    return Line(value, slope, bounds, in_order=False)
