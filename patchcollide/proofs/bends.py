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
from patchcollide.shapes import Float64, Tensor

_POINTS = 17

NEVER = -1e300
"""What pads a window: no value of a network is anywhere near, so this never is the largest."""


class Lines(NamedTuple):
    """Lines below and above a function over a range: ``slope * x + offset``, unit by unit."""

    lower_slope: Tensor
    lower_offset: Tensor
    upper_slope: Tensor
    upper_offset: Tensor


class Choice(NamedTuple):
    """Linear functions below and above the largest of some values.

    Attributes:
        taken: One at the value that is below, by itself.
        slopes: Of the values above.
        offset: What is added above.
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
    def lines(self, low: Tensor, high: Tensor) -> Lines:
        """Returns a line below and one above the function where values lie in a range."""

    def tilted(self, lines: Lines, slope: Tensor) -> Lines:
        """Returns lines of which those through a bend have other slopes; a smooth one has none.

        Args:
            lines: As :meth:`lines` gives them.
            slope: From 0 to 1; other lines stay.
        """
        del slope
        return lines

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns affine functions below and above the function's values over simplices.

        Args:
            lower: Values at the corners of an affine function below what goes in.
            upper: Of one above.
        """
        lines = self.lines(lower.amin(1, keepdim=True), upper.amax(1, keepdim=True))
        rises = lines.lower_slope >= 0
        below = lines.lower_slope * torch.where(rises, lower, upper) + lines.lower_offset
        rises = lines.upper_slope >= 0
        above = lines.upper_slope * torch.where(rises, upper, lower) + lines.upper_offset
        size = torch.maximum(lower.abs(), upper.abs())
        slack = 4 * EPSILON
        return (
            below - slack * (lines.lower_slope.abs() * size + lines.lower_offset.abs()),
            above + slack * (lines.upper_slope.abs() * size + lines.upper_offset.abs()),
        )


@dataclass(frozen=True, eq=False)
class Floor(Bend):
    """The larger of a value and a constant, as in a ReLU, which is convex."""

    at: float | Tensor

    def run(self, x: Tensor) -> Tensor:
        """Returns the function's values."""
        return torch.maximum(x, self._level(x))

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As there; above are the values at the corners, below the better of two tangents."""
        level = self._level(upper)
        mostly_above = lower.mean(dim=1, keepdim=True) > level[:, :1]
        return torch.where(mostly_above, lower, level), torch.maximum(upper, level)

    def lines(self, low: Tensor, high: Tensor) -> Lines:
        """As there: a chord above, and the better of two tangents below."""
        level = self._level(low)
        one, none = torch.ones_like(low), torch.zeros_like(low)
        chord = (torch.maximum(high, level) - torch.maximum(low, level)) / (high - low)
        bent = (low < level) & (level < high)
        chord = torch.where(bent, chord, (low >= level).to(low))
        rises = high - level > level - low
        # Beside rounding the chord meets the function at both ends.
        ends = [self.run(end) - chord * end for end in (low, high)]
        size = level.abs() + torch.maximum(low.abs(), high.abs())
        offset = torch.maximum(*ends) + 4 * EPSILON * size
        flat = torch.where(low >= level, none, level)
        return Lines(
            lower_slope=torch.where(rises, one, none),
            lower_offset=torch.where(rises, none, level),
            upper_slope=chord,
            upper_offset=torch.where(bent, offset, flat),
        )

    def tilted(self, lines: Lines, slope: Tensor) -> Lines:
        """As there: the lines below."""
        bent = lines.lower_slope != lines.upper_slope
        level = self._level(lines.lower_offset)
        return lines._replace(
            lower_slope=torch.where(bent, slope, lines.lower_slope),
            lower_offset=torch.where(bent, (1 - slope) * level, lines.lower_offset),
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

    def over(
        self, lower: Float64[Tensor, "cells corners *shape"], upper: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As there."""
        below, above = self._floor.over(-upper, -lower)
        return -above, -below

    def lines(self, low: Tensor, high: Tensor) -> Lines:
        """As there."""
        return self._turned(self._floor.lines(-high, -low))

    def tilted(self, lines: Lines, slope: Tensor) -> Lines:
        """As there: the lines above."""
        return self._turned(self._floor.tilted(self._turned(lines), slope))

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

    def lines(self, low: Tensor, high: Tensor) -> Lines:
        """As there."""
        width = high - low
        ends = self.function(low), self.function(high)
        # Of ranges too short for a chord any slope will do.
        slope = torch.where(width > 1e-9, (ends[1] - ends[0]) / width, torch.zeros_like(width))
        shares = torch.linspace(0, 1, _POINTS, dtype=low.dtype)
        points = low[..., None] + width[..., None] * shares
        gaps = self.function(points) - slope[..., None] * points
        size = gaps.abs().amax(dim=-1) + slope.abs() * torch.maximum(low.abs(), high.abs())
        between = self.curvature / 8 * (width / (_POINTS - 1)) ** 2 + 64 * EPSILON * (1 + size)
        return Lines(slope, gaps.amin(dim=-1) - between, slope, gaps.amax(dim=-1) + between)


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
        low = (lower - upper.gather(-1, place) - slack).amin(dim=0)
        high = (upper - lower.gather(-1, place) + slack).amax(dim=0)
        # The lead of the one that is taken is nothing, whatever its own range.
        high = high.masked_fill(taken.bool(), 0.0)
        chords = Floor(0.0).lines(low, high)
        slopes = chords.upper_slope * (1 - taken)
        offset = (chords.upper_offset * (1 - taken)).sum(dim=-1)
        offset = offset + 16 * EPSILON * lower.shape[-1] * offset.abs()
        above = slopes + taken * (1 - slopes.sum(dim=-1, keepdim=True))
        # Rounding of the slopes times the values themselves.
        offset = offset + 16 * EPSILON * lower.shape[-1] * size.amax(dim=(0, -1))
        middle = ((lower + upper) / 2).mean(dim=0)
        most = upper.amax(dim=(0, -1))
        is_flat = (above * middle).sum(dim=-1) + offset > most
        return Choice(
            taken,
            torch.where(is_flat[..., None], torch.zeros_like(above), above),
            torch.where(is_flat, most, offset),
        )
