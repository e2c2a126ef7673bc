"""Exact collision polytopes of a layer that is affine in the image, by linear programming.

``z = matrix @ image + offset``; an image collides with a target exactly when each unit lies within
its bounds. Where a descent has to be measured, everything here is certain up to the
rounding of float64.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.image_spaces import Space
from patchcollide.polyhedra.linear_programs import minimise
from patchcollide.polyhedra.matrices import blocks, row_norms
from patchcollide.polyhedra.solver import MEMORY_BYTES
from patchcollide.polyhedra.tolerances import SHARE
from patchcollide.shapes import Float64, Int64, ndarray


@dataclass(frozen=True, eq=False)
class Vertex:
    """A corner of a polytope.

    Attributes:
        image: Its image, flat.
        point: In the space: the image itself, or the coefficients it is mixed with.
        pre_activation: Of all units.
        value: What was minimised, there.
        violation: The largest one of any constraint, after polishing.
        tight_rank: Linearly independent constraints that hold with equality.
        is_vertex: Whether there are as many as variables: no other point lies on all of them.
    """

    image: Float64[ndarray, "pixels"]
    point: Float64[ndarray, "variables"]
    pre_activation: Float64[ndarray, "units"]
    value: float
    violation: float
    tight_rank: int
    is_vertex: bool


@dataclass(frozen=True)
class Membership:
    """Whether a point lies in a polytope.

    Attributes:
        inside: Whether no constraint is violated by more than what counts as none.
        violation: The largest violation; 0 if there is none.
        constraint: What is violated most, such as ``unit 40 <= 0``; None if nothing is.
    """

    inside: bool
    violation: float
    constraint: str | None


@dataclass(frozen=True)
class Exit:
    """Where a ray leaves a polytope.

    Attributes:
        distance: In lengths of the direction; infinite if it never leaves.
        constraint: What stops it; None if nothing does.
    """

    distance: float
    constraint: str | None


@dataclass(frozen=True, eq=False)
class ExactPolytope:
    """The images of a space whose units lie within bounds.

    Attributes:
        matrix: Of the layer.
        offset: Of the layer.
        lower: The least value of each unit; ``-inf`` for anything.
        upper: The largest; equal to ``lower`` for units that must be matched.
        space: Where the images lie.
        memory_bytes: The most a linear program may take.

    Raises:
        ProgramError: If sizes do not fit each other, or a number is NaN.
    """

    matrix: Float64[ndarray, "units pixels"]
    offset: Float64[ndarray, "units"]
    lower: Float64[ndarray, "units"]
    upper: Float64[ndarray, "units"]
    space: Space
    memory_bytes: int = MEMORY_BYTES

    @cached_property
    def constraints(self) -> Constraints:
        """All constraints on a point of the space: units first, then the space's sums."""
        rows, sums = self.space.pulled_back(self.matrix), self.space.sums
        num_sums = 0 if sums is None else sums.shape[0]
        ones = np.ones(num_sums)
        return Constraints(
            matrix=rows if sums is None else blocks([[rows], [sums]]),
            offset=np.concatenate([self.offset, 0 * ones]),
            lower=np.concatenate([self.lower, ones]),
            upper=np.concatenate([self.upper, ones]),
            variable_lower=self.space.lower,
            variable_upper=self.space.upper,
            hard=np.arange(len(self.offset) + num_sums) >= len(self.offset),
            name_row=self._name_row,
            name_variable=self.space.name_variable,
        )

    def _name_row(self, row: int) -> str:
        units = len(self.offset)
        return f"unit {row}" if row < units else f"sum of coefficients {row - units}"

    def minimise(self, direction: Float64[ndarray, "pixels"]) -> Vertex:
        """Finds the vertex where ``direction @ image`` is smallest.

        Raises:
            InfeasibleError: If the polytope is empty; says which constraints clash.
            UnboundedError: If there is no smallest value; holds a ray of the polytope.
            ProgramError: If the program does not fit into memory, or cannot be solved.
        """
        goal = self.space.pulled_back(direction[None])[0]
        solution = minimise(goal, self.constraints, self.memory_bytes)
        point = self.constraints.polished(solution.point)
        image = self.space.image(point)
        tight_rank = self.constraints.tight_rank(point)
        return Vertex(
            image=image,
            point=point,
            pre_activation=self.matrix @ image + self.offset,
            value=float(direction @ image),
            violation=self.constraints.worst(point)[0],
            tight_rank=tight_rank,
            is_vertex=tight_rank == len(point),
        )

    def unit_vertices(self, units: Int64[ndarray, "units"]) -> tuple[Vertex, ...]:
        """Finds one vertex for each unit, where it is deepest in its blind region.

        Source:
            Li, Zhang and Malik 2019, Section 2, with ``z_i`` minimised exactly in place of L-_i.
            Units that are blind from above, which the paper does not have, are maximised.
        """
        return tuple(self.minimise(direction) for direction in self.inwards(units))

    def inwards(self, units: Int64[ndarray, "units"]) -> Float64[ndarray, "units pixels"]:
        """Returns what is smallest where each unit is deepest in its blind region.

        Deeper is down, but up for a unit whose interval has an upper end of infinity alone.
        """
        from_above = np.isfinite(self.lower[units]) & np.isposinf(self.upper[units])
        return np.asarray(np.where(from_above, -1.0, 1.0)[:, None] * self.matrix[units])

    def random_vertices(self, count: int, rng: np.random.Generator) -> tuple[Vertex, ...]:
        """Finds the vertices in random directions, normally distributed over the pixels."""
        directions = rng.standard_normal((count, self.matrix.shape[1]))
        return tuple(self.minimise(direction) for direction in directions)

    def pixel_ranges(self, pixels: Int64[ndarray, "pixels"]) -> Float64[ndarray, "pixels 2"]:
        """Returns the smallest and the largest value that pixels take in the polytope."""
        ranges = np.empty((len(pixels), 2))
        for row, pixel in enumerate(pixels):
            direction = np.zeros(self.matrix.shape[1])
            for side, sign in enumerate((1.0, -1.0)):
                direction[pixel] = sign
                ranges[row, side] = self.minimise(direction).image[pixel]
        return ranges

    def pixel_widths(self, pixels: Int64[ndarray, "pixels"]) -> Float64[ndarray, "pixels"]:
        """Returns how far pixels can change: the largest less the smallest value of each."""
        low, high = self.pixel_ranges(pixels).T
        return np.asarray(np.maximum(high - low, 0.0))

    def contains(
        self, point: Float64[ndarray, "variables"], tolerance: float | None = None
    ) -> Membership:
        """Returns whether a point lies in the polytope, by plain evaluation.

        Args:
            point: Of the space: an image, or coefficients; ``space.point(image)`` finds those.
            tolerance: What each constraint may be violated by, in its units; None for a billionth
                of what it varies by in the space, and rounding: far below what a network sees.
        """
        violation, constraint = self.constraints.worst(point)
        if tolerance is None:
            inside = self.constraints.share_missed(point) <= 1
        else:
            inside = bool(violation <= tolerance)
        return Membership(inside, violation, constraint)

    def leaving(
        self, point: Float64[ndarray, "variables"], direction: Float64[ndarray, "variables"]
    ) -> Exit:
        """Returns where the ray from a point of the polytope along a direction leaves it.

        A direction that changes a unit that must be matched leaves at once; changes of less than
        1e-9 of what a direction of its length could make count as none.
        """
        constraints = self.constraints
        slopes, values = constraints.matrix @ direction, constraints.values(point)
        reach = SHARE * row_norms(constraints.matrix) * np.linalg.norm(direction)
        rows = _steps(
            values, np.where(abs(slopes) > reach, slopes, 0.0), constraints.lower, constraints.upper
        )
        bounds = _steps(point, direction, constraints.variable_lower, constraints.variable_upper)
        row, bound = rows.min(initial=np.inf), bounds.min(initial=np.inf)
        if not min(row, bound) < np.inf:
            return Exit(np.inf, None)
        if row <= bound:
            number = int(rows.argmin())
            return Exit(float(row), constraints.describe_row(number, bool(slopes[number] > 0)))
        number = int(bounds.argmin())
        return Exit(float(bound), constraints.describe_bound(number, bool(direction[number] > 0)))


def _steps(values: ndarray, slopes: ndarray, lower: ndarray, upper: ndarray) -> ndarray:
    """Returns how far each value may go along its slope; 0 from outside."""
    ends = np.where(slopes > 0, upper, lower)
    slack = np.where(slopes > 0, ends - values, values - ends)
    steps = np.full(len(values), np.inf)
    np.divide(np.maximum(slack, 0.0), abs(slopes), out=steps, where=slopes != 0)
    return steps
