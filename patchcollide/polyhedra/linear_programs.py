"""Linear programs: a point, or which constraints clash, or a ray without end."""

from dataclasses import replace

import numpy as np

from patchcollide.errors import InfeasibleError, ProgramError, UnboundedError
from patchcollide.polyhedra.clashes import (
    elastic_rows,
    infeasible,
    largest_first,
    least_violation,
    missed_constant,
    require_ordered,
)
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.matrices import largest_entries
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
    require_ordered(constraints)
    if not np.isfinite(direction).all():
        raise ProgramError("What is minimised has a weight that is NaN or infinite. Correct it.")
    solution, status = solve(direction, constraints)
    if solution is not None and _ray_of_one(direction, constraints) is None:
        return solution
    if solution is not None or status == UNBOUNDED:
        raise _unbounded(direction, constraints)
    refused = _refusal(constraints, memory_bytes) if status == INFEASIBLE else None
    violation = getattr(refused, "violation", None)
    if violation is None or violation <= _most(constraints):
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
    elastic, _ = elastic_rows(constraints, _allowances(constraints) / SHARE)
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


def _refusal(constraints: Constraints, memory_bytes: int) -> InfeasibleError | ProgramError:
    """Returns the error that says which constraints clash, or that it is not certain that any do.

    Where every variable has both ends, the solver's word is taken that they do.
    """
    try:
        return infeasible(
            missed_constant(constraints) or least_violation(constraints, memory_bytes)
        )
    except InfeasibleError as error:
        return error
    except ProgramError as error:
        ends = np.concatenate([constraints.variable_lower, constraints.variable_upper])
        if np.isfinite(ends).all():
            return InfeasibleError(
                f"No point meets all constraints. Which of them clash is not known: {error}"
            )
        return error


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


def _ray_of_one(direction: ndarray, constraints: Constraints) -> ndarray | None:
    """Returns a ray along a variable that no row holds, however little it weighs; None if none."""
    low, high = constraints.variable_lower, constraints.variable_upper
    falls = np.isinf(np.where(direction > 0, low, high)) & (direction != 0)
    if not falls.any():
        return None
    (ends,) = np.nonzero(falls & (largest_entries(constraints.matrix, axis=0) == 0))
    if not len(ends):
        return None
    ray = np.zeros(len(direction))
    ray[ends[0]] = -np.sign(direction[ends[0]])
    return ray


def _unbounded(direction: ndarray, constraints: Constraints) -> UnboundedError:
    ray = _ray_of_one(direction, constraints)
    ray = find_ray(direction, constraints) if ray is None else ray
    if ray is None:
        where = "no ray could be computed"
    else:
        largest = largest_first(ray)[:3]
        steps = [f"{constraints.name_variable(int(i))} by {ray[i]:.3g}" for i in largest if ray[i]]
        where = f"it falls for ever along a ray that moves {', '.join(steps)} ..."
    return UnboundedError(
        f"There is no smallest value: {where}. Bound the space, for instance by the pixels' range.",
        ray=ray,
    )
