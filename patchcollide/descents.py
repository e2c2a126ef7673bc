"""A unit of a layer with two inputs, pushed down below a bound that decreases."""

from dataclasses import dataclass

import numpy as np

from patchcollide.errors import ProgramError
from patchcollide.linear import ExactPolytope, Vertex
from patchcollide.polygons import HalfPlanes, nearest_point
from patchcollide.shapes import Float64, ndarray


@dataclass(frozen=True, eq=False)
class Descent:
    """Where the optimum moves as a unit's bound decreases.

    Attributes:
        unit: The unit.
        bounds: What its pre-activation may be at most: from that of the start down to the smallest
            one in the polytope, in equal steps.
        points: The point of the polytope nearest to the start, under each bound; the last one is
            the vertex.
        vertex: Where the unit is smallest, by linear programming.
    """

    unit: int
    bounds: Float64[ndarray, "steps"]
    points: Float64[ndarray, "steps 2"]
    vertex: Vertex


def half_planes(polytope: ExactPolytope) -> HalfPlanes:
    """Returns the sides of a polytope in a plane of points.

    Those of upper bounds come first, in the order of the units if all have one.

    Raises:
        ProgramError: If the points are not two numbers without sums to keep.
    """
    rows = polytope.constraints
    if rows.matrix.shape[1] != 2 or polytope.space.sums is not None:
        raise ProgramError(
            f"A polygon needs a space of two free variables, but found {rows.matrix.shape[1]}. "
            "Choose a layer with two inputs."
        )
    normals = np.vstack([rows.matrix, np.eye(2)])
    offsets = np.concatenate([rows.offset, np.zeros(2)])
    upper = np.concatenate([rows.upper, rows.variable_upper])
    lower = np.concatenate([rows.lower, rows.variable_lower])
    below, above = np.isfinite(upper), np.isfinite(lower)
    return HalfPlanes(
        np.vstack([normals[below], -normals[above]]),
        np.concatenate([(offsets - upper)[below], (lower - offsets)[above]]),
    )


def lower_unit(
    polytope: ExactPolytope, unit: int, start: Float64[ndarray, "2"], steps: int = 101
) -> Descent:
    """Pushes a unit down below a decreasing bound, as far as the polytope allows.

    Under each bound ``z_unit <= c`` the optimum is what is nearest to the start. It goes straight
    at first; once on a side it follows the sides, down to the vertex. If the unit is smallest on a
    whole side, the last step goes along it.

    Args:
        polytope: Of two free variables.
        unit: Any of its units.
        start: Where to begin, such as the target; a point of the polytope.
        steps: How many bounds, at least 2.

    Raises:
        InfeasibleError: If the polytope is empty.
        UnboundedError: If the unit has no smallest value there.
        ProgramError: If there is no such unit, or the start lies outside.

    Source:
        Li, Zhang and Malik 2019, Section 2 and Figure 1. The distance to the start, in place of the
        paper's loss, makes the optimum under a bound unique.
    """
    units = len(polytope.offset)
    if not 0 <= unit < units:
        raise ProgramError(f"There is no unit {unit}: the layer has {units}, counted from 0.")
    planes, normal = half_planes(polytope), polytope.matrix[unit]
    vertex = polytope.minimise(normal)
    membership = polytope.contains(start)
    if not membership.inside:
        raise ProgramError(
            f"The start should lie in the polytope, but {membership.constraint} is missed by "
            f"{membership.violation:.3g}. Begin at the target."
        )
    first = normal @ start + polytope.offset[unit]
    bounds = np.linspace(first, vertex.pre_activation[unit], steps)
    points = np.tile(vertex.point, (steps, 1))
    for step, bound in enumerate(bounds[:-1]):
        below = HalfPlanes(normal[None], polytope.offset[unit, None] - bound)
        nearest = nearest_point(planes.joined(below), start)
        # Of a polytope that is flat but for rounding, the vertex alone may be left.
        points[step] = vertex.point if nearest is None else nearest
    return Descent(unit, bounds, points, vertex)
