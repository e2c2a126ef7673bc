"""Walks over all breakpoints of a segment between two inputs of a piecewise linear network.

Between two breakpoints, places where a unit reaches a corner of its activation, every logit is
affine. One pass through the network at a point finds the whole piece around it, both of its ends
and all logits on it. The margin of a class, its logit minus the largest other one, is concave on a
piece, so it is smallest at an end of one: a walk that has met every piece has met the minimum.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.points import trace
from patchcollide.shapes import Float, Float64, Tensor
from patchcollide.torch_modes import proof_modes

RESOLUTION = 1e-11
"""Breakpoints nearer to each other than this share of the segment are taken for one."""
_TOLERANCE = 1e-6
_ROUGHLY = 1e-3
"""What samples of another precision may differ by before they are taken again."""
_PIECES_A_CHECK = 8


@dataclass(frozen=True)
class Piece:
    """A part of a segment on which a network is affine; places as shares of the segment."""

    start: float
    stop: float
    start_margin: float
    stop_margin: float


@dataclass(frozen=True)
class Walk:
    """What a walk found.

    Attributes:
        worst_margin: The smallest margin on the pieces walked, in logits.
        worst_at: Where, as a share of the segment.
        is_local_minimum: Whether the pieces on both sides of that place were walked: next to it
            the margin is not smaller.
        is_complete: Whether the whole segment was walked, so that there is none smaller on it.
        share_walked: The part of the segment's length that was.
        pieces: What was walked, in order.
    """

    worst_margin: float
    worst_at: float
    is_local_minimum: bool
    is_complete: bool
    share_walked: float
    pieces: tuple[Piece, ...]


def margins(
    scores: Float[Tensor, "batch classes"], target_class: int, lowest: float = -torch.inf
) -> Float[Tensor, "batch"]:
    """Returns the score of a class minus the largest other one, or ``lowest`` if there is none.

    Args:
        scores: Logits; or probabilities, of which 0 is the lowest.
        target_class: The class.
        lowest: No score is below it.
    """
    others = scores.clone()
    others[:, target_class] = lowest
    return scores[:, target_class] - others.amax(dim=1)


def walk_segment(
    module: nn.Module,
    start: Float64[Tensor, "*shape"],
    stop: Float64[Tensor, "*shape"],
    target_class: int,
    sampled: Sequence[float],
    *,
    max_pieces: int,
    batch_size: int = 8,
) -> Walk:
    """Walks from one input of a network to another, looking for the smallest margin of a class.

    From each sample below its neighbours, the lowest first, the walk goes down to a place between
    two pieces where the margin is not smaller on either side. What is left of ``max_pieces`` goes
    into the gaps, the widest first, until none is left: then the walk is complete.

    Args:
        module: A piecewise linear network in float64, from inputs to logits.
        start: An input, without the dimension of the batch.
        stop: Another.
        target_class: The class whose margin is wanted.
        sampled: Margins at equal distances, the first at ``start`` and the last at ``stop``. They
            only say where to begin, so they need not be accurate.
        max_pieces: How many pieces to walk at most; each costs two forward passes.
        batch_size: How many places go through the network together.

    Raises:
        NetworkError: If the network is not piecewise linear, or not known to be.

    Source:
        The pieces are those of Sotoudeh and Thakur, "Computing Linear Restrictions of Neural
        Networks", NeurIPS 2019, who find them layer by layer; here each is found from a point on
        it, so that a few can be had where there are too many to find all.
    """
    if max_pieces < 1:
        raise ValueError(f"Expected to walk at least one piece, but max_pieces = {max_pieces}.")
    with proof_modes(device=start.device):
        line = _walked(module, start, stop, target_class, sampled, max_pieces, batch_size)
    margin, place, _ = line.lowest(0.0, 1.0)
    gaps = line.gaps()
    walked = math.fsum(piece.stop - piece.start for piece in line.pieces)
    return Walk(
        worst_margin=margin,
        worst_at=place,
        is_local_minimum=line.gap_beside(0.0, 1.0) is None,
        is_complete=not gaps,
        share_walked=walked if gaps else 1.0,
        pieces=tuple(line.pieces),
    )


def _walked(
    module: nn.Module,
    start: Tensor,
    stop: Tensor,
    target_class: int,
    sampled: Sequence[float],
    max_pieces: int,
    batch_size: int,
) -> "_Line":
    line = _Line(module, start, stop, target_class, max_pieces, batch_size)
    last = max(len(sampled) - 1, 1)
    for number in _local_minima(sampled):
        low, place, high = max(number - 1, 0) / last, number / last, min(number + 1, last) / last
        line.explore([place, low, high])
        line.descend(low, high)
    while (gaps := line.gaps()) and not line.is_spent:
        gaps.sort(key=lambda gap: gap[0] - gap[1])
        line.explore([(low + high) / 2 for low, high in gaps])
        line.descend(0.0, 1.0)
    line.check(sampled)
    return line


def _local_minima(values: Sequence[float]) -> list[int]:
    """Returns the places of values that no neighbour is below, the lowest value first."""
    padded = [math.inf, *values, math.inf]
    found = [i for i, value in enumerate(values) if value <= min(padded[i], padded[i + 2])]
    return sorted(found, key=values.__getitem__)


class _Line:
    """The pieces of a segment that are known so far, in order, never overlapping."""

    def __init__(
        self,
        module: nn.Module,
        start: Tensor,
        stop: Tensor,
        target_class: int,
        max_pieces: int,
        batch_size: int,
    ) -> None:
        self.module, self.target_class = module, target_class
        self.start, self.direction = start, stop - start
        self.max_pieces, self.batch_size = max_pieces, batch_size
        self.pieces: list[Piece] = []

    @property
    def is_spent(self) -> bool:
        """Whether no more pieces may be walked."""
        return len(self.pieces) >= self.max_pieces

    def points(self, places: Tensor) -> Tensor:
        """Returns the inputs at some places."""
        shape = (-1,) + (1,) * self.start.ndim
        return self.start + places.to(self.start).reshape(shape) * self.direction

    def explore(self, places: list[float]) -> None:
        """Walks the pieces around some places, as far as ``max_pieces`` allows."""
        places = list(dict.fromkeys(places))[: self.max_pieces - len(self.pieces)]
        while places:
            part = torch.tensor(places[: self.batch_size], dtype=torch.float64)
            places = places[self.batch_size :]
            line = trace(self.module, self.points(part), self.direction)
            if not line.in_order:
                self.batch_size = 1  # They had to go one by one anyway.
            reach = zip(
                part.tolist(),
                (part - line.bounds.backward.cpu()).tolist(),
                (part + line.bounds.forward.cpu()).tolist(),
                strict=True,
            )
            for row, (place, low, high) in enumerate(reach):
                self._add(place, low, high, line.value[row], line.slope[row])

    def _add(self, place: float, low: float, high: float, logits: Tensor, slope: Tensor) -> None:
        index = bisect.bisect_right(self.pieces, place, key=lambda piece: piece.start)
        before = self.pieces[index - 1].stop if index else 0.0
        after = self.pieces[index].start if index < len(self.pieces) else 1.0
        if place < before or before == after:
            return  # Another place of the same batch was on this piece.
        # Rounding may make neighbours overlap by a little.
        start, stop = max(low, before), min(high, after)
        ends = logits.new_tensor([start - place, stop - place])
        found = margins(logits + ends[:, None] * slope, self.target_class).tolist()
        self.pieces.insert(index, Piece(start, stop, *found))

    def gaps(self, low: float = 0.0, high: float = 1.0) -> list[tuple[float, float]]:
        """Returns what is not walked yet between two places, but for gaps no wider than can be."""
        starts = [low, *(piece.stop for piece in self.pieces if low <= piece.stop)]
        stops = [*(piece.start for piece in self.pieces if low <= piece.stop), high]
        return [
            (start, min(stop, high))
            for start, stop in zip(starts, stops, strict=True)
            if min(stop, high) - start > RESOLUTION
        ]

    def lowest(self, low: float, high: float) -> tuple[float, float, bool]:
        """Returns the smallest margin at an end of a piece, its place, and whether it is a start.

        Only ends between two places count.
        """
        ends = [
            end
            for piece in self.pieces
            for end in (
                (piece.start_margin, piece.start, True),
                (piece.stop_margin, piece.stop, False),
            )
            if low <= end[1] <= high
        ]
        return min(ends, default=(math.inf, low, True))

    def gap_beside(self, low: float, high: float) -> tuple[float, float] | None:
        """Returns the gap that begins or ends where the margin is smallest, if there is one."""
        _, place, is_start = self.lowest(low, high)
        beside = [gap for gap in self.gaps(low, high) if place == gap[1 if is_start else 0]]
        return beside[0] if beside else None

    def descend(self, low: float, high: float) -> None:
        """Halves the gap beside the smallest margin until both its sides are walked."""
        while not self.is_spent and (gap := self.gap_beside(low, high)):
            self.explore([(gap[0] + gap[1]) / 2])

    def check(self, sampled: Sequence[float]) -> None:
        """Compares pieces with plain passes: their ends, and what lies between.

        Always compared are the smallest margin and the smallest sample, some pieces evenly spread,
        and whatever does not fit: where a piece does not end as the next begins, or a sample lies
        below its piece.

        Raises:
            NetworkError: If they differ: a part of the network is not what it was taken for.
        """
        lowest = self.lowest(0.0, 1.0)
        ends = [lowest[:2], *self._unfitting_ends()]
        between = self._unfitting_samples(sampled)
        for piece in self.pieces[_PIECES_A_CHECK // 2 :: _PIECES_A_CHECK]:
            ends.append((piece.stop_margin, piece.stop))
            between.append((_least(piece), (piece.start + piece.stop) / 2))
        plain = self._plain_margins([place for _, place in (*ends, *between)])
        for number, (margin, place) in enumerate((*ends, *between)):
            short = margin - plain[number]
            missed = abs(short) if number < len(ends) else short
            if not missed <= _TOLERANCE * (1 + abs(plain[number])):
                raise NetworkError(
                    f"The walk found a margin of {margin:g} at {place:g} of the segment, but a "
                    f"plain pass finds {plain[number]:g}: a part of the network is not piecewise "
                    "linear, or changes its input in a way that is not known. Measure without a "
                    "walk."
                )

    def _unfitting_ends(self) -> list[tuple[float, float]]:
        """Returns margins and places of ends that neighbours do not agree about."""
        found = []
        for before, after in itertools.pairwise(self.pieces):
            first, second = before.stop_margin, after.start_margin
            adjoin = after.start - before.stop <= RESOLUTION
            if adjoin and not abs(first - second) <= _TOLERANCE * (1 + abs(first)):
                found += [(first, before.stop), (second, after.start)]
        return found

    def _unfitting_samples(self, sampled: Sequence[float]) -> list[tuple[float, float]]:
        """Returns the least margin that a sample's piece allows, and the sample's place.

        Of the smallest sample, and of samples below that.
        """
        found, last = [], max(len(sampled) - 1, 1)
        for number, sample in enumerate(sampled):
            index = bisect.bisect_right(self.pieces, number / last, key=lambda piece: piece.start)
            piece = self.pieces[max(index - 1, 0)]
            if not piece.start <= number / last <= piece.stop:
                continue
            least = _least(piece)
            fits = sample >= least - _ROUGHLY * (1 + abs(least))
            if not fits or sample == min(sampled):
                found.append((least, number / last))
        return found

    def _plain_margins(self, places: list[float]) -> list[float]:
        found: list[float] = []
        for first in range(0, len(places), self.batch_size):
            part = torch.tensor(places[first : first + self.batch_size], dtype=torch.float64)
            with torch.no_grad():
                found += margins(self.module(self.points(part)), self.target_class).tolist()
        return found


def _least(piece: Piece) -> float:
    return min(piece.start_margin, piece.stop_margin)
