"""Whether a polyhedron goes on for ever: its recession cone, of directions without end."""

import numpy as np

from patchcollide.errors import ProgramError
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.linear_programs import minimise
from patchcollide.polyhedra.matrices import (
    Matrix,
    blocks,
    kernel,
    rank,
    scaled_columns,
    selection,
    unit_rows,
)
from patchcollide.polyhedra.solver import shortest_sum
from patchcollide.shapes import ndarray


def outward_directions(
    matrix: ndarray, upper: ndarray, lower: ndarray, bounds_upper: ndarray, bounds_lower: ndarray
) -> Matrix:
    """Stacks the directions, of length 1, in which some sides of rows and bounds are crossed.

    Args:
        matrix: A row for each constraint.
        upper: Which rows' upper sides are meant.
        lower: Which rows' lower sides.
        bounds_upper: Which variables' upper bounds.
        bounds_lower: Which variables' lower bounds.
    """
    scaled = unit_rows(matrix)
    every = selection(np.arange(matrix.shape[1]), matrix.shape[1])
    parts = (scaled[upper], -scaled[lower], every[bounds_upper], -every[bounds_lower])
    filled = [[part] for part in parts if part.shape[0]]
    return blocks(filled) if filled else scaled[:0]


def is_bounded(constraints: Constraints, rank_tolerance: float, memory_bytes: int) -> bool:
    """Returns whether the recession cone is the origin alone, so that no ray stays inside.

    Args:
        constraints: Of a polyhedron that is not empty.
        rank_tolerance: Directions count as zero below this share of their length.
        memory_bytes: The most a linear program may take.

    Source:
        It is if no line fits between the constraints, which is a matter of rank, and the outward
        normals have a sum with positive weights that is zero (Stiemke's lemma, here within the
        kernel of the equations). Of all sums with weights of at least 1 the shortest is computed:
        if it is not zero, the direction against it is one without end, because the conditions for
        a shortest one say that no normal points along that.
    """
    low, high = np.isfinite(constraints.variable_lower), np.isfinite(constraints.variable_upper)
    if (low & high).all():
        return True
    # What has two bounds goes nowhere, and how the others are measured does not matter.
    open_ended = np.flatnonzero(~(low & high))
    matrix = scaled_columns(constraints.matrix[:, open_ended], constraints.sizes[open_ended])
    equal, low, high = constraints.equations, low[open_ended], high[open_ended]
    outwards = outward_directions(
        matrix,
        np.isfinite(constraints.upper) & ~equal,
        np.isfinite(constraints.lower) & ~equal,
        high,
        low,
    )
    parts = [part for part in (matrix[equal], outwards) if part.shape[0]]
    if not parts:
        return not matrix.shape[1]
    # With a bound on every variable there is no line.
    if not (low | high).all():
        if rank(blocks([[part] for part in parts]), rank_tolerance) < matrix.shape[1]:
            return False
        if not outwards.shape[0]:
            return True
    return _has_no_ray(matrix[equal], outwards, rank_tolerance, memory_bytes)


def _has_no_ray(
    equations: ndarray, outwards: Matrix, rank_tolerance: float, memory_bytes: int
) -> bool:
    normals = np.asarray(outwards @ kernel(equations, rank_tolerance))
    # Rounding alone must not be blown up by a weight.
    normals[np.linalg.norm(normals, axis=1) <= rank_tolerance] = 0
    if not normals.size:
        return True
    try:
        weights, total = shortest_sum(normals)
    except ProgramError:
        return falls_nowhere(equations, outwards, memory_bytes)
    length = float(np.linalg.norm(total))
    if length <= rank_tolerance * weights.sum():
        return True
    if (normals @ total >= -rank_tolerance * length).all():
        return False
    return falls_nowhere(equations, outwards, memory_bytes)


def falls_nowhere(equations: ndarray, outwards: Matrix, memory_bytes: int) -> bool:
    """Returns by a linear program whether a cone without lines is the origin alone.

    Among its directions that fall away from no side by more than 1, which are enough because it is
    a cone, the sum of what they fall is largest at 0. Slow where there are many sides: most of
    them are tight at the solution.

    Args:
        equations: Rows that are zero on the cone.
        outwards: Rows that are at most zero on it.
        memory_bytes: The most the linear program may take.
    """
    parts = [part for part in (equations, outwards) if part.shape[0]]
    num_equal, num_rows = equations.shape[0], equations.shape[0] + outwards.shape[0]
    free = np.full(outwards.shape[1], np.inf)
    cone = Constraints(
        matrix=blocks([[part] for part in parts]),
        offset=np.zeros(num_rows),
        lower=np.where(np.arange(num_rows) < num_equal, 0.0, -1.0),
        upper=np.zeros(num_rows),
        variable_lower=-free,
        variable_upper=free,
        hard=np.zeros(num_rows, dtype=bool),
    )
    fall = minimise(outwards.T @ np.ones(outwards.shape[0]), cone, memory_bytes)
    return bool(fall.value > -0.5)
