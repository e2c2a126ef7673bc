"""How large an exact polytope is: its far corners, and the largest ball that it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from patchcollide.errors import UnboundedError
from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.exact_polytope import ExactPolytope, Vertex
from patchcollide.polyhedra.linear_programs import minimise
from patchcollide.polyhedra.matrices import (
    Matrix,
    blocks,
    dense,
    from_entries,
    scaled_columns,
    selection,
)
from patchcollide.polyhedra.solver import require_memory
from patchcollide.shapes import Float64, ndarray

_MAX_ROUNDS = 50
# What a round must gain to be followed by another, as a share of the distance.
_GAIN = 1e-3


@dataclass(frozen=True, eq=False)
class FarPair:
    """Two vertices far apart: the farthest found, which need not be the farthest there are.

    Attributes:
        first: One end.
        second: The other.
        distance: L2 between their images, in the unit of a pixel.
    """

    first: Vertex
    second: Vertex
    distance: float


@dataclass(frozen=True, eq=False)
class FarVertex:
    """A vertex far from an image: the farthest found, which need not be the farthest there is.

    Attributes:
        vertex: The vertex.
        distance: L2 between its image and the one given, in the unit of a pixel.
    """

    vertex: Vertex
    distance: float


_Far = TypeVar("_Far", FarPair, FarVertex)


@dataclass(frozen=True, eq=False)
class Ball:
    """The largest ball around a point of a polytope, within its equations.

    Attributes:
        centre: A point of the space.
        image: Its image.
        radius: In the unit of the space's variables; 0 if the polytope is flatter than its
            equations say.
    """

    centre: Float64[ndarray, "variables"]
    image: Float64[ndarray, "pixels"]
    radius: float


def find_far_pair(
    polytope: ExactPolytope, rng: np.random.Generator, num_starts: int = 3
) -> FarPair:
    """Looks for two vertices as far apart as can be, by linear programs in turn.

    From a random direction, both ends along it are found; then both ends along the line between
    these, and so on. The distance only grows; where it grows by less than a thousandth this ends.
    The largest distance is not proven: to find it is NP-hard.

    Args:
        polytope: Bounded.
        rng: Draws the first directions.
        num_starts: How often to begin.

    Raises:
        InfeasibleError: If the polytope is empty.
        UnboundedError: If it has no end in a direction that was tried.
    """
    pairs = [
        _spread(polytope, direction)
        for direction in rng.standard_normal((num_starts, polytope.matrix.shape[1]))
    ]
    return max(pairs, key=lambda pair: pair.distance)


def _spread(polytope: ExactPolytope, direction: Float64[ndarray, "pixels"]) -> FarPair:
    def both_ends(direction: ndarray) -> tuple[FarPair, ndarray]:
        first, second = polytope.minimise(direction), polytope.minimise(-direction)
        # The smallest along this line is where the second end was.
        line = second.image - first.image
        return FarPair(first, second, float(np.linalg.norm(line))), line

    return _while_it_gains(both_ends, direction)


def find_most_changed(
    polytope: ExactPolytope,
    image: Float64[ndarray, "pixels"],
    rng: np.random.Generator,
    num_starts: int = 3,
) -> FarVertex:
    """Looks for the vertex farthest from an image, in L2, by linear programs in turn.

    The squared distance is convex, so the vertex farthest along its gradient is farther than the
    last; that is repeated until it gains less than a thousandth. The first start moves every pixel
    away from the half of the range it is in, which is the largest L1 change of an image of zeros
    and ones; the others are random. The largest distance is not proven.

    Args:
        polytope: Bounded.
        image: Any image, such as the target.
        rng: Draws the other starts.
        num_starts: How often to begin.

    Raises:
        InfeasibleError: If the polytope is empty.
        UnboundedError: If it has no end in a direction that was tried.
    """
    starts = [0.5 - image, *rng.standard_normal((max(num_starts - 1, 0), len(image)))]
    found = [_away(polytope, image, start) for start in starts]
    return max(found, key=lambda far: far.distance)


def _away(polytope: ExactPolytope, image: ndarray, direction: ndarray) -> FarVertex:
    def far_end(direction: ndarray) -> tuple[FarVertex, ndarray]:
        vertex = polytope.minimise(-direction)
        change = vertex.image - image
        return FarVertex(vertex, float(np.linalg.norm(change))), change

    return _while_it_gains(far_end, direction)


def _while_it_gains(step: Callable[[ndarray], tuple[_Far, ndarray]], direction: ndarray) -> _Far:
    """Goes on from a direction to what lies there and the next direction; returns the farthest."""
    best, direction = step(direction)
    for _ in range(_MAX_ROUNDS - 1):
        if not best.distance:
            break
        found, direction = step(direction)
        if found.distance <= best.distance * (1 + _GAIN):
            break
        best = found
    return best


def find_chebyshev_centre(polytope: ExactPolytope) -> Ball:
    """Finds the largest ball that a polytope holds, in the affine subspace of its equations.

    A row keeps its distance from the centre as far as it varies within that subspace: with ``Q``
    the projection onto it, ``a @ centre + radius * |Q a| <= upper``. The radius is maximised by
    one linear program. For a space of patches it is one of coefficients.

    Raises:
        InfeasibleError: If the polytope is empty.
        UnboundedError: If it holds balls of any size.
        ProgramError: If the program does not fit into memory, or cannot be solved.
    """
    constraints = polytope.constraints
    require_memory(constraints, polytope.memory_bytes)
    # Where the subspace lies does not matter for what changes along it.
    anywhere = np.zeros(len(constraints.variable_lower))
    # What is fixed does not vary, however large its weight.
    varying = scaled_columns(constraints.matrix, np.where(constraints.fixed, 0.0, 1.0))
    subspace = Subspace.of(_equations(constraints, varying), anywhere, constraints.sizes)
    within = subspace.reach_of_rows(varying)
    # One point has nothing around it; no ball is wider than its bounds.
    widths = constraints.variable_upper - constraints.variable_lower
    most = float(np.linalg.norm(widths)) if subspace.dimension else 0.0
    program = _inset(constraints, within, subspace.reach_of_variables, most)
    direction = np.zeros(len(program.variable_lower))
    direction[-1] = -1.0
    try:
        solution = minimise(direction, program, polytope.memory_bytes)
    except UnboundedError as error:
        raise UnboundedError(
            "The polytope holds balls of any size. Bound its space, for instance by the pixels' "
            "range.",
            ray=None if error.ray is None else error.ray[:-1],
        ) from error
    point = program.polished(solution.point)
    return Ball(point[:-1], polytope.space.image(point[:-1]), float(point[-1]))


def _equations(constraints: Constraints, matrix: Matrix) -> Matrix:
    """Returns the rows that are equations, and one for each variable that its bounds fix."""
    fixed = np.flatnonzero(constraints.fixed)
    rows = matrix[constraints.equations]
    if not len(fixed):
        return rows
    return np.vstack([dense(rows), dense(selection(fixed, len(constraints.fixed)))])


def _inset(constraints: Constraints, rows: ndarray, bounds: ndarray, most: float) -> Constraints:
    """Adds the radius as the last variable, and rows for the bounds it keeps away from."""
    low, high = constraints.variable_lower, constraints.variable_upper
    equal, nothing = constraints.equations, np.zeros(len(low))
    sides = []
    for matrix, offset, lower, upper, reach in (
        (
            constraints.matrix[~equal],
            constraints.offset[~equal],
            constraints.lower[~equal],
            constraints.upper[~equal],
            rows[~equal],
        ),
        (selection(np.arange(len(low)), len(low)), nothing, low, high, bounds),
    ):
        for sign, end in ((1.0, upper), (-1.0, -lower)):
            which = np.flatnonzero(np.isfinite(end) & (reach > 0))
            if len(which):
                side = sign * matrix[which], sign * offset[which], end[which], reach[which]
                sides.append(side)
    # Where the radius counts for nothing, constraints stay as they are.
    still = ~(rows > 0) | equal
    parts = [[constraints.matrix[still], None]] if still.any() else []
    parts += [[matrix, _column(reach)] for matrix, _, _, reach in sides]
    # A row for the radius alone, for there may be no other.
    parts += [[selection(np.arange(1), len(low)) * 0.0, _column(np.ones(1))]]
    ends = np.concatenate([*(end for _, _, end, _ in sides), [np.inf]])
    return Constraints(
        matrix=blocks(parts),
        offset=np.concatenate(
            [constraints.offset[still], *(offset for _, offset, _, _ in sides), [0.0]]
        ),
        lower=np.concatenate([constraints.lower[still], np.full(len(ends), -np.inf)]),
        upper=np.concatenate([constraints.upper[still], ends]),
        variable_lower=np.append(low, 0.0),
        variable_upper=np.append(high, most),
        hard=np.zeros(int(still.sum()) + len(ends), dtype=bool),
    )


def _column(values: ndarray) -> object:
    places = np.arange(len(values))
    return from_entries(values, places, np.zeros_like(places), (len(values), 1))
