"""The blocks of grids that have some."""

from patchcollide.geometry import PatchGrid
from patchcollide.store.blocks import Blocks


def blocks_of(grid: PatchGrid) -> Blocks:
    """Returns the blocks of a grid, which must have some."""
    found = Blocks.of(grid)
    assert found is not None
    return found
