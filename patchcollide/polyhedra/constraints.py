"""Linear constraints on a point: which hold, which are tight, and how to meet them to the last bit.

A row says ``lower <= matrix @ point + offset <= upper``: an equation where both are equal, nothing
on a side that is infinite. A bound says the same of one variable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from patchcollide.errors import ProgramError
from patchcollide.polyhedra.matrices import (
    Matrix,
    all_finite,
    balanced_columns,
    block_of,
    connected_parts,
    entries_of,
    fit_as_they_are,
    largest_entries,
    lengths,
    num_entries,
    powers_of_two,
    rank,
    row_norms,
    scaled_columns,
)
from patchcollide.polyhedra.tolerances import MET, ROUNDING, SHARE, TIGHT
from patchcollide.shapes import Bool, Float64, ndarray

_TINY = 1e-320


@dataclass(frozen=True, eq=False)
class Constraints:
    """A polyhedron.

    Attributes:
        matrix: A row for each constraint, dense or sparse.
        offset: What is added to a row's product.
        lower: What the sum is at least; ``-inf`` for anything.
        upper: What it is at most; ``inf`` for anything, ``lower`` for an equation.
        variable_lower: Bounds of each variable.
        variable_upper: Bounds of each variable.
        hard: Rows that define the space; others give way when none can be met, see
            :func:`patchcollide.polyhedra.clashes.least_violation`.
        name_row: Says what a row is, such as ``unit 12``.
        name_variable: Says what a variable is, such as ``pixel 7``.

    Raises:
        ProgramError: If a number is NaN, or an entry of the matrix or the offset is infinite.
    """

    matrix: Matrix
    offset: Float64[ndarray, "rows"]
    lower: Float64[ndarray, "rows"]
    upper: Float64[ndarray, "rows"]
    variable_lower: Float64[ndarray, "variables"]
    variable_upper: Float64[ndarray, "variables"]
    hard: Bool[ndarray, "rows"]
    name_row: Callable[[int], str] = "row {}".format
    name_variable: Callable[[int], str] = "variable {}".format

    def __post_init__(self) -> None:
        expected = (len(self.lower), len(self.variable_lower))
        if self.matrix.shape != expected:
            raise ProgramError(
                f"The bounds are those of {expected[0]} rows and {expected[1]} variables, but the "
                f"matrix has {self.matrix.shape[0]} rows and {self.matrix.shape[1]} columns."
            )
        ends = (self.lower, self.upper, self.variable_lower, self.variable_upper)
        bad = any(np.isnan(end).any() for end in ends)
        if bad or not (all_finite(self.matrix) and np.isfinite(self.offset).all()):
            raise ProgramError(
                "A linear constraint holds NaN or an infinite weight. Check the weights of the "
                "layer and the features of the target."
            )

    @property
    def equations(self) -> Bool[ndarray, "rows"]:
        """Which rows are equations."""
        return np.asarray(self.lower == self.upper)

    @property
    def num_entries(self) -> int:
        """How many entries the matrix has."""
        return num_entries(self.matrix)

    @cached_property
    def fixed(self) -> Bool[ndarray, "variables"]:
        """Which variables their bounds leave one value."""
        return np.asarray(self.variable_lower == self.variable_upper)

    @cached_property
    def sizes(self) -> Float64[ndarray, "variables"]:
        """What a variable is measured in: a power of two.

        The width of its bounds, or without them what makes its column as large as others. A fixed
        one cannot vary: it has 1.
        """
        with np.errstate(invalid="ignore"):
            width = self.variable_upper - self.variable_lower
        known = np.isfinite(width) & (width > 0)
        found = np.where(known, powers_of_two(np.where(known, width, 1.0)), 1.0)
        free = ~(known | self.fixed)
        if not free.any():
            return found
        found = balanced_columns(self.matrix, np.where(self.fixed, 0.0, found), free)
        found[free] *= self._typical_sizes(found, known)[free]
        return np.where(self.fixed, 1.0, found)

    def _typical_sizes(self, sizes: ndarray, known: ndarray) -> Float64[ndarray, "variables"]:
        """Returns how far off boundaries are, in some sizes of variables: the median.

        One for all variables of a part of the matrix that has no entries in common with others; 1
        where one of them is known.
        """
        part_of_rows, part_of_variables = connected_parts(
            *entries_of(self.matrix)[1:], self.matrix.shape
        )
        reach = lengths(scaled_columns(self.matrix, sizes))
        rounding = ROUNDING * abs(self.offset)
        far, parts = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
        for end in (abs(self.lower - self.offset), abs(self.upper - self.offset)):
            which = np.isfinite(end) & (end > rounding) & (reach > 0)
            far.append(end[which] / reach[which])
            parts.append(part_of_rows[which])
        for end in (abs(self.variable_lower), abs(self.variable_upper)):
            which = np.isfinite(end) & (end > 0) & (sizes > 0)
            far.append(end[which] / sizes[which])
            parts.append(part_of_variables[which])
        every, part_of = np.concatenate(far), np.concatenate(parts)
        order = np.argsort(part_of, kind="stable")
        names, starts = np.unique(part_of[order], return_index=True)
        factors = np.ones(sum(self.matrix.shape))
        for name, found in zip(names, np.split(every[order], starts)[1:], strict=True):
            # A boundary through the origin but for rounding does not say how far off others are.
            median = np.median(found[found > ROUNDING * found.max()], keepdims=True)
            factors[name] = fit_as_they_are(powers_of_two(median))[0]
        factors[part_of_variables[known]] = 1.0
        return np.asarray(factors[part_of_variables])

    @cached_property
    def ranges(self) -> Float64[ndarray, "rows"]:
        """How much rows vary where variables do by their size: what is compared with it."""
        return lengths(scaled_columns(self.matrix, np.where(self.fixed, 0.0, self.sizes)))

    @cached_property
    def _constants(self) -> Float64[ndarray, "rows"]:
        """The sizes of the terms of each row that do not vary."""
        if not self.fixed.any():
            return abs(self.offset)
        fixed = np.flatnonzero(self.fixed)
        terms = abs(self.matrix[:, fixed]) @ abs(self.variable_lower[fixed])
        return np.asarray(abs(self.offset) + terms)

    @cached_property
    def _varies(self) -> Bool[ndarray, "variables"]:
        """Which variables are not fixed, and in a row."""
        return ~self.fixed & (largest_entries(self.matrix, axis=0) > 0)

    def rounding(self, point: Float64[ndarray, "variables"]) -> Float64[ndarray, "rows"]:
        """Returns by how much the values of rows may be wrong, for the size of their terms."""
        far = float(np.linalg.norm(np.where(self._varies, point, 0.0) / self.sizes))
        return np.asarray(ROUNDING * (self._constants + self.ranges * far))

    def share_missed(self, point: Float64[ndarray, "variables"], share: float = SHARE) -> float:
        """Returns the largest violation, over what counts as none; up to 1 all are met.

        Args:
            point: Any.
            share: Of a row's range, and of a variable's size, that counts as none. To it comes what
                rounding may have done.
        """
        rows, bounds = self.violations(point)
        allowed = share * self.ranges + self.rounding(point)
        # The smallest number of all, for rows of zeros: what they miss is missed for certain.
        beyond = share * self.sizes + ROUNDING * abs(point)
        with np.errstate(over="ignore"):
            row = (rows / np.maximum(allowed, _TINY)).max(initial=0.0)
            return float(max(row, (bounds / beyond).max(initial=0.0)))

    def values(self, point: Float64[ndarray, "variables"]) -> Float64[ndarray, "rows"]:
        """Returns ``matrix @ point + offset``."""
        return np.asarray(self.matrix @ point + self.offset)

    def violations(
        self, point: Float64[ndarray, "variables"]
    ) -> tuple[Float64[ndarray, "rows"], Float64[ndarray, "variables"]]:
        """Returns by how much rows and bounds are missed: 0 where they are met."""
        values = self.values(point)
        rows = np.maximum(self.lower - values, values - self.upper)
        bounds = np.maximum(self.variable_lower - point, point - self.variable_upper)
        return np.maximum(rows, 0.0), np.maximum(bounds, 0.0)

    def worst(self, point: Float64[ndarray, "variables"]) -> tuple[float, str | None]:
        """Returns the largest violation and what is violated; None if nothing is."""
        rows, bounds = self.violations(point)
        row, bound = rows.max(initial=0.0), bounds.max(initial=0.0)
        if not max(row, bound) > 0:
            return 0.0, None
        if row >= bound:
            number = int(rows.argmax())
            at_upper = bool(self.values(point)[number] > self.upper[number])
            return float(row), self.describe_row(number, at_upper)
        number = int(bounds.argmax())
        at_upper = bool(point[number] > self.variable_upper[number])
        return float(bound), self.describe_bound(number, at_upper)

    def describe_row(self, row: int, at_upper: bool) -> str:
        """Says what a row asks on its upper or lower side, such as ``unit 40 <= 0``."""
        return _describe(self.name_row(row), self.lower[row], self.upper[row], at_upper)

    def describe_bound(self, variable: int, at_upper: bool) -> str:
        """Says what the upper or lower bound of a variable is, such as ``pixel 7 >= 0``."""
        ends = self.variable_lower[variable], self.variable_upper[variable]
        return _describe(self.name_variable(variable), *ends, at_upper)

    def tight(
        self, point: Float64[ndarray, "variables"], tolerance: float = TIGHT
    ) -> tuple[Bool[ndarray, "rows"], Bool[ndarray, "variables"]]:
        """Returns which rows and bounds hold with equality.

        Args:
            point: Any.
            tolerance: How far the point may be from the boundary, as a share of the sizes of
                variables, and of the range of rows; more where rounding alone is.
        """
        values, reach = (
            self.values(point),
            np.maximum(tolerance * self.ranges, self.rounding(point)),
        )
        rows = np.minimum(abs(values - self.lower), abs(values - self.upper)) <= reach
        low, high = abs(point - self.variable_lower), abs(point - self.variable_upper)
        near = np.maximum(tolerance * self.sizes, ROUNDING * abs(point))
        return rows, (np.minimum(low, high) <= near) | self.fixed

    def tight_rank(self, point: Float64[ndarray, "variables"]) -> int:
        """Returns how many linearly independent constraints are tight: all of a vertex's."""
        rows, bounds = self.tight(point, TIGHT / 100)
        block = block_of(self.matrix, rows, ~bounds)
        return int(bounds.sum()) + rank(block, sizes=self.sizes[~bounds])

    def polished(self, point: Float64[ndarray, "variables"]) -> Float64[ndarray, "variables"]:
        """Moves a solver's point onto the constraints it is on but for rounding.

        Variables at a bound are set to it; the others solve the tight rows, with refinement. What
        counts as tight is tried from wide to narrow; the point that violates least is kept.
        """
        best = np.clip(point, self.variable_lower, self.variable_upper)
        best_violation = self.share_missed(best, MET)
        for tolerance in (TIGHT, TIGHT / 100, TIGHT / 10_000):
            found = self._on_tight(point, tolerance)
            violation = self.share_missed(found, MET)
            if violation < best_violation:
                best, best_violation = found, violation
            if best_violation <= 1:
                break
        return np.asarray(best)

    def _on_tight(self, point: Float64[ndarray, "variables"], tolerance: float) -> ndarray:
        rows, bounds = self.tight(point, tolerance)
        low, high = self.variable_lower, self.variable_upper
        result = np.where(bounds, _nearer(point, low, high), point)
        goal = _nearer(self.values(result), self.lower, self.upper)
        sizes = self.sizes[~bounds]
        system = scaled_columns(block_of(self.matrix, rows, ~bounds), sizes)
        units = powers_of_two(row_norms(system))
        system = system / units[:, None]
        for _ in range(3 if system.size else 0):
            missed = (goal - self.values(result))[rows] / units
            result[~bounds] += sizes * _solved(system, missed)
        return np.asarray(np.clip(result, low, high))


def _nearer(values: ndarray, low: ndarray, high: ndarray) -> ndarray:
    return np.where(abs(values - low) <= abs(values - high), low, high)


def _solved(system: Float64[ndarray, "rows columns"], goal: Float64[ndarray, "rows"]) -> ndarray:
    """Solves a square system by elimination, any other by least squares of the smallest length."""
    if system.shape[0] == system.shape[1]:
        try:
            found = np.linalg.solve(system, goal)
        except np.linalg.LinAlgError:
            pass
        else:
            if np.isfinite(found).all():
                return found
    return np.asarray(np.linalg.lstsq(system, goal, rcond=None)[0])


def _describe(name: str, lower: float, upper: float, at_upper: bool) -> str:
    if lower == upper:
        return f"{name} = {lower:.6g}"
    return f"{name} <= {upper:.6g}" if at_upper else f"{name} >= {lower:.6g}"
