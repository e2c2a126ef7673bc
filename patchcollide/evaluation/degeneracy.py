"""Whether vertices span a polytope of as many dimensions as they could, and how flat it is."""

import itertools
import math
import sys
from typing import TypedDict

import numpy as np

from patchcollide.shapes import Float64, ndarray

RANK_TOLERANCE = 0.01
"""Of a shape, not of rounding: what people would call flat."""
_LARGEST_LOG = math.log(sys.float_info.max)


class Degeneracy(TypedDict):
    """The shape of the simplex between vertices.

    Attributes:
        affine_rank: The dimensions they span; at most one less than there are vertices.
        full_rank: That most.
        rank_tolerance: Extents of at most this share of the largest do not count.
        singular_values: Of the vertices less their mean, the largest first: the extent in each
            direction, times the root of the number of vertices.
        volume: Of the simplex, in the unit of the images to the power of ``full_rank``; None for
            one vertex, which has none, and above what float64 holds.
        relative_volume: That volume as a share of a regular simplex's whose edges all have the
            mean length: 1 for a regular one, 0 for a flat one; None for one vertex.
    """

    affine_rank: int
    full_rank: int
    rank_tolerance: float
    singular_values: list[float]
    volume: float | None
    relative_volume: float | None


def measure_degeneracy(
    vertices: Float64[ndarray, "vertices *shape"], tolerance: float = RANK_TOLERANCE
) -> Degeneracy:
    """Measures the simplex between vertices.

    The volume is the root of the Gram determinant of the edges from one vertex, over ``n!`` for
    ``n`` edges; the determinant is the product of the edges' squared singular values.

    Args:
        vertices: Images in any unit; at least one.
        tolerance: The share of the largest extent below which a direction does not count.

    Source:
        That no simplex has more than the regular one's volume for the same mean edge, so that the
        relative volume is at most 1, follows from D. Veljan and G. Korchmaros: the volume is at
        most the regular simplex's with the edges' geometric mean.
    """
    # Less one of them, so that equal ones differ by nothing at all.
    flat = (vertices - vertices[0]).reshape(len(vertices), -1)
    full_rank = len(flat) - 1
    # All but one of the singular values: about their mean, vertices span one dimension less.
    extents = _singular_values(flat - flat.mean(axis=0))[:full_rank]
    largest = max(extents, default=0.0)
    volume = relative = None
    if full_rank:
        log_volume = _log_volume(_singular_values(flat[1:] - flat[0]))
        edge = _mean_edge(flat)
        volume = math.exp(log_volume) if log_volume < _LARGEST_LOG else None
        relative = min(math.exp(log_volume - _log_regular(full_rank, edge)), 1.0) if edge else 0.0
    return Degeneracy(
        affine_rank=sum(extent > tolerance * largest for extent in extents),
        full_rank=full_rank,
        rank_tolerance=tolerance,
        singular_values=extents,
        volume=volume,
        relative_volume=relative,
    )


def _singular_values(rows: Float64[ndarray, "rows columns"]) -> list[float]:
    values = np.linalg.svd(rows, compute_uv=False).tolist()
    # With more rows than columns, there are directions the rows cannot have.
    return [*values, *[0.0] * (len(rows) - len(values))]


def _log_volume(edges: list[float]) -> float:
    if min(edges) <= 0:
        return -math.inf
    return math.fsum(map(math.log, edges)) - math.lgamma(len(edges) + 1)


def _log_regular(n: int, edge: float) -> float:
    """The logarithm of a regular simplex's volume: ``edge^n / n! * sqrt((n + 1) / 2^n)``."""
    return n * math.log(edge) - math.lgamma(n + 1) + (math.log(n + 1) - n * math.log(2)) / 2


def _mean_edge(flat: Float64[ndarray, "vertices pixels"]) -> float:
    pairs = itertools.combinations(flat, 2)
    return float(np.mean([np.linalg.norm(first - second) for first, second in pairs]))
