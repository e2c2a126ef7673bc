"""How much of an exact polytope a hull of approximate vertices fills, without any volume.

In hundreds of dimensions a hull of a few points has no volume; widths, distances and depths say
what can be said. All are in the unit of a pixel, 0 to 1.
"""

from dataclasses import dataclass

import numpy as np
from inner_hulls import leave_hull, mean_distance, spread
from references import Reference, depths, eased, exact_widths

from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.tolerances import SHARE
from patchcollide.shapes import Float64, ndarray

TOLERANCES = (0.03, 0.1, 0.3, 1.0)
"""Distances within which a point counts as inside; rounding to 8 bits moves 28x28 pixels 0.03."""

# Of the range of pixels: above rounding, so that what lies on a boundary can go along it.
_LEAST_EASING = 1e-6


@dataclass(frozen=True)
class Reach:
    """How far a hull and the polytope reach in the same random directions; means over them.

    Attributes:
        dimension: Of what the directions are drawn from.
        hull_width: Largest less smallest product with a direction.
        exact_width: The same of the polytope, by two linear programs each.
        width_ratio: The first over the second; None if both are 0.
        hull_boundary: How far the hull's boundary is from the mean of its vertices.
        exact_boundary: The polytope's, from there, its inequalities eased.
        boundary_ratio: The first over the second, at most 1; None if that is 0.
    """

    dimension: int
    hull_width: float
    exact_width: float
    width_ratio: float | None
    hull_boundary: float
    exact_boundary: float
    boundary_ratio: float | None


@dataclass(frozen=True)
class AgainstExact:
    """A hull of approximate vertices beside the exact polytope.

    Attributes:
        vertex_distance: Mean over pairs of vertices; 0 for one.
        exact_vertex_distance: The same of the exact vertices.
        far_distance: Of the farthest two exact vertices found.
        off_subspace: The distance of each vertex from the subspace of the equations.
        depths: Of the point of the subspace nearest to each vertex: its distance, along the
            subspace, from the nearest inequality's boundary; negative outside, where the polytope
            is at least as far away.
        eased_by: How far inequalities are moved outwards before their distance from the hull's
            centre is measured: so far that the points nearest to the vertices are inside. From
            outside there would be no way to go.
        centre_depth: The depth of the mean of these points.
        tolerances: Distances for the next two.
        vertices_inside: For each tolerance, the share of vertices off the subspace, and outside of
            any inequality, by no more.
        samples_inside: The same share of points drawn uniformly between the vertices.
        subspace: In directions of the whole subspace; a hull of fewer points than it has
            dimensions is flat there, so its boundary is at 0. None if it is a point.
        span: In directions between the vertices; None if they are one point.
    """

    vertex_distance: float
    exact_vertex_distance: float
    far_distance: float
    off_subspace: tuple[float, ...]
    depths: tuple[float, ...]
    eased_by: float
    centre_depth: float
    tolerances: tuple[float, ...]
    vertices_inside: tuple[float, ...]
    samples_inside: tuple[float, ...]
    subspace: Reach | None
    span: Reach | None


def measure_against_exact(
    reference: Reference,
    vertices: Float64[ndarray, "vertices pixels"],
    rng: np.random.Generator,
    *,
    tolerances: tuple[float, ...] = TOLERANCES,
    num_samples: int = 1000,
) -> AgainstExact:
    """Holds a hull of vertices against the exact polytope.

    Args:
        reference: The polytope.
        vertices: Images in ``[0, 1]``, unrounded; at least one.
        rng: Draws directions between the vertices, and points.
        tolerances: Distances within which a point counts as inside.
        num_samples: Points between the vertices.
    """
    subspace = reference.subspace
    nearest = subspace.nearest(vertices)
    samples = rng.dirichlet(np.ones(len(vertices)), num_samples) @ vertices
    between = Subspace.of(spread(nearest), nearest[0]).normals
    span = rng.standard_normal((len(reference.directions) if len(between) else 0, len(between)))
    span = (span / np.linalg.norm(span, axis=1, keepdims=True)) @ between
    inner_depths = depths(reference, nearest)
    easing = max(float(-inner_depths.min()), _LEAST_EASING * _pixel_range(reference))
    looser = eased(reference, easing)

    return AgainstExact(
        vertex_distance=mean_distance(vertices),
        exact_vertex_distance=mean_distance(reference.vertices),
        far_distance=reference.far_distance,
        off_subspace=tuple(subspace.distances(vertices).tolist()),
        depths=tuple(inner_depths.tolist()),
        eased_by=easing,
        centre_depth=float(depths(reference, nearest.mean(axis=0)[None])[0]),
        tolerances=tolerances,
        vertices_inside=_inside(reference, vertices, tolerances),
        samples_inside=_inside(reference, samples, tolerances),
        subspace=_reach(
            nearest, looser, reference.directions, reference.widths, subspace.dimension
        ),
        span=_reach(nearest, looser, span, exact_widths(reference.polytope, span), len(between)),
    )


def _reach(
    vertices: Float64[ndarray, "vertices pixels"],
    looser: ExactPolytope,
    directions: Float64[ndarray, "directions pixels"],
    widths: Float64[ndarray, "directions"],
    dimension: int,
) -> Reach | None:
    """Measures vertices of the subspace, beside the polytope's widths, eased for its boundary."""
    if not len(directions):
        return None
    centre = vertices.mean(axis=0)
    hull, exact = np.ptp(vertices @ directions.T, axis=0).mean(), widths.mean()
    # Of the images, beside which a width is rounding.
    size = float(np.linalg.norm(vertices, axis=1).max())
    inner = np.mean([leave_hull(vertices, direction) for direction in directions])
    outer = np.mean([looser.leaving(centre, direction).distance for direction in directions])
    return Reach(
        dimension=dimension,
        hull_width=float(hull),
        exact_width=float(exact),
        width_ratio=float(hull / exact) if exact > SHARE * size else None,
        hull_boundary=float(inner),
        exact_boundary=float(outer),
        boundary_ratio=float(inner / outer) if outer > 0 else None,
    )


def _pixel_range(reference: Reference) -> float:
    space = reference.polytope.space
    found = float((space.upper - space.lower).max())
    return found if np.isfinite(found) else 1.0


def _inside(
    reference: Reference,
    points: Float64[ndarray, "points pixels"],
    tolerances: tuple[float, ...],
) -> tuple[float, ...]:
    subspace = reference.subspace
    beyond = -depths(reference, subspace.nearest(points))
    missed = np.maximum(subspace.distances(points), beyond)
    return tuple(float((missed <= tolerance).mean()) for tolerance in tolerances)
