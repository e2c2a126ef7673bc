"""Hulls of a few points in many dimensions: how far apart their vertices are, where they end."""

import itertools

import numpy as np

from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.linear_programs import minimise
from patchcollide.polyhedra.tolerances import SHARE
from patchcollide.shapes import Float64, ndarray

_LEADS_OUT = 1e-6
"""Above this share of its length out of what vertices span a direction leads out of it."""


def mean_distance(points: Float64[ndarray, "points pixels"]) -> float:
    """Returns the mean L2 distance of pairs of points; 0 without a pair."""
    pairs = itertools.combinations(points, 2)
    distances = [float(np.linalg.norm(first - second)) for first, second in pairs]
    return float(np.mean(distances)) if distances else 0.0


def spread(vertices: ndarray) -> Float64[ndarray, "vertices pixels"]:
    """Returns vertices less their mean; nothing if they are one point."""
    centred = vertices - vertices.mean(axis=0)
    reach = np.linalg.norm(centred, axis=1).max()
    # Beside the vertices themselves, whose rounding is that of their size.
    apart = reach > SHARE * np.linalg.norm(vertices, axis=1).max()
    return np.asarray(centred if apart else centred[:0])


def leave_hull(
    vertices: Float64[ndarray, "vertices pixels"], direction: Float64[ndarray, "pixels"]
) -> float:
    """Returns how far from the vertices' mean, in lengths of a direction, their hull ends.

    One linear program over the weights of the vertices; 0 if the direction leads out of what the
    vertices span.
    """
    centred = spread(vertices)
    span = Subspace.of(centred, vertices[0]).normals
    coordinates, along = centred @ span.T, span @ direction
    length = np.linalg.norm(direction)
    if not len(span) or np.linalg.norm(direction - along @ span) > _LEADS_OUT * length:
        return 0.0
    count, scale = len(vertices), abs(coordinates).max()
    # The weights of the vertices, and the way to go in units of their size.
    rows = np.vstack(
        [np.append(np.ones(count), 0.0), np.c_[coordinates.T / scale, -along / length]]
    )
    sums = np.append(1.0, np.zeros(len(span)))
    program = Constraints(
        matrix=rows,
        offset=np.zeros(len(rows)),
        lower=sums,
        upper=sums,
        variable_lower=np.zeros(count + 1),
        variable_upper=np.full(count + 1, np.inf),
        hard=np.zeros(len(rows), dtype=bool),
    )
    return float(scale * minimise(np.append(np.zeros(count), -1.0), program).point[-1] / length)
