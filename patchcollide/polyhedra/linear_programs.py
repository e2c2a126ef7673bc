"""Linear programs: a point, or which constraints clash, or a ray without end."""

from dataclasses import dataclass, replace

import numpy as np

from patchcollide.errors import InfeasibleError, ProgramError, UnboundedError
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.matrices import blocks, dense, from_entries, powers_of_two
from patchcollide.polyhedra.solver import (
    INFEASIBLE,
    MEMORY_BYTES,
    UNBOUNDED,
    Solution,
    require_memory,
    solve,
)
from patchcollide.polyhedra.tolerances import SHARE
from patchcollide.shapes import Float64, ndarray

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
    refused = _refusal(constraints, memory_bytes) if status == INFEASIBLE else None
    if refused is None or refused.violation is None or refused.violation <= _most(constraints):
        eased = _eased(constraints, memory_bytes)
        if eased is not None:
            solution, _ = solve(direction, eased)
            if solution is not None:
                return solution
    if refused is not None:
        raise refused
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
    # What all give way by is measured in the range of the widest row, so that none is lost.
    unit = float(powers_of_two(np.array([constraints.ranges.max(initial=0.0) or 1.0]))[0])
    gives = np.where(constraints.hard, 0.0, unit)
    elastic, sources = _elastic(constraints, gives)
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
    return Clash(unit * solution.value, point, _members(constraints, solution, sources))


def _allowances(constraints: Constraints) -> ndarray:
    """Returns by how much rows may miss their bounds without saying that there is no point."""
    return np.asarray(SHARE * constraints.ranges + constraints.rounding(constraints.sizes))


def _most(constraints: Constraints) -> float:
    return float(_allowances(constraints).max(initial=0.0))


def _eased(constraints: Constraints, memory_bytes: int) -> Constraints | None:
    """Returns constraints that miss each other by rounding alone as they can be met; or None.

    Each row gives way by its own range, and by what the size of its terms makes of rounding, so
    hard rows do too: whether it is rounding does not depend on what they are for.
    """
    if not len(constraints.lower):
        return None
    elastic, _ = _elastic(constraints, _allowances(constraints) / SHARE)
    try:
        require_memory(elastic, memory_bytes)
    except ProgramError:
        return None
    direction = np.zeros(len(elastic.variable_lower))
    direction[-1] = 1.0
    solution, _ = solve(direction, elastic)
    if solution is None or solution.value > SHARE:
        return None
    products = np.asarray(constraints.matrix @ solution.point[:-1])
    lower, upper = constraints.lower - constraints.offset, constraints.upper - constraints.offset
    return replace(
        constraints,
        offset=np.zeros_like(constraints.offset),
        lower=np.where(constraints.equations, products, np.minimum(lower, products)),
        upper=np.where(constraints.equations, products, np.maximum(upper, products)),
    )


def _refusal(constraints: Constraints, memory_bytes: int) -> InfeasibleError:
    """Returns the error that says which constraints clash."""
    try:
        return _infeasible(least_violation(constraints, memory_bytes))
    except InfeasibleError as error:
        return error
    except ProgramError as error:
        return InfeasibleError(
            f"No point meets all constraints. Which of them clash is not known: {error}"
        )


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
        variable_lower=np.where(np.isfinite(low), 0.0, -constraints.sizes),
        variable_upper=np.where(np.isfinite(high), 0.0, constraints.sizes),
    )
    solution, _ = solve(direction, cone)
    if solution is None or solution.value >= -SHARE * abs(direction * constraints.sizes).max():
        return None
    ray = cone.polished(solution.point)
    return np.asarray(ray / (abs(ray).max() if (constraints.sizes != 1).any() else 1.0))


def _elastic(constraints: Constraints, steps: ndarray) -> tuple[Constraints, ndarray]:
    """Splits rows into their sides and lets each give way by so much times one more variable.

    Returns the constraints, and which row each side belongs to.
    """
    above = np.flatnonzero(np.isfinite(constraints.lower))
    below = np.flatnonzero(np.isfinite(constraints.upper))
    sources = np.concatenate([above, below])
    gives = steps[sources]
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
    # Beside each other they are by how much they press over a row's range, a variable's size.
    ranges = np.where(constraints.ranges > 0, constraints.ranges, 1.0)
    rows = solution.row_duals * ranges[sources]
    bounds = solution.bound_duals[:-1] * constraints.sizes
    smallest = SHARE * max(abs(rows).max(initial=0.0), abs(bounds).max(initial=0.0))
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
        wrong = (lower > upper) | np.isposinf(lower) | np.isneginf(upper)
        for number in np.flatnonzero(wrong)[:1].tolist():
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
