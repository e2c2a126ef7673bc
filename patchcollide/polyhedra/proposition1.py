"""Proposition 1 of the paper as numbers: how large the set of colliding inputs of a layer is.

The inputs ``x`` of a layer ``z = W x + b`` that collide with a target form a polyhedron:
equations on the units that must be matched, ``W+ x + b+ = z+``, inequalities on the others,
``W- x + b- <= 0``. The equations leave ``d - rank(W+)`` dimensions, so more than a point exactly
where ``rank(W+) < d``; how many units there are does not decide. The polyhedron has a vertex only
if it has no line: without bounds on inputs, only if all rows together have rank ``d``.

Source:
    Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019,
    Proposition 1. The paper bounds the dimension by ``d - |P|``; here it is computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchcollide.errors import TargetError
from patchcollide.formats import format_size
from patchcollide.polyhedra.boundedness import is_bounded, outward_directions
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.linear_programs import minimise
from patchcollide.polyhedra.matrices import blocks, rank, scaled_columns, selection
from patchcollide.polyhedra.solver import BYTES_AN_ENTRY, MEMORY_BYTES
from patchcollide.polyhedra.tolerances import RANK, SHARE
from patchcollide.shapes import Bool, Float64, ndarray

_LARGEST_STEP = 1e6
"""Of a direction that leaves a boundary at speed 1; slower ones count as never leaving."""
_COPIES = 3
"""Of what boundedness is computed from, at a time."""


@dataclass(frozen=True)
class Proposition1:
    """What is known of the polyhedron of inputs that collide with a target.

    Attributes:
        dimension_of_inputs: ``d``.
        num_units: Of the layer.
        num_matched: ``|P|``: units with an equation.
        bound: ``d - |P|``, the paper's lower bound of the dimension, of ``d - rank(W+)`` to be
            exact; it says nothing unless positive, and holds for targets that meet all
            inequalities strictly.
        target_is_strict: Whether the target does.
        rank_tolerance: Singular values of rows scaled to length 1 that count as zero, as a share
            of the largest.
        rank_matched: Of ``W+``: the equations that count.
        num_implicit: Inequalities and bounds that are equations, because no point of the
            polyhedron leaves them.
        dimension: Of the polyhedron's affine hull.
        kernel_within: Whether ``ker(W+)`` lies within ``ker(W-)``: the inequalities then say
            nothing, and without bounds the polyhedron is a whole affine subspace.
        bounded: Whether no ray stays inside, so that the polyhedron is a polytope.
        not_computed: Why the five before are None; None if they are not.
    """

    dimension_of_inputs: int
    num_units: int
    num_matched: int
    bound: int
    target_is_strict: bool
    rank_tolerance: float
    rank_matched: int | None = None
    num_implicit: int | None = None
    dimension: int | None = None
    kernel_within: bool | None = None
    bounded: bool | None = None
    not_computed: str | None = None

    @classmethod
    def joined(cls, parts: Iterable["Proposition1"]) -> "Proposition1":
        """Returns what is known of a layer that falls apart: parts share neither units nor inputs.

        The polyhedron is then the product of those of the parts, of which there is at least one.
        """
        parts = tuple(parts)

        def total(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if None in values else sum(values)

        def everywhere(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if None in values else all(values)

        return cls(
            dimension_of_inputs=total("dimension_of_inputs"),
            num_units=total("num_units"),
            num_matched=total("num_matched"),
            bound=total("bound"),
            target_is_strict=everywhere("target_is_strict"),
            rank_tolerance=parts[0].rank_tolerance,
            rank_matched=total("rank_matched"),
            num_implicit=total("num_implicit"),
            dimension=total("dimension"),
            kernel_within=everywhere("kernel_within"),
            bounded=everywhere("bounded"),
            not_computed=next((part.not_computed for part in parts if part.not_computed), None),
        )


def bytes_needed(num_units: int, num_inputs: int, input_range: tuple[float, float]) -> int:
    """Returns about what :func:`examine` takes at most for a dense matrix of this size."""
    entries = BYTES_AN_ENTRY * (2 * num_units * num_inputs + 4 * (num_units + num_inputs))
    if np.isfinite(input_range).all():
        return entries
    # The kernel of the equations, and what of the rows and bounds lies in it.
    num_sides = num_units + (num_inputs if np.isfinite(input_range).any() else 0)
    return entries + 8 * _COPIES * (num_inputs + num_sides) * num_inputs


def examine(
    matrix: Float64[ndarray, "units inputs"],
    offset: Float64[ndarray, "units"],
    lower: Float64[ndarray, "units"],
    upper: Float64[ndarray, "units"],
    target: Float64[ndarray, "inputs"],
    *,
    input_range: tuple[float, float] = (-np.inf, np.inf),
    rank_tolerance: float = RANK,
    memory_bytes: int = MEMORY_BYTES,
) -> Proposition1:
    """Examines the inputs of a layer that collide with a target.

    Args:
        matrix: ``W``; rows of units with ``lower == upper`` are ``W+``.
        offset: ``b``.
        lower: The least value of each unit; ``-inf`` for anything.
        upper: The largest.
        target: An input that lies within all bounds.
        input_range: Of every input: infinite as in the paper, ``(0, inf)`` behind a ReLU,
            ``(0, 1)`` for pixels.
        rank_tolerance: See :class:`Proposition1`.
        memory_bytes: Above this, ranks and what follows from them are not computed.

    Raises:
        TargetError: If the target does not lie within the bounds.
    """
    constraints = Constraints(
        matrix=matrix,
        offset=offset,
        lower=lower,
        upper=upper,
        variable_lower=np.full(len(target), float(input_range[0])),
        variable_upper=np.full(len(target), float(input_range[1])),
        hard=np.zeros(len(offset), dtype=bool),
        name_row="unit {}".format,
        name_variable="input {}".format,
    )
    _require_inside(constraints, target)
    equal = constraints.equations
    rows, bounds = constraints.tight(target, SHARE)
    counts: dict[str, Any] = {
        "dimension_of_inputs": len(target),
        "num_units": len(offset),
        "num_matched": int(equal.sum()),
        "bound": len(target) - int(equal.sum()),
        "target_is_strict": not ((rows & ~equal).any() or bounds.any()),
        "rank_tolerance": rank_tolerance,
    }
    needed = bytes_needed(len(offset), len(target), input_range)
    if needed > memory_bytes:
        why = f"needs about {format_size(needed)}, may take {format_size(memory_bytes)}"
        return Proposition1(**counts, not_computed=why)
    implicit = _implicit(constraints, target, rows & ~equal, bounds, memory_bytes)
    return Proposition1(
        **counts,
        **_ranks(constraints, *implicit, rank_tolerance),
        bounded=is_bounded(constraints, rank_tolerance, memory_bytes),
    )


def _ranks(
    constraints: Constraints,
    implicit_rows: Bool[ndarray, "rows"],
    implicit_bounds: Bool[ndarray, "variables"],
    tolerance: float,
) -> dict[str, Any]:
    """Returns what ranks say, given the inequalities and bounds that are equations."""
    matrix, sizes, equal = constraints.matrix, constraints.sizes, constraints.equations
    rank_matched = rank(matrix[equal], tolerance, sizes)
    asked = np.isfinite(constraints.lower) | np.isfinite(constraints.upper)
    fixed = matrix[equal | implicit_rows][:, ~implicit_bounds]
    return {
        "rank_matched": rank_matched,
        "num_implicit": int(implicit_rows.sum() + implicit_bounds.sum()),
        "dimension": int((~implicit_bounds).sum())
        - rank(fixed, tolerance, sizes[~implicit_bounds]),
        "kernel_within": rank(matrix[asked], tolerance, sizes) == rank_matched,
    }


def _require_inside(constraints: Constraints, target: ndarray) -> None:
    if constraints.share_missed(target) > 1:
        violation, constraint = constraints.worst(target)
        raise TargetError(
            f"The target should lie within the bounds of its own features, but misses {constraint} "
            f"by {violation:.3g}. Compute its features in float64 with the same weights."
        )


def _implicit(
    constraints: Constraints,
    target: Float64[ndarray, "variables"],
    rows: Bool[ndarray, "rows"],
    bounds: Bool[ndarray, "variables"],
    memory_bytes: int,
) -> tuple[Bool[ndarray, "rows"], Bool[ndarray, "variables"]]:
    """Finds which of the tight inequalities no point of the polyhedron leaves.

    Source:
        Freund, Roundy and Todd, "Identifying the Set of Always-Active Constraints in a System of
        Linear Inequalities by a Single Linear Program", 1985: the sum of slacks, each at most 1,
        is maximised. Their scaling variable is not needed here: the directions from a point of the
        polyhedron into it form a cone, which has every multiple already.
    """
    matrix = scaled_columns(constraints.matrix, constraints.sizes)
    equal = constraints.equations
    # Nothing else is near: a constraint that is not tight is left by staying.
    values = constraints.values(target)
    near_upper = abs(values - constraints.upper) <= abs(values - constraints.lower)
    at_upper = abs(target - constraints.variable_upper) <= abs(target - constraints.variable_lower)
    outwards = outward_directions(
        matrix, rows & near_upper, rows & ~near_upper, bounds & at_upper, bounds & ~at_upper
    )
    num_inputs, num_slacks = len(target), outwards.shape[0]
    if not num_slacks:
        return rows, bounds
    identity = selection(np.arange(num_slacks), num_slacks)
    parts = [[matrix[equal], None]] if equal.any() else []
    num_rows = int(equal.sum()) + num_slacks
    cone = Constraints(
        matrix=blocks([*parts, [outwards, identity]]),
        offset=np.zeros(num_rows),
        lower=np.where(np.arange(num_rows) < equal.sum(), 0.0, -np.inf),
        upper=np.zeros(num_rows),
        variable_lower=np.repeat([-_LARGEST_STEP, 0.0], [num_inputs, num_slacks]),
        variable_upper=np.repeat([_LARGEST_STEP, 1.0], [num_inputs, num_slacks]),
        hard=np.zeros(num_rows, dtype=bool),
    )
    goal = np.repeat([0.0, -1.0], [num_inputs, num_slacks])
    slacks = minimise(goal, cone, memory_bytes).point[num_inputs:]
    # In the order in which the sides were stacked.
    sides = np.split(
        slacks < 0.5,
        np.cumsum(
            [(rows & near_upper).sum(), (rows & ~near_upper).sum(), (bounds & at_upper).sum()]
        ),
    )
    found_rows, found_bounds = np.zeros_like(rows), np.zeros_like(bounds)
    found_rows[rows & near_upper], found_rows[rows & ~near_upper] = sides[:2]
    found_bounds[bounds & at_upper], found_bounds[bounds & ~at_upper] = sides[2:]
    return found_rows, found_bounds
