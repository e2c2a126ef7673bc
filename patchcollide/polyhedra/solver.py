"""SciPy's solvers: HiGHS for linear programs, and least squares with non-negative weights."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchcollide.errors import ProgramError
from patchcollide.formats import format_size
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.matrices import (
    blocks,
    powers_of_two,
    row_norms,
    scaled_columns,
    scaled_rows,
)
from patchcollide.polyhedra.tolerances import ROUNDING, SOLVED, WIDE
from patchcollide.shapes import Float64, ndarray

MEMORY_BYTES = 2 * 10**9
"""What a program may take if the caller does not say."""
BYTES_AN_ENTRY = 200
"""Peak memory while SciPy and HiGHS each hold copies of the matrix: 165 measured, and ours."""
OPTIMAL, INFEASIBLE, UNBOUNDED = 0, 2, 3
"""Of SciPy's statuses, those that are answers."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A basic solution: where a linear function is smallest.

    Attributes:
        point: The variables, at a vertex of the polyhedron if it has one.
        value: Of the function there.
        row_duals: How fast the value changes with each row's bounds.
        bound_duals: The same of the variables' bounds.
    """

    point: Float64[ndarray, "variables"]
    value: float
    row_duals: Float64[ndarray, "rows"]
    bound_duals: Float64[ndarray, "variables"]


def require_memory(constraints: Constraints, memory_bytes: int) -> None:
    """Refuses a program that the solver has no memory for.

    Raises:
        ProgramError: If it would take more than ``memory_bytes``.
    """
    needed = BYTES_AN_ENTRY * constraints.num_entries
    if needed > memory_bytes:
        rows, columns = constraints.matrix.shape
        raise ProgramError(
            f"A linear program of {rows} constraints on {columns} variables needs about "
            f"{format_size(needed)} of memory, but may take {format_size(memory_bytes)}. Allow "
            "more, or choose a layer with fewer units or a smaller input."
        )


def solve(
    direction: ndarray,
    constraints: Constraints,
    tolerances: tuple[float, ...] = (SOLVED, WIDE),
) -> tuple[Solution | None, int]:
    """Returns a solution, or None and why there is none, as SciPy's status.

    HiGHS drops entries below 1e-9 and takes its tolerances as they are, so each variable is given
    in its size, from its lower bound if that is far from 0, and each row in its range. Fixed
    variables are put in: their columns are zeros.
    """
    scaled = _ScaledProgram(direction, constraints)
    # Of a dense matrix presolving removes nothing, and takes a quarter of the time.
    presolves = (False, True) if isinstance(constraints.matrix, np.ndarray) else (True, False)
    for tolerance, presolve in itertools.product(tolerances, presolves):
        found = _run(scaled.program, tolerance, presolve)
        if found.status in (OPTIMAL, INFEASIBLE, UNBOUNDED):
            break
    return (scaled.solution(found) if found.status == OPTIMAL else None), int(found.status)


class _ScaledProgram:
    """A program in the units that HiGHS is given, and the way back from these.

    Attributes:
        program: What SciPy takes.
    """

    def __init__(self, direction: ndarray, constraints: Constraints) -> None:
        self._direction, self._constraints = direction, constraints
        self._sizes = np.where(constraints.fixed, 0.0, constraints.sizes)
        self._divisors = np.where(constraints.fixed, 1.0, self._sizes)
        self._start = _start(constraints)
        sized = scaled_columns(constraints.matrix, self._sizes)
        # Powers of two: scaling them loses nothing.
        self._factors = 1 / powers_of_two(row_norms(sized))
        matrix = scaled_rows(sized, self._factors)
        goal = direction * self._sizes
        self._scale = abs(goal).max(initial=0.0) or 1.0
        self._equal = equal = constraints.equations
        self._below = below = np.isfinite(constraints.upper) & ~equal
        self._above = above = np.isfinite(constraints.lower) & ~equal
        lower, upper = self._ends()
        bounds = (constraints.variable_lower, constraints.variable_upper)
        self.program = {
            "c": goal / self._scale,
            "A_eq": matrix[equal],
            "b_eq": upper[equal],
            "A_ub": _stacked(matrix[below], -matrix[above]),
            "b_ub": np.concatenate([upper[below], -lower[above]]),
            "bounds": np.column_stack([(end - self._start) / self._divisors for end in bounds]),
        }

    def _ends(self) -> tuple[Float64[ndarray, "rows"], Float64[ndarray, "rows"]]:
        constraints = self._constraints
        shift = constraints.offset
        if self._start.any():
            shift = shift + constraints.matrix @ self._start
        # Of rows of zeros only the signs say anything.
        empty = ~(constraints.ranges > 0)
        lower, upper = (
            np.where(empty, _signs(end, shift), (end - shift) * self._factors)
            for end in (constraints.lower, constraints.upper)
        )
        return lower, upper

    def solution(self, found: Any) -> Solution:
        """Returns what SciPy found, in the units of the constraints."""
        constraints, direction = self._constraints, self._direction
        duals = np.zeros(len(self._factors))
        duals[self._equal] = found.eqlin.marginals
        marginals = np.split(found.ineqlin.marginals, [self._below.sum()])
        duals[self._below] += marginals[0]
        duals[self._above] -= marginals[1]
        row_duals = self._scale * duals * self._factors
        bound_duals = self._scale * (found.lower.marginals + found.upper.marginals)
        if (self._sizes != 1).any():
            bound_duals = bound_duals / self._divisors
            fixed = np.flatnonzero(constraints.fixed)
            bound_duals[fixed] = direction[fixed] - constraints.matrix[:, fixed].T @ row_duals
        point = self._start + self._sizes * found.x
        return Solution(point, float(direction @ point), row_duals, bound_duals)


def _start(constraints: Constraints) -> Float64[ndarray, "variables"]:
    """Returns what variables are counted from: 0, or a lower bound that is far from it."""
    low, fixed = constraints.variable_lower, constraints.fixed
    boxed = np.isfinite(low) & np.isfinite(constraints.variable_upper)
    far = boxed & (abs(low) > constraints.sizes)
    return np.where(far | fixed, low, 0.0)


def _signs(ends: Float64[ndarray, "rows"], shift: Float64[ndarray, "rows"]) -> ndarray:
    """Returns on which side of a constant ends are: 0 where rounding may be all the difference."""
    apart = ends - shift
    rounding = ROUNDING * (abs(shift) + np.where(np.isfinite(ends), abs(ends), 0.0))
    return np.where(np.isfinite(ends), np.where(abs(apart) > rounding, np.sign(apart), 0.0), ends)


def _run(program: Mapping[str, Any], tolerance: float, presolve: bool) -> Any:
    # Takes a second to import, which only exact polytopes should wait for.
    from scipy.optimize import linprog

    options = {
        "primal_feasibility_tolerance": tolerance,
        "dual_feasibility_tolerance": tolerance,
        "presolve": presolve,
    }
    return linprog(**program, method="highs-ds", options=options)


def _stacked(first: Any, second: Any) -> Any:
    filled = [part for part in (first, second) if part.shape[0]]
    return blocks([[part] for part in filled]) if filled else first


def shortest_sum(
    rows: Float64[ndarray, "rows columns"],
) -> tuple[Float64[ndarray, "rows"], Float64[ndarray, "columns"]]:
    """Finds the shortest sum of rows that each have a weight of at least 1.

    Returns:
        The weights, and the sum. The scalar product of the sum with any row is not negative.

    Raises:
        ProgramError: If the solver gives up.

    Source:
        Lawson and Hanson, "Solving Least Squares Problems", 1974, for what exceeds 1.
    """
    from scipy.optimize import nnls

    try:
        more, _ = nnls(np.ascontiguousarray(rows.T), -rows.sum(axis=0))
    except RuntimeError as error:
        raise ProgramError(
            f"The shortest sum of {len(rows)} rows was not found: {error}"
        ) from error
    return 1 + more, (1 + more) @ rows
