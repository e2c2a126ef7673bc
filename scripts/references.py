"""An exact polytope of pixels, measured once for all hulls that are held against it."""

from dataclasses import dataclass, replace

import numpy as np

from patchcollide.errors import ProgramError, TargetError
from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.extents import find_far_pair
from patchcollide.polyhedra.image_spaces import PixelBox
from patchcollide.shapes import Float64, Int64, ndarray


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
        num_starts: Of the way to the far pair.

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
    slacks = [
        (constraints.upper - values, rows),
        (values - constraints.lower, rows),
        (constraints.variable_upper - points, variables),
        (points - constraints.variable_lower, variables),
    ]
    found = [slack[:, reach > 0] / reach[reach > 0] for slack, reach in slacks]
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
