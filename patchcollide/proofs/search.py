"""Branch and bound over the weights' simplex: the smallest value of something, from below.

Simplices with the lowest bounds are cut in two and bounded again, until all bounds are high enough
or the time is over; or those with the highest, where only some can be brought so far. What is known
is kept, so that a search can go on where another one ended.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from patchcollide.errors import InterruptedWorkError
from patchcollide.progress import StopRequest, track
from patchcollide.proofs.simplices import halved
from patchcollide.shapes import Float64, Int64, Tensor

DEEPEST = 40
"""Simplices that were cut so often are not cut again: their weights would not be exact."""

ABOVE_ZERO = 5e-324
"""The smallest number above 0, as a goal: a margin of 0 is none."""

Clock = Callable[[], float]
"""Gives seconds since some moment."""

Bound = Callable[[Float64[Tensor, "cells corners vertices"]], Float64[Tensor, "cells"]]
"""Gives what no point of a simplex is below, one number for each."""


@dataclass(eq=False)
class Cells:
    """The simplices that a search has cut the whole into, and what is known of each.

    Attributes:
        weights: At the corners.
        bounds: No point is below.
        depths: How often each was cut out of the whole.
        bounded: How many simplices were bounded so far, those that were cut since among them.
        seconds: What that took.
    """

    weights: Float64[Tensor, "cells corners vertices"]
    bounds: Float64[Tensor, "cells"]
    depths: Int64[Tensor, "cells"]
    bounded: int = 1
    seconds: float = 0.0

    @classmethod
    def first(
        cls,
        cell: Float64[Tensor, "1 corners vertices"],
        bound: Bound,
        clock: Clock = time.perf_counter,
    ) -> "Cells":
        """Returns a simplex that is not cut yet."""
        begun = clock()
        depths = torch.zeros(1, dtype=torch.int64)
        return cls(cell, bound(cell), depths, 1, clock() - begun)

    @property
    def lowest(self) -> float:
        """What no point is below."""
        return float(self.bounds.min())

    def share_above(self, value: float) -> float:
        """Returns the share of the whole's volume that is proved to be above a value."""
        return float((0.5 ** self.depths[self.bounds > value].double()).sum())


@dataclass(frozen=True)
class Budget:
    """What a search may take.

    Attributes:
        seconds: Of time.
        cells: How many simplices may be bounded.
        at_once: How many together.
        highest: Whether simplices are cut whose bounds are nearest to the goal, not furthest from
            it: for the largest share where all cannot be had.
        clock: What tells the seconds.
    """

    seconds: float
    cells: int = 1_000_000
    at_once: int = 16
    highest: bool = False
    clock: Clock = time.perf_counter


def refine(
    cells: Cells,
    bound: Bound,
    goal: Callable[[], float],
    products: Float64[Tensor, "vertices vertices"],
    budget: Budget,
    request: StopRequest | None = None,
    weakest: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Cuts simplices until all bounds are at a goal, or the budget is spent.

    Args:
        cells: What is known; changed in place.
        bound: Of simplices.
        goal: What bounds are to be; asked again each time, as it may fall.
        products: See :func:`patchcollide.proofs.simplices.halved`.
        budget: In addition to what was spent before.
        request: Of the user to stop.
        weakest: Gives the corners where bounds are lowest, as
            :func:`patchcollide.proofs.simplices.halved` takes them; longest edges are cut without.

    Raises:
        InterruptedWorkError: If the user asked to stop; the cells are whole.
    """
    if cells.weights.shape[1] == 1:
        return  # A point cannot be cut.
    begun, before, limit = budget.clock(), cells.seconds, cells.bounded + budget.cells
    cut_in = 0.0
    for percent in track(range(1, 101), "Cutting simplices", 100):
        until = before + budget.seconds * percent / 100
        # What would end too late is not begun.
        while cells.seconds + cut_in <= until and cells.bounded < limit:
            if request is not None and request.requested:
                raise InterruptedWorkError("The user asked to stop between two simplices.")
            is_open = (cells.bounds < goal()) & (cells.depths < DEEPEST)
            if not is_open.any():
                return
            order = _urgency(cells, budget.highest).masked_fill(~is_open, torch.inf).argsort()
            chosen = order[: min(int(is_open.sum()), budget.at_once // 2)]
            weights = cells.weights[chosen]
            corners = None if weakest is None else weakest(weights)
            _replace(cells, chosen, halved(weights, products, corners), bound)
            spent = before + budget.clock() - begun
            cells.seconds, cut_in = spent, spent - cells.seconds


def _urgency(cells: Cells, highest: bool) -> Float64[Tensor, "cells"]:
    """Returns by which numbers, from small to large, simplices are cut."""
    if not highest:
        return cells.bounds
    # Bounds rise with the length of edges, in proportion at best. What lacks least beside it is
    # next; bounds alone would lead ever deeper along where a margin is 0.
    shrinks = 2.0 ** (cells.depths.double() / (cells.weights.shape[1] - 1))
    return -cells.bounds * shrinks


def _replace(cells: Cells, chosen: Tensor, halves: Tensor, bound: Bound) -> None:
    # A part is nowhere below the whole.
    bounds = torch.maximum(bound(halves), cells.bounds[chosen].repeat(2))
    depths = (cells.depths[chosen] + 1).repeat(2)
    kept = torch.ones(len(cells.bounds), dtype=torch.bool)
    kept[chosen] = False
    cells.weights = torch.cat([cells.weights[kept], halves])
    cells.bounds = torch.cat([cells.bounds[kept], bounds])
    cells.depths = torch.cat([cells.depths[kept], depths])
    cells.bounded += len(halves)
