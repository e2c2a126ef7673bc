"""Linear programs: a point, or which constraints clash, or a ray without end."""

from dataclasses import dataclass, replace

import numpy as np

from patchcollide.constraints import Constraints
from patchcollide.errors import InfeasibleError, ProgramError, UnboundedError
from patchcollide.highs import (
    INFEASIBLE,
    MEMORY_BYTES,
    UNBOUNDED,
    WIDE_TOLERANCE,
    Solution,
    require_memory,
    solve,
)
from patchcollide.matrices import blocks, dense, from_entries
from patchcollide.shapes import Float64, ndarray

SMALLEST_VIOLATION = 1e-9
"""Clashes by less than this are rounding, of float64 and of the solver."""
_NAMED = 6


@dataclass(frozen=True, eq=False)
class Clash:
    """How far constraints are from being met together.

    Attributes:
        violation: The least by which all rows that may give way must do so, in their units.
        point: Where no row is violated by more.
        members: The constraints that clash, none of which could be left out (up to rounding).
    """

    violation: float
    point: Float64[ndarray, "variables"]
    members: tuple[str, ...]


def minimise(
    direction: Float64[ndarray, "variables"],
    constraints: Constraints,
    memory_bytes: int = MEMORY_BYTES,
) -> Solution:
    """Finds where ``direction @ point`` is smallest.

    Args:
        direction: Any numbers; of zeros it asks for any point.
        constraints: What the point meets, within 1e-10 where the solver can.
        memory_bytes: The most the solver may take.

    Raises:
        InfeasibleError: If no point meets the constraints; says which clash.
        UnboundedError: If there is no smallest value; holds a ray on which it falls.
        ProgramError: If the program is too large for the memory, or the solver gives up.
    """
    require_memory(constraints, memory_bytes)
    _require_ordered(constraints)
    if not np.isfinite(direction).all():
        raise ProgramError("What is minimised has a weight that is NaN or infinite. Correct it.")
    solution, status = solve(direction, constraints)
    if solution is not None:
        return solution
    if status == UNBOUNDED:
        raise _unbounded(direction, constraints)
    if status == INFEASIBLE:
        clash = _clash(constraints, memory_bytes)
        if clash.violation <= SMALLEST_VIOLATION:
            solution, _ = solve(direction, constraints, (WIDE_TOLERANCE,))
        if solution is None:
            raise _infeasible(clash)
        return solution
    raise ProgramError(
        f"The linear program of {len(constraints.lower)} constraints on {len(direction)} variables "
        "could not be solved in float64. Check that the weights of the layer have no extreme "
        "values, or allow units a tolerance."
    )


def least_violation(constraints: Constraints, memory_bytes: int = MEMORY_BYTES) -> Clash:
    """Finds the point that misses the constraints least, and which of them keep it from more.

    All rows that are not hard give way by the same amount, which is minimised. The rows and
    bounds with a multiplier in the dual are the clash.

    Raises:
        InfeasibleError: If the hard rows and bounds cannot be met by themselves.
        ProgramError: If the program is too large for the memory, or the solver gives up.

    Source:
        The multipliers are a vertex of the Farkas cone's cross-section, whose supports are the
        minimal clashes: Gleeson and Ryan, "Identifying Minimally Infeasible Subsystems of
        Inequalities", ORSA Journal on Computing 2 (1), 1990.
    """
    _require_ordered(constraints)
    elastic, sources = _elastic(constraints)
    require_memory(elastic, memory_bytes)
    direction = np.zeros(len(elastic.variable_lower))
    direction[-1] = 1.0
    solution, status = solve(direction, elastic)
    if solution is None:
        if status == INFEASIBLE and constraints.hard.any():
            soft = replace(constraints, hard=np.zeros_like(constraints.hard))
            raise _infeasible(least_violation(soft, memory_bytes))
        raise ProgramError(
            f"Which of {len(constraints.lower)} constraints clash could not be found in float64."
        )
    point = solution.point[:-1]
    return Clash(solution.value, point, _members(constraints, solution, sources))


def _clash(constraints: Constraints, memory_bytes: int) -> Clash:
    try:
        return least_violation(constraints, memory_bytes)
    except InfeasibleError:
        raise
    except ProgramError as error:
        raise InfeasibleError(
            f"No point meets all constraints. Which of them clash is not known: {error}"
        ) from error


