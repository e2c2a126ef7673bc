"""The edges of a hull where the whole is out of reach: what of their length is proved, or walked.

Cells of an edge are bounded as those of a hull are. Deep networks let none be proved: what float64
may round grows from layer to layer until it hides everything, even at a point. Then the edge can
still be walked, piece by piece of those on which the network is affine. That is exact but for the
rounding of float64, which nothing bounds, so it is called walked and not proved.
"""

import itertools
import math
import time
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict

import torch

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.walk import Walk, margins, walk_segment
from patchcollide.progress import StopRequest
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.search import ABOVE_ZERO, Bound, Budget, Cells, refine
from patchcollide.proofs.simplices import face
from patchcollide.shapes import Tensor

_FIRST_PIECES = 1
_MOST_PIECES = 4096


class EdgesProof(TypedDict):
    """What is known of a hull's edges.

    Attributes:
        num_edges: How many there are.
        share_proved: Of their length: the class of every image there is proved.
        shares: The same of each edge, in the order of the vertices' pairs.
        cells: How many cells were bounded.
        share_walked: Of their length: all pieces there on which the network is affine were walked
            in float64, whose rounding is not bounded. None if edges were not walked.
        shares_walked: The same of each edge that was, in the same order, from a vertex on; files of
            older versions lack it: their pieces lie anywhere.
        walked_from: The vertices that these walks began at, those with the smaller margins.
        walked_margin: The smallest on these pieces.
        pieces: How many.
        seconds: What it took.
    """

    num_edges: int
    share_proved: float
    shares: list[float]
    cells: int
    share_walked: float | None
    shares_walked: NotRequired[list[float]]
    walked_from: NotRequired[list[int]]
    walked_margin: float | None
    pieces: int
    seconds: float


def edge_name(pair: tuple[int, int]) -> str:
    """Returns by what name the cells of an edge are kept."""
    return f"edge-{pair[0]}-{pair[1]}"


def prove_edges(
    bound: Bound,
    known: dict[str, Cells],
    products: Tensor,
    seconds: float,
    request: StopRequest | None = None,
) -> EdgesProof:
    """Proves as much of each edge as an equal share of the time allows.

    Args:
        bound: Gives what the class's margin is nowhere below on a simplex.
        known: Cells of edges from earlier, by :func:`edge_name`; changed in place.
        products: See :func:`patchcollide.proofs.simplices.halved`.
        seconds: For all edges together.
        request: Of the user to stop.

    Raises:
        InterruptedWorkError: If the user asked to stop; what is known is kept.
    """
    begun = time.perf_counter()
    pairs = [*itertools.combinations(range(len(products)), 2)]
    for number, pair in enumerate(pairs):
        if edge_name(pair) not in known:
            known[edge_name(pair)] = Cells.first(face(len(products), pair), bound)
        left = seconds - (time.perf_counter() - begun)
        budget = Budget(max(left, 0.0) / (len(pairs) - number), at_once=4, highest=True)
        refine(known[edge_name(pair)], bound, lambda: ABOVE_ZERO, products, budget, request)
    cells = [known[edge_name(pair)] for pair in pairs]
    shares = [each.share_above(0.0) for each in cells]
    return {
        "num_edges": len(pairs),
        "share_proved": math.fsum(shares) / max(len(shares), 1),
        "shares": shares,
        "cells": sum(each.bounded for each in cells),
        "share_walked": None,
        "walked_margin": None,
        "pieces": 0,
        "seconds": time.perf_counter() - begun,
    }


def walk_edges_for(bounds: HullBounds, seconds: float) -> EdgesProof:
    """Walks each edge, from the vertex with the smaller margin on, as far as an equal time allows.

    Args:
        bounds: Of a hull; only its network and vertices are used.
        seconds: For all edges together; a piece of each is walked in any case.
    """
    begun = time.perf_counter()
    pairs = [*itertools.combinations(range(len(bounds.vertices)), 2)]
    points = bounds.network.prepared(bounds.vertices)
    with torch.no_grad():
        at_vertices = margins(bounds.network.classifier(points), bounds.target_class).tolist()
    walks, starts = [], []
    for number, pair in enumerate(pairs):
        left = (seconds - (time.perf_counter() - begun)) / (len(pairs) - number)
        start, stop = sorted(pair, key=at_vertices.__getitem__)
        try:
            walks.append(_Edge(bounds, points[start], points[stop], at_vertices[start]).walk(left))
        except NetworkError:
            break  # It is not piecewise linear.
        starts.append(start)
    shares = [walk.share for walk in walks]
    return {
        "num_edges": len(pairs),
        "share_proved": 0.0,
        "shares": [0.0] * len(pairs),
        "cells": 0,
        "share_walked": math.fsum(shares) / len(pairs) if walks else None,
        "shares_walked": shares,
        "walked_from": starts,
        "walked_margin": min((walk.margin for walk in walks), default=None),
        "pieces": sum(walk.pieces for walk in walks),
        "seconds": time.perf_counter() - begun,
    }


class _Walked(NamedTuple):
    """All of an edge between its start and a place: how far, the smallest margin, its pieces."""

    share: float
    margin: float
    pieces: int


@dataclass(frozen=True, eq=False)
class _Edge:
    """An edge as the network takes its ends, and the margin where it starts."""

    bounds: HullBounds
    start: Tensor
    stop: Tensor
    margin: float

    def walk(self, seconds: float) -> _Walked:
        """Walks from the start on, ever twice as far, for about so many seconds."""
        begun = time.perf_counter()
        walk = self._walked(1.0, _FIRST_PIECES)
        if walk.is_complete:
            return _Walked(1.0, walk.worst_margin, len(walk.pieces))
        first, pieces = walk.pieces[0], len(walk.pieces)
        found = _Walked(first.stop, min(first.start_margin, first.stop_margin), 1)
        spent = time.perf_counter() - begun
        # Each attempt begins anew, and must end where it is to go.
        while 0 < found.share < 1 and pieces * (seconds - spent) / spent >= 2 * found.pieces:
            most = min(int(pieces * (seconds - spent) / spent), _MOST_PIECES)
            share = min(2 * found.share, 1.0)
            walk = self._walked(share, most)
            if not walk.is_complete:
                break
            pieces += len(walk.pieces)
            spent = time.perf_counter() - begun
            found = _Walked(share, walk.worst_margin, len(walk.pieces))
        return found

    def _walked(self, share: float, pieces: int) -> Walk:
        stop = self.start + share * (self.stop - self.start)
        return walk_segment(
            self.bounds.network.classifier,
            self.start,
            stop,
            self.bounds.target_class,
            [self.margin],
            max_pieces=pieces,
        )
