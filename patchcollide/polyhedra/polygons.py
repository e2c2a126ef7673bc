"""Intersections of half-planes, exactly: corners, edges, nearest points.

A half-plane is ``normal @ point + offset <= 0``. With few of them every pair of lines can be tried,
which is plain, and needs no bounded, no solid and no non-empty intersection.
"""

from typing import NamedTuple

import numpy as np

from patchcollide.polyhedra.matrices import row_norms
from patchcollide.polyhedra.tolerances import SHARE
from patchcollide.shapes import Bool, Float64, ndarray

TOLERANCE = SHARE
"""Distances up to this, as a share of the size of what is compared, count as none."""


class HalfPlanes(NamedTuple):
    """Half-planes whose intersection is meant.

    Attributes:
        normals: They point out of the half-planes; of any length, also zero.
        offsets: In units of the normals.
    """

    normals: Float64[ndarray, "planes 2"]
    offsets: Float64[ndarray, "planes"]

    def joined(self, other: "HalfPlanes") -> "HalfPlanes":
        """Returns these half-planes and others."""
        return HalfPlanes(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def contain(
        self,
        points: Float64[ndarray, "points 2"],
        tolerance: float = TOLERANCE,
        size: float = 0.0,
    ) -> Bool[ndarray, "points"]:
        """Says which points lie in all half-planes, or hardly outside.

        Args:
            points: Any.
            tolerance: How far outside, as a share of the sizes of a point and of its distance.
            size: Of what points were computed from, which adds to these.
        """
        normals, offsets = _normalised(self)
        reach = tolerance * (size + _sizes(points, offsets))
        return np.asarray((points @ normals.T + offsets <= reach).all(axis=1))


def box(low: Float64[ndarray, "2"], high: Float64[ndarray, "2"]) -> HalfPlanes:
    """Returns the four half-planes of a rectangle between two corners."""
    return HalfPlanes(np.vstack([-np.eye(2), np.eye(2)]), np.concatenate([low, -high]))


def find_corners(planes: HalfPlanes) -> Float64[ndarray, "corners 2"]:
    """Finds the corners of an intersection, by trying every pair of lines.

    Returns:
        Them, each once, counterclockwise. Of a bounded intersection they say all: none that it is
        empty, one that it is a point, two that it is a segment. An unbounded one may have none.
    """
    crossings = _crossings(planes)
    inside = crossings[planes.contain(crossings)]
    corners = inside[:0]
    for point in inside:
        gaps = np.linalg.norm(corners - point, axis=1)
        if not (gaps <= 10 * TOLERANCE * abs(point).max()).any():
            corners = np.vstack([corners, point])
    if not len(corners):
        return np.asarray(corners)
    arms = corners - corners.mean(axis=0)
    return np.asarray(corners[np.argsort(np.arctan2(arms[:, 1], arms[:, 0]), kind="stable")])


def find_edges(planes: HalfPlanes) -> Bool[ndarray, "planes"]:
    """Says whose lines bound the intersection along more than a point.

    If the intersection has an interior, the others are redundant: without them it is the same. Of
    equal half-planes only the first bounds.
    """
    normals, offsets = _normalised(planes)
    return np.array([_has_edge(number, normals, offsets) for number in range(len(offsets))], bool)


def nearest_point(planes: HalfPlanes, point: Float64[ndarray, "2"]) -> Float64[ndarray, "2"] | None:
    """Finds the point of an intersection nearest to one given; None if it is empty.

    It is that point itself, its foot on a line, or the crossing of two lines.
    """
    normals, offsets = _normalised(planes)
    feet = point - (normals @ point + offsets)[:, None] * normals
    candidates = np.vstack([point, feet, _crossings(planes)])
    inside = candidates[planes.contain(candidates, size=float(abs(point).sum()))]
    if not len(inside):
        return None
    return np.asarray(inside[np.linalg.norm(inside - point, axis=1).argmin()])


def _normalised(planes: HalfPlanes) -> HalfPlanes:
    """Returns normals of length one; one of zero asks all or nothing, so its offset is kept."""
    norms = row_norms(planes.normals)
    return HalfPlanes(planes.normals / norms[:, None], planes.offsets / norms)


def _sizes(points: ndarray, offsets: ndarray) -> ndarray:
    # A crossing of two lines is at least as far from 0 as both, so its rounding is of its size.
    return np.asarray(abs(points).sum(axis=1)[:, None] + abs(offsets))


def _crossings(planes: HalfPlanes) -> Float64[ndarray, "crossings 2"]:
    normals, offsets = _normalised(planes)
    first, second = np.triu_indices(len(offsets), 1)
    (a, b), (c, d) = normals[first].T, normals[second].T
    sines = a * d - b * c
    crossing = abs(sines) > TOLERANCE
    x = (b * offsets[second] - d * offsets[first])[crossing] / sines[crossing]
    y = (c * offsets[first] - a * offsets[second])[crossing] / sines[crossing]
    return np.column_stack([x, y])


def _has_edge(number: int, normals: ndarray, offsets: ndarray) -> bool:
    """Cuts a line by all other half-planes and says whether a length of it is left."""
    normal, others = normals[number], np.arange(len(offsets)) != number
    if not normal.any():
        return False
    foot, along = -offsets[number] * normal, np.array([-normal[1], normal[0]])
    slopes, values = normals @ along, normals @ foot + offsets
    reach = TOLERANCE * _sizes(foot[None], offsets)[0]
    parallel = others & (abs(slopes) <= TOLERANCE)
    if (parallel & (values > reach)).any():
        return False
    same = parallel & (normals @ normal > 0) & (abs(values) <= reach)
    if same[:number].any():
        return False
    rising = others & (slopes > TOLERANCE)
    falling = others & (slopes < -TOLERANCE)
    end = (-values[rising] / slopes[rising]).min(initial=np.inf)
    start = (-values[falling] / slopes[falling]).max(initial=-np.inf)
    return bool(end - start > reach.max())
