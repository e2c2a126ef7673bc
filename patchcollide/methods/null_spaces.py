"""The null space of a layer's weights, block by block."""

from dataclasses import dataclass

from patchcollide.errors import NetworkError
from patchcollide.layer_maps import LayerMap
from patchcollide.networks import CollisionNetwork
from patchcollide.shapes import Float64, Int64, ndarray
from patchcollide.sizes import format_size
from patchcollide.subspaces import row_space

MAX_BYTES = 2 << 30


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
