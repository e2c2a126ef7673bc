"""Functions that bend, between affine ones: where they lie over a range, or over a simplex.

A convex function of an affine one is convex, so over a simplex it lies below the affine function
with its values at the corners, and above each tangent; a concave one the other way round.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.shapes import Float64, Int64, Tensor

_POINTS = 17

NEVER = -1e300
"""What pads a window: no value of a network is anywhere near, so this never is the largest."""


class Lines(NamedTuple):
    """Lines below and above a function: ``slope * x + offset``, unit by unit.

    Over a simplex an offset is an affine function too, and so its values at the corners; or one
    for all of them.
    """

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


class Slopes(NamedTuple):
    """Slopes of lines below and above, ``rows *shape``."""

    below: Tensor
    above: Tensor


class Choice(NamedTuple):
    """Linear functions below and above the largest of some values.

    Attributes:
        taken: One at the value that is below, by itself.
        slopes: Of the values above.
        offset: What is added above, at each corner.
    """

    taken: Tensor
    slopes: Tensor
    offset: Tensor


class Bend(ABC):
    """A function of each value alone."""

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:
        """Returns the function's values."""

    @abstractmethod
    def lines(self, lower: Float64[Tensor, "corners *shape"], upper: Tensor) -> Lines:
        """Returns a line below and one above the function, over a simplex.

        Args:
            lower: Values at the corners of an affine function below what goes in.
            upper: Of one above.
        """

    def of_units(self, shape: torch.Size, units: Int64[Tensor, "units"]) -> "Bend":
        """Returns the function of some units alone, side by side.

        Args:
            shape: Of all of them.
            units: Their numbers.
        """
        del shape, units
        return self

    def tilted(self, lines: Lines, slopes: Slopes, lower: Tensor, upper: Tensor) -> Lines:
        """Returns lines of which those through a bend have other slopes; a smooth one has none.

        Args:
            lines: As :meth:`lines` gives them, of the same ends.
            slopes: From 0 to 1, for each of some rows; other lines stay.
            lower: As there.
            upper: As there.
        """
        del slopes, lower, upper
        return lines

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns affine functions below and above the function's values over simplices.

        Args:
            lower: Values at the corners of an affine function below what goes in.
            upper: Of one above.
        """
        lower, upper = lower.transpose(0, 1), upper.transpose(0, 1)
        lines = self.lines(lower, upper)
        rises = lines.lower_slope >= 0
        below = lines.lower_slope * torch.where(rises, lower, upper) + lines.lower_offset
        rises = lines.upper_slope >= 0
        above = lines.upper_slope * torch.where(rises, upper, lower) + lines.upper_offset
        size = torch.maximum(lower.abs(), upper.abs())
        slack = 4 * EPSILON
        below = below - slack * (lines.lower_slope.abs() * size + lines.lower_offset.abs())
        above = above + slack * (lines.upper_slope.abs() * size + lines.upper_offset.abs())
        return below.transpose(0, 1), above.transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Floor(Bend):
    """The larger of a value and a constant, as in a ReLU, which is convex."""

    at: float | Tensor

    def run(self, x: Tensor) -> Tensor:
        """Returns the function's values."""
        return torch.maximum(x, self._level(x))

    def of_units(self, shape: torch.Size, units: Int64[Tensor, "units"]) -> "Floor":
        """As there."""
        return Floor(_of_units(self.at, shape, units))

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As there; above are the values at the corners, below the better of two tangents."""
        level = self._level(upper)
        mostly_above = lower.mean(dim=1, keepdim=True) > level[:, :1]
        return torch.where(mostly_above, lower, level), torch.maximum(upper, level)

    def lines(self, lower: Float64[Tensor, "corners *shape"], upper: Tensor) -> Lines:
        """As there: along a chord above, and the better of two tangents below."""
        low, high = lower.amin(dim=0), upper.amax(dim=0)
        level = self._level(low)
        one, none = torch.ones_like(low), torch.zeros_like(low)
        chord = (torch.maximum(high, level) - torch.maximum(low, level)) / (high - low)
        bent = (low < level) & (level < high)
        chord = torch.where(bent, chord, (low >= level).to(low))
        rises = high - level > level - low
        flat = torch.where(low >= level, none, level)
        return Lines(
            lower_slope=torch.where(rises, one, none),
            lower_offset=torch.where(rises, none, level)[None],
            upper_slope=chord,
            upper_offset=torch.where(bent, self._above(chord, lower, upper), flat),
        )

    def _above(self, slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns what is to be added to a line at the corners, so that it lies above.

        What the function is beyond the line is convex, so largest at an end of where a value lies;
        of both ends it is a convex function of the point, and so below its values at the corners.
        """
        offset = torch.maximum(*(self.run(end) - slope * end for end in (lower, upper)))
        size = self._level(upper).abs() + torch.maximum(lower.abs(), upper.abs())
        return offset + 4 * EPSILON * size

    def tilted(self, lines: Lines, slopes: Slopes, lower: Tensor, upper: Tensor) -> Lines:
        """As there."""
        bent = lines.lower_slope != lines.upper_slope
        level = self._level(lines.lower_slope)
        below = torch.where(bent, slopes.below, lines.lower_slope)
        above = torch.where(bent, slopes.above, lines.upper_slope)
        raised = self._above(above[:, None], lower, upper)
        return Lines(
            below,
            torch.where(bent, (1 - below) * level, lines.lower_offset)[:, None],
            above,
            torch.where(bent, raised, lines.upper_offset),
        )

    def _level(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.at, dtype=x.dtype).expand_as(x)


