"""Values along a straight line, their derivative, and how far both hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from patchcollide.errors import NetworkError
from patchcollide.shapes import Tensor


class Bounds:
    """How far from each of some points a network stays on one linear piece.

    Args:
        points: How many.
        device: Of the values.
        may_bend: Whether there may be breakpoints at all. If not, what does not change along the
            line may go through any function, before it meets what does.

    Attributes:
        may_bend: See above.
        points: How many points there are.
        are_mixed: Whether a breakpoint was met of which it is not known whose it is: then the
            distances say nothing, and each point has to go through the network alone.
    """

    def __init__(self, points: int, device: torch.device, may_bend: bool = True) -> None:
        self.may_bend, self.points, self.are_mixed = may_bend, points, False
        # Of units by their inverse distances, the largest ahead and the smallest behind.
        self._high = torch.zeros(points, dtype=torch.float64, device=device)
        self._low = self._high
        # Of those that are on their breakpoints, by their distances.
        self._ahead = self._behind = torch.full_like(self._high, torch.inf)

    @property
    def forward(self) -> Tensor:
        """The distance along the line to the next breakpoint, for each point."""
        return _nearest(self._ahead, self._high)

    @property
    def backward(self) -> Tensor:
        """The distance to the one before."""
        return _nearest(self._behind, -self._low)

    @classmethod
    def joined(cls, all_bounds: Sequence["Bounds"]) -> "Bounds":
        """Returns the bounds of several points, each found alone."""
        found = cls(len(all_bounds), all_bounds[0]._high.device)
        found._ahead = torch.cat([bounds.forward for bounds in all_bounds])
        found._behind = torch.cat([bounds.backward for bounds in all_bounds])
        return found

    def narrow(
        self, speed: Tensor, value: Tensor, corner: float | Tensor, in_order: bool = True
    ) -> bool:
        """Takes note of the breakpoints of units.

        Args:
            speed: How fast each unit's value rises along the line.
            value: Of each unit.
            corner: The value at which it bends.
            in_order: Whether the units of a point follow those of the point before.

        Returns:
            Whether a unit is on its breakpoint and leaves it. It counts as one behind: a piece
            begins with its breakpoint.

        Raises:
            NetworkError: If there may be none.
        """
        if not self.may_bend:
            raise NetworkError("it bends")
        self.are_mixed |= not in_order
        if self.are_mixed or not speed.numel():
            return False
        distance = corner - value
        # In place: fresh memory for each large tensor costs as much as the division.
        ratio = torch.div(speed, distance, out=distance)
        low, high = ratio.reshape(self.points, -1).aminmax(dim=1)
        # The sum of what is not negative is finite where all of it is.
        if not math.isfinite((high - low).sum()):
            return self._narrow_on_breakpoints(speed, corner - value)
        self._high = torch.maximum(self._high, high)
        self._low = torch.minimum(self._low, low)
        return False

    def _narrow_on_breakpoints(self, speed: Tensor, distance: Tensor) -> bool:
        # A unit that does not move has no breakpoint anywhere: NaN, or infinitely far.
        reach = (distance / speed).reshape(self.points, -1)
        ahead = torch.where(reach > 0, reach, torch.inf).amin(dim=1)
        behind = torch.where(reach <= 0, -reach, torch.inf).amin(dim=1)
        self._ahead = torch.minimum(self._ahead, ahead)
        self._behind = torch.minimum(self._behind, behind)
        return bool((behind == 0).any())


def _nearest(distances: Tensor, rates: Tensor) -> Tensor:
    """Returns the smaller of distances and of what inverse distances say; 0 says nothing."""
    return torch.minimum(distances, torch.where(rates > 0, rates.reciprocal(), torch.inf))


@dataclass(frozen=True, eq=False)
class Line:
    """Values at points of a line, and their derivative along it.

    Attributes:
        value: Of all points.
        slope: Laid out in memory like ``value``, so that the same views of both can be had.
        bounds: Where the next breakpoints are, for all that was computed of the same points.
        in_order: Whether the values of a point, read row by row, follow those of the point before.
            Where they may not, nobody can say whose breakpoint a unit's is.
    """

    value: Tensor
    slope: Tensor
    bounds: Bounds
    in_order: bool = True

    @property
    def leads(self) -> bool:
        """Whether the first dimension counts points, or equal parts of points."""
        is_split = self.value.ndim > 0 and self.value.shape[0] % self.bounds.points == 0
        return self.bounds.points == 1 or (self.in_order and is_split)

    def ordered_in(self, shape: torch.Size) -> bool:
        """Returns whether a function of each value, broadcast to a shape, is in order."""
        kept = self.value.shape == shape or (
            self.leads and self.value.ndim == len(shape) and self.value.shape[:1] == shape[:1]
        )
        return self.bounds.points == 1 or (self.in_order and kept)

    def broadcast(self, shape: torch.Size) -> "Line":
        """Returns the line in a larger shape."""
        if self.value.shape == shape:
            return self
        return self.to(self.value.expand(shape), self.slope.expand(shape), self.ordered_in(shape))

    def to(self, value: Tensor, slope: Tensor, in_order: bool | None = None) -> "Line":
        """Returns other values of the same points; in the same order if that is not said."""
        return Line(value, slope, self.bounds, self.in_order if in_order is None else in_order)
