"""Hulls of a few points in many dimensions: how far apart their vertices are, where they end.

An exact polytope of pixels, measured once for all hulls that are held against it.

How much of an exact polytope a hull of approximate vertices fills, without any volume.

In hundreds of dimensions a hull of a few points has no volume; widths, distances and depths say
what can be said. All are in the unit of a pixel, 0 to 1.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from patchcollide.errors import ProgramError, TargetError
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.extents import find_far_pair
from patchcollide.polyhedra.linear_programs import minimise
from patchcollide.polyhedra.spaces import PixelBox
from patchcollide.polyhedra.subspaces import Subspace, row_space
from patchcollide.polyhedra.tolerances import SHARE
from patchcollide.shapes import Float64, Int64, ndarray

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
    span = row_space(centred)
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


@dataclass(frozen=True, eq=False)
class Reference:
    """A polytope, and what hulls in it are held against.

    Attributes:
        polytope: Of pixels.
        subspace: That of its equations, through the target.
        vertices: Its own, for the units that approximate vertices drive.
        far_distance: Between the farthest two vertices found.
        directions: Of length 1, along the subspace.
        widths: Of the polytope in these directions.
    """

    polytope: ExactPolytope
    subspace: Subspace
    vertices: Float64[ndarray, "vertices pixels"]
    far_distance: float
    directions: Float64[ndarray, "directions pixels"]
    widths: Float64[ndarray, "directions"]


def measure_reference(
    polytope: ExactPolytope,
    target: Float64[ndarray, "pixels"],
    units: Int64[ndarray, "units"],
    rng: np.random.Generator,
    *,
    num_directions: int = 16,
    num_starts: int = 3,
) -> Reference:
    """Measures a polytope itself, once for all hulls.

    Args:
        polytope: Of pixels, bounded.
        target: An image in it.
        units: Those that approximate vertices drive, one each.
        rng: Draws directions.
        num_directions: Along the subspace, two linear programs each.
        num_starts: Of the search for the far pair.

    Raises:
        ProgramError: If the polytope is of coefficients, not of pixels.
        TargetError: If the target is not in the polytope.
        UnboundedError: If the polytope has no end.
    """
    if not isinstance(polytope.space, PixelBox):
        raise ProgramError(
            "Vertices are held against a polytope of pixels, but this one is of "
            f"{polytope.space.num_variables} coefficients. Leave the neighbours out."
        )
    missed = polytope.contains(target)
    if not missed.inside:
        raise TargetError(
            f"The target should lie in its own polytope, but misses {missed.constraint} by "
            f"{missed.violation:.3g}. Give the image that the polytope is of."
        )
    constraints = polytope.constraints
    subspace = Subspace.of(constraints.matrix[constraints.equations], target)
    directions = subspace.draw(num_directions if subspace.dimension else 0, rng)
    vertices = [vertex.image for vertex in polytope.unit_vertices(units)]
    return Reference(
        polytope=polytope,
        subspace=subspace,
        vertices=np.array(vertices).reshape(-1, len(target)),
        far_distance=find_far_pair(polytope, rng, num_starts).distance,
        directions=directions,
        widths=exact_widths(polytope, directions),
    )


def exact_widths(
    polytope: ExactPolytope, directions: Float64[ndarray, "directions pixels"]
) -> Float64[ndarray, "directions"]:
    """Returns the largest less the smallest product of a polytope's images with directions."""
    ends = [
        polytope.minimise(sign * direction).value for direction in directions for sign in (-1, 1)
    ]
    return np.asarray(np.maximum(-np.reshape(ends, (-1, 2)).sum(axis=1), 0.0))


def depths(
    reference: Reference, points: Float64[ndarray, "points pixels"]
) -> Float64[ndarray, "points"]:
    """Returns how far points of the subspace are inside of the nearest inequality's boundary.

    Distances are along the subspace. Inside they are those to the polytope's boundary; outside
    they are negative, and the polytope may be farther. Inequalities that do not vary along the
    subspace have no boundary there; infinite if there is no other.
    """
    rows, variables, constraints = *_reaches(reference), reference.polytope.constraints
    values = points @ constraints.matrix.T + constraints.offset
    rooms = [
        (constraints.upper - values, rows),
        (values - constraints.lower, rows),
        (constraints.variable_upper - points, variables),
        (points - constraints.variable_lower, variables),
    ]
    found = [room[:, reach > 0] / reach[reach > 0] for room, reach in rooms]
    return np.asarray(np.concatenate(found, axis=1).min(axis=1, initial=np.inf))


def _reaches(reference: Reference) -> tuple[ndarray, ndarray]:
    """Returns how fast inequalities and pixels vary along the subspace; equations do not."""
    constraints = reference.polytope.constraints
    rows = reference.subspace.reach_of_rows(constraints.matrix)
    return np.where(constraints.equations, 0.0, rows), reference.subspace.reach_of_variables


def eased(reference: Reference, tolerance: float) -> ExactPolytope:
    """Returns the polytope without equations, its inequalities moved outwards by a distance."""
    polytope, space = reference.polytope, reference.polytope.space
    equal = polytope.constraints.equations
    away = tolerance * _reaches(reference)[0]
    low, high = space.lower.min(), space.upper.max()
    return replace(
        polytope,
        lower=np.where(equal, -np.inf, polytope.lower - away),
        upper=np.where(equal, np.inf, polytope.upper + away),
        space=PixelBox(len(space.lower), low - tolerance, high + tolerance),
    )


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
    between = row_space(spread(nearest))
    span = rng.standard_normal((len(reference.directions) if len(between) else 0, len(between)))
    span = (span / np.linalg.norm(span, axis=1, keepdims=True)) @ between
    inner_depths = depths(reference, nearest)
    easing = max(float(-inner_depths.min()), _LEAST_EASING * _pixel_range(reference))
    roomy = eased(reference, easing)

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
        subspace=_reach(nearest, roomy, reference.directions, reference.widths, subspace.dimension),
        span=_reach(nearest, roomy, span, exact_widths(reference.polytope, span), len(between)),
    )


def _reach(
    vertices: Float64[ndarray, "vertices pixels"],
    roomy: ExactPolytope,
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
    outer = np.mean([roomy.leaving(centre, direction).distance for direction in directions])
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
