"""The null space of a layer's weights, block by block."""

from dataclasses import dataclass

import numpy as np

from patchcollide.errors import NetworkError
from patchcollide.layer_maps import LayerMap
from patchcollide.networks import CollisionNetwork
from patchcollide.shapes import Float64, Int64, ndarray
from patchcollide.sizes import format_size
from patchcollide.subspaces import row_space

MAX_BYTES = 2 << 30
_MOST_STEPS = 200
_MET = 1e-12


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The directions of a layer's input that its weights do not see.

    Attributes:
        num_inputs: How many values the input has.
        blocks: For independent blocks: which inputs, and an orthonormal basis of what is seen of
            them. Inputs in none are not seen at all.
    """

    num_inputs: int
    blocks: list[tuple[Int64[ndarray, "inputs"], Float64[ndarray, "rank inputs"]]]

    @property
    def dimension(self) -> int:
        """How many independent directions there are."""
        return self.num_inputs - sum(len(basis) for _, basis in self.blocks)

    def along(
        self, directions: Float64[ndarray, "directions inputs"]
    ) -> Float64[ndarray, "directions inputs"]:
        """Returns the parts of directions that are not seen."""
        unseen = directions.copy()
        for inputs, basis in self.blocks:
            unseen[:, inputs] -= (directions[:, inputs] @ basis.T) @ basis
        return unseen


def null_space_of(
    layer: LayerMap, network: CollisionNetwork, max_bytes: int = MAX_BYTES
) -> NullSpace:
    """Returns the null space of a layer's weights, to the rounding of singular values.

    Args:
        layer: The weights.
        network: Named in errors.
        max_bytes: What the bases may take.

    Raises:
        NetworkError: If there is none, or its bases would be too large.
    """
    connections = layer.connections
    where = f"layer '{network.layer}' of {network.name}"
    sizes = connections.block_sizes()
    largest = max(8 * units * inputs for units, inputs in sizes)
    all_bases = connections.num_blocks * max(8 * min(size) * size[1] for size in sizes)
    needed = max(largest, all_bases)
    if needed > max_bytes:
        raise NetworkError(
            f"The null space of the weights of {where} takes up to {format_size(needed)} to find, "
            f"more than the {format_size(max_bytes)} that it may. Choose a smaller layer, or "
            "another --method."
        )
    blocks = [
        (connections.inputs_of(block), row_space(layer.matrix_of(block)))
        for block in connections.blocks()
    ]
    space = NullSpace(connections.num_inputs, blocks)
    if not space.dimension:
        raise NetworkError(
            f"The weights of {where} ('{layer.module}') have no null space: "
            f"{connections.num_units} units read {connections.num_inputs} values, and the matrix "
            "has full column rank, so "
            "every change of its input is seen. Choose a layer with fewer units than inputs, or "
            "another --method."
        )
    return space


def nearest_in_range(
    space: NullSpace, target: Float64[ndarray, "inputs"], point: Float64[ndarray, "inputs"]
) -> tuple[Float64[ndarray, "inputs"], float]:
    """Returns the nearest point in ``[0, 1]`` that a layer cannot tell from a target.

    Args:
        space: What the layer does not see.
        target: In ``[0, 1]``.
        point: What to be near to.

    Returns:
        The point, and by how much the most it differs from the target in a direction that is seen,
        which rounding alone decides unless a search ended early.
    """
    found, missed = np.clip(point, 0, 1), 0.0
    for inputs, basis in space.blocks:
        found[inputs], error = _nearest(basis, target[inputs], point[inputs])
        missed = max(missed, error)
    return found, missed


def _nearest(
    basis: Float64[ndarray, "rank inputs"],
    target: Float64[ndarray, "inputs"],
    point: Float64[ndarray, "inputs"],
) -> tuple[Float64[ndarray, "inputs"], float]:
    """Solves the dual by Newton's method: its gradient is piecewise linear in the multipliers.

    The nearest point is ``clip(point + basis.T @ multipliers)``, with multipliers for which it
    agrees with the target along the basis. The target itself does, so there always are some.
    """
    wanted = basis @ target
    multipliers = np.zeros(len(basis))

    def at(multipliers: ndarray) -> tuple[ndarray, ndarray, float]:
        free = point + multipliers @ basis
        found = np.clip(free, 0, 1)
        # The dual function, negated, is convex; its gradient is what is missed.
        height = 0.5 * (np.square(free) - np.square(free - found)).sum() - multipliers @ wanted
        return free, basis @ found - wanted, float(height)

    free, missed, height = at(multipliers)
    for _ in range(_MOST_STEPS):
        if abs(missed).max(initial=0.0) <= _MET:
            break
        moving = basis[:, (free > 0) & (free < 1)]
        matrix = moving @ moving.T
        # Where most values are at their ends the matrix is singular; the more the less is missed.
        matrix[np.diag_indices_from(matrix)] += min(1e-4, float(np.linalg.norm(missed)) * 1e-3)
        step = -np.linalg.solve(matrix, missed)
        length = 1.0
        while length > 1e-10:
            tried = at(multipliers + length * step)
            if tried[2] <= height + 1e-4 * length * (step @ missed) or (
                np.linalg.norm(tried[1]) < 0.5 * np.linalg.norm(missed)
            ):
                break
            length /= 2
        multipliers = multipliers + length * step
        free, missed, height = tried
    return np.clip(free, 0, 1), float(abs(missed).max(initial=0.0))