@dataclass(frozen=True, eq=False)
class Cap(Bend):
    """The smaller of a value and a constant: a :class:`Floor` turned over."""

    at: float | Tensor

    @property
    def _floor(self) -> Floor:
        return Floor(-self.at)

    def run(self, x: Tensor) -> Tensor:
        """Returns the function's values."""
        return -self._floor.run(-x)

    def of_units(self, shape: torch.Size, units: Int64[Tensor, "units"]) -> "Cap":
        """As there."""
        return Cap(_of_units(self.at, shape, units))

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As there."""
        below, above = self._floor.over(-upper, -lower)
        return -above, -below

    def lines(self, lower: Float64[Tensor, "corners *shape"], upper: Tensor) -> Lines:
        """As there."""
        return self._turned(self._floor.lines(-upper, -lower))

    def tilted(self, lines: Lines, slopes: Slopes, lower: Tensor, upper: Tensor) -> Lines:
        """As there."""
        turned = Slopes(slopes.above, slopes.below)
        return self._turned(self._floor.tilted(self._turned(lines), turned, -upper, -lower))

    @staticmethod
    def _turned(lines: Lines) -> Lines:
        return Lines(lines.upper_slope, -lines.upper_offset, lines.lower_slope, -lines.lower_offset)


@dataclass(frozen=True, eq=False)
class Smooth(Bend):
    """A smooth function: lines along its chord, as far off as a grid and its curvature allow.

    Attributes:
        function: The function.
        curvature: Its second derivative is nowhere larger, in absolute value.
    """

    function: Callable[[Tensor], Tensor]
    curvature: float

    def run(self, x: Tensor) -> Tensor:
        """Returns the function's values."""
        return self.function(x)

    def lines(self, lower: Float64[Tensor, "corners *shape"], upper: Tensor) -> Lines:
        """As there, over the range of all corners."""
        low, high = lower.amin(dim=0), upper.amax(dim=0)
        width = high - low
        ends = self.function(low), self.function(high)
        # Of ranges too short for a chord any slope will do.
        slope = torch.where(width > 1e-9, (ends[1] - ends[0]) / width, torch.zeros_like(width))
        shares = torch.linspace(0, 1, _POINTS, dtype=low.dtype)
        points = low[..., None] + width[..., None] * shares
        gaps = self.function(points) - slope[..., None] * points
        size = gaps.abs().amax(dim=-1) + slope.abs() * torch.maximum(low.abs(), high.abs())
        between = self.curvature / 8 * (width / (_POINTS - 1)) ** 2 + 64 * EPSILON * (1 + size)
        below, above = gaps.amin(dim=-1) - between, gaps.amax(dim=-1) + between
        return Lines(slope, below[None], slope, above[None])


def _of_units(at: float | Tensor, shape: torch.Size, units: Tensor) -> float | Tensor:
    return at.expand(shape).flatten()[units][None] if isinstance(at, Tensor) else at


class Largest:
    """The largest of the values along the last dimension, some of which may be :data:`NEVER`."""

    @staticmethod
    def size(lower: Tensor, upper: Tensor) -> Tensor:
        """Returns how large values may be, of those that can be the largest at all."""
        return torch.where(upper > NEVER / 2, torch.maximum(lower.abs(), upper.abs()), 0.0)

    def run(self, x: Tensor) -> Tensor:
        """Returns the function's values."""
        return x.amax(dim=-1)

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns affine functions below and above over simplices, as :meth:`Bend.over` does."""
        best = lower.mean(dim=1, keepdim=True).argmax(dim=-1, keepdim=True)
        chosen = lower.gather(-1, best.expand(*lower.shape[:-1], 1))[..., 0]
        return chosen, upper.amax(dim=-1)

    def lines(self, lower: Float64[Tensor, "corners *shape values"], upper: Tensor) -> Choice:
        """Returns linear functions below and above over a simplex.

        Below is the value that is largest at the corners on average. Above, the others add at most
        what chords of their lead over it say; or nothing does, above the largest value there is.

        Args:
            lower: Values at the corners of affine functions below what goes in.
            upper: Of those above.
        """
        best = lower.mean(dim=0).argmax(dim=-1, keepdim=True)
        taken = torch.zeros_like(lower[0]).scatter_(-1, best, 1.0)
        place = best.expand(*lower.shape[:-1], 1)
        size = self.size(lower, upper)
        slack = 8 * EPSILON * (size + size.gather(-1, place))
        low = lower - upper.gather(-1, place) - slack
        high = upper - lower.gather(-1, place) + slack
        # The lead of the one that is taken is nothing, whatever its own range.
        low, high = (lead.masked_fill(taken.bool(), 0.0) for lead in (low, high))
        chords = Floor(0.0).lines(low, high)
        slopes = chords.upper_slope * (1 - taken)
        offset = (chords.upper_offset * (1 - taken)).sum(dim=-1)
        offset = offset + 16 * EPSILON * lower.shape[-1] * offset.abs()
        above = slopes + taken * (1 - slopes.sum(dim=-1, keepdim=True))
        # Rounding of the slopes times the values themselves.
        offset = offset + 16 * EPSILON * lower.shape[-1] * size.amax(dim=(0, -1))
        # Largest values are convex, so below their values at the corners.
        most = upper.amax(dim=-1)
        line = (above * ((lower + upper) / 2)).sum(dim=-1) + offset
        is_flat = line.mean(dim=0) > most.mean(dim=0)
        return Choice(
            taken,
            torch.where(is_flat[..., None], torch.zeros_like(above), above),
            torch.where(is_flat, most, offset),
        )
