"""Constraints that clash: which, by how much, and whether that is certain."""

from dataclasses import dataclass, replace

import numpy as np

from patchcollide.errors import InfeasibleError, ProgramError
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.matrices import blocks, dense, from_entries, powers_of_two
from patchcollide.polyhedra.solver import (
    INFEASIBLE,
    MEMORY_BYTES,
    Solution,
    require_memory,
    solve,
)
from patchcollide.polyhedra.tolerances import SHARE, TIGHT
from patchcollide.shapes import Float64, ndarray

_NAMED = 6


@dataclass(frozen=True, eq=False)
class Clash:
    """How far constraints are from being met together.

    Attributes:
        violation: The least by which all rows that may give way must do so, in their units.
        point: Where no row is violated by more.
        members: The constraints that clash, none of which could be left out (up to rounding).
        is_certain: Whether no point far away could meet them all the same: where a variable has no
            end, what the members say together must not depend on it.
    """

    violation: float
    point: Float64[ndarray, "variables"]
    members: tuple[str, ...]
    is_certain: bool = True


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
    require_ordered(constraints)
    # What all give way by is measured in the range of the widest row, so that none is lost.
    unit = float(powers_of_two(np.array([constraints.ranges.max(initial=0.0) or 1.0]))[0])
    gives = np.where(constraints.hard, 0.0, unit)
    elastic, sources = elastic_rows(constraints, gives)
    require_memory(elastic, memory_bytes)
    direction = np.zeros(len(elastic.variable_lower))
    direction[-1] = 1.0
    solution, status = solve(direction, elastic)
    if solution is None:
        if status == INFEASIBLE and constraints.hard.any():
            soft = replace(constraints, hard=np.zeros_like(constraints.hard))
            raise infeasible(least_violation(soft, memory_bytes))
        raise ProgramError(
            f"Which of {len(constraints.lower)} constraints clash could not be found in float64."
        )
    point = solution.point[:-1]
    return Clash(
        violation=unit * solution.value,
        point=point,
        members=_members(constraints, solution, sources),
        is_certain=_is_certain(elastic, solution),
    )


def _is_certain(elastic: Constraints, solution: Solution) -> bool:
    """Says whether the rows, weighted by their multipliers, clash for every point in the bounds.

    The weighted sum must not grow along a variable without end; of sums of terms that cancel
    rounding leaves a share.
    """
    weights, last = solution.row_duals, -1
    sums = np.asarray(elastic.matrix.T @ weights)[:last]
    allowed = TIGHT * np.asarray(abs(elastic.matrix).T @ abs(weights))[:last]
    grows = (sums > allowed) & np.isposinf(elastic.variable_upper[:last])
    falls = (sums < -allowed) & np.isneginf(elastic.variable_lower[:last])
    return bool(solution.value > 0 and not (grows | falls).any())


def missed_constant(constraints: Constraints) -> Clash | None:
    """Returns the clash of a row of zeros with its own bounds, whatever the point; None if none."""
    point = np.where(constraints.fixed, constraints.variable_lower, 0.0)
    missed = constraints.violations(point)[0]
    missed[(constraints.ranges > 0) | (missed <= constraints.rounding(point))] = 0.0
    row = int(missed.argmax()) if len(missed) else 0
    if not missed.any():
        return None
    at_upper = bool(constraints.values(point)[row] > constraints.upper[row])
    return Clash(float(missed[row]), point, (constraints.describe_row(row, at_upper),))


def elastic_rows(constraints: Constraints, steps: ndarray) -> tuple[Constraints, ndarray]:
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
        *(
            constraints.describe_row(int(sources[i]), bool(rows[i] < 0))
            for i in largest_first(rows)
        ),
        *(constraints.describe_bound(int(i), bool(bounds[i] < 0)) for i in largest_first(bounds)),
    ]
    sizes = np.concatenate([abs(rows)[largest_first(rows)], abs(bounds)[largest_first(bounds)]])
    return tuple(
        dict.fromkeys(name for name, size in zip(names, sizes, strict=True) if size > smallest)
    )


def largest_first(values: ndarray) -> ndarray:
    """Returns where values are, the largest in size first."""
    return np.argsort(-abs(values), kind="stable")


def require_ordered(constraints: Constraints) -> None:
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


def infeasible(clash: Clash) -> InfeasibleError | ProgramError:
    """Returns the error that names a clash, or says that it is not certain that there is one."""
    if not clash.is_certain:
        return ProgramError(
            "Whether a point meets all constraints is not certain in float64: none was found, but "
            "variables have no end, and one far away might. Bound the space, for instance by the "
            "pixels' range, or choose a layer whose weights are less far apart."
        )
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