def find_ray(
    direction: Float64[ndarray, "variables"], constraints: Constraints
) -> Float64[ndarray, "variables"] | None:
    """Returns a direction without end in which a linear function falls; None if there is none.

    Along it no coordinate is larger than 1; from any point of the polyhedron it stays inside.
    """
    low, high = constraints.variable_lower, constraints.variable_upper
    cone = replace(
        constraints,
        offset=np.zeros_like(constraints.offset),
        lower=np.where(np.isfinite(constraints.lower), 0.0, -np.inf),
        upper=np.where(np.isfinite(constraints.upper), 0.0, np.inf),
        variable_lower=np.where(np.isfinite(low), 0.0, -1.0),
        variable_upper=np.where(np.isfinite(high), 0.0, 1.0),
    )
    solution, _ = solve(direction, cone)
    if solution is None or solution.value >= -SMALLEST_VIOLATION * abs(direction).max():
        return None
    return cone.polished(solution.point)


def _elastic(constraints: Constraints) -> tuple[Constraints, ndarray]:
    """Splits rows into their sides and lets those that may give way by one more variable.

    Returns the constraints, and which row each side belongs to.
    """
    above = np.flatnonzero(np.isfinite(constraints.lower))
    below = np.flatnonzero(np.isfinite(constraints.upper))
    sources = np.concatenate([above, below])
    gives = np.where(constraints.hard[sources], 0.0, 1.0)
    gives[len(above) :] *= -1
    places = np.arange(len(sources))
    column = from_entries(gives, places, np.zeros_like(places), (len(sources), 1))
    nothing = np.full(len(sources), np.inf)
    lower, upper = -nothing, nothing.copy()
    lower[: len(above)] = constraints.lower[above]
    upper[len(above) :] = constraints.upper[below]
    matrix = constraints.matrix[sources]
    joined = (
        np.hstack([matrix, dense(column)])
        if isinstance(matrix, np.ndarray)
        else blocks([[matrix, column]])
    )
    elastic = Constraints(
        matrix=joined,
        offset=constraints.offset[sources],
        lower=lower,
        upper=upper,
        variable_lower=np.append(constraints.variable_lower, 0.0),
        variable_upper=np.append(constraints.variable_upper, np.inf),
        hard=constraints.hard[sources],
    )
    return elastic, sources


def _members(constraints: Constraints, solution: Solution, sources: ndarray) -> tuple[str, ...]:
    """Names what has a multiplier, rows first, the largest first; hard rows too."""
    rows, bounds = solution.row_duals, solution.bound_duals[:-1]
    smallest = SMALLEST_VIOLATION * abs(rows).max(initial=0.0)
    # What presses from above has a negative multiplier: raising it lowers the value.
    names = [
        *(constraints.describe_row(int(sources[i]), bool(rows[i] < 0)) for i in _largest(rows)),
        *(constraints.describe_bound(int(i), bool(bounds[i] < 0)) for i in _largest(bounds)),
    ]
    sizes = np.concatenate([abs(rows)[_largest(rows)], abs(bounds)[_largest(bounds)]])
    return tuple(
        dict.fromkeys(name for name, size in zip(names, sizes, strict=True) if size > smallest)
    )


def _largest(values: ndarray) -> ndarray:
    return np.argsort(-abs(values), kind="stable")


def _require_ordered(constraints: Constraints) -> None:
    """Refuses what is empty by itself.

    Raises:
        InfeasibleError: If a lower bound is above its upper one.
    """
    sides = (
        (constraints.name_row, constraints.lower, constraints.upper),
        (constraints.name_variable, constraints.variable_lower, constraints.variable_upper),
    )
    for name, lower, upper in sides:
        for number in np.flatnonzero((lower > upper) | np.isposinf(lower) | np.isneginf(upper))[:1]:
            clash = (
                f"{name(number)} >= {lower[number]:.6g}",
                f"{name(number)} <= {upper[number]:.6g}",
            )
            raise InfeasibleError(
                f"No point meets {clash[0]} and {clash[1]}: correct the bounds.", clash=clash
            )


def _infeasible(clash: Clash) -> InfeasibleError:
    named = ", ".join(clash.members[:_NAMED])
    more = len(clash.members) - _NAMED
    return InfeasibleError(
        f"No point meets all constraints. {len(clash.members)} of them clash: {named}"
        f"{f' and {more} more' if more > 0 else ''}. Units would have to miss their bounds by "
        f"{clash.violation:.3g}: allow them that as a tolerance, or choose another target or a "
        "larger space.",
        clash=clash.members,
        violation=clash.violation,
    )


def _unbounded(direction: ndarray, constraints: Constraints) -> UnboundedError:
    ray = find_ray(direction, constraints)
    if ray is None:
        where = "no ray could be computed"
    else:
        largest = _largest(ray)[:3]
        steps = [f"{constraints.name_variable(int(i))} by {ray[i]:.3g}" for i in largest if ray[i]]
        where = f"it falls for ever along a ray that moves {', '.join(steps)} ..."
    return UnboundedError(
        f"There is no smallest value: {where}. Bound the space, for instance by the pixels' range.",
        ray=ray,
    )
