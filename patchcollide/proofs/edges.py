"""The edges of a hull where the whole is out of reach: what of their length is proved, or walked.

Cells of an edge are bounded as those of a hull are. Deep networks let none be proved: what float64
may round grows from layer to layer until it hides everything, even at a point. Then the edge can
still be walked, piece by piece of those on which the network is affine. That is exact but for the
rounding of float64, which nothing bounds, so it is called walked and not proved.
"""

import itertools
import math
import time
from typing import TypedDict

import torch

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.walk import Walk, margins, walk_segment
from patchcollide.progress import StopRequest
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.search import ABOVE_ZERO, Bound, Budget, Cells, refine
from patchcollide.proofs.simplices import face
from patchcollide.shapes import Tensor

_FIRST_PIECES = 2
_MOST_PIECES = 4096


class EdgesProof(TypedDict):
    """What is known of a hull's edges.

    Attributes:
        num_edges: How many there are.
        share_proved: Of their length: the class of every image there is proved.
        shares: The same of each edge, in the order of the vertices' pairs.
        cells: How many cells were bounded.
        share_walked: Of their length: the pieces on which the network is affine were walked in
            float64, whose rounding is not bounded. None if edges were not walked.
        walked_margin: The smallest on these pieces.
        pieces: How many.
        seconds: What it took.
    """

    num_edges: int
    share_proved: float
    shares: list[float]
    cells: int
    share_walked: float | None
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
    """Walks pieces of each edge, from its first vertex on, for an equal share of the time.

    Args:
        bounds: Of a hull; only its network and vertices are used.
        seconds: For all edges together; at least two pieces of each are walked.
    """
    begun = time.perf_counter()
    pairs = [*itertools.combinations(range(len(bounds.vertices)), 2)]
    points = bounds.network.prepared(bounds.vertices)
    walks = []
    for number, pair in enumerate(pairs):
        left = (seconds - (time.perf_counter() - begun)) / (len(pairs) - number)
        try:
            walks.append(_walked_for(bounds, points[list(pair)], left))
        except NetworkError:
            break  # It is not piecewise linear.
    return {
        "num_edges": len(pairs),
        "share_proved": 0.0,
        "shares": [0.0] * len(pairs),
        "cells": 0,
        "share_walked": math.fsum(w.share_walked for w in walks) / len(pairs) if walks else None,
        "walked_margin": min((walk.worst_margin for walk in walks), default=None),
        "pieces": sum(len(walk.pieces) for walk in walks),
        "seconds": time.perf_counter() - begun,
    }


def _walked_for(bounds: HullBounds, ends: Tensor, seconds: float) -> Walk:
    """Returns a walk along an edge that takes about so many seconds."""
    begun, pieces = time.perf_counter(), _FIRST_PIECES
    with torch.no_grad():
        sampled = margins(bounds.network.classifier(ends), bounds.target_class).tolist()
    while True:
        walk = walk_segment(
            bounds.network.classifier,
            ends[0],
            ends[1],
            bounds.target_class,
            sampled,
            max_pieces=pieces,
        )
        spent = time.perf_counter() - begun
        # Each attempt begins anew.
        more = min(int(pieces * (seconds - spent) / spent), _MOST_PIECES)
        if walk.is_complete or more < 2 * pieces:
            return walk
        pieces = more
