"""Sums over blocks of pixels, against loops in 64-bit integers."""

import numpy as np
import pytest
import torch

from patchcollide.geometry import PatchGrid
from patchcollide.store.blocks import BlockFilters, Blocks
from tests.helpers.blocks import blocks_of

GRIDS = [
    (PatchGrid(24, 16, 4, 16), 4),
    (PatchGrid(40, 16, 8, 16), 4),
    (PatchGrid(16, 8, 4, 8), 2),
    (PatchGrid(20, 8, 6, 8), 2),
    (PatchGrid(32, 16, 8, 8), 2),
    (PatchGrid(224, 32, 12, 32), 4),
    (PatchGrid(256, 64, 12, 32), 2),
]
IDS = [f"{grid.image_size}-{grid.window_size}-{grid.stride}" for grid, _ in GRIDS]


def images_of(grid, rng, num=3):
    """Noise, and the largest and the smallest sums there are."""
    images = rng.integers(0, 256, (num, grid.image_size, grid.image_size, 3), dtype=np.uint8)
    images[0], images[-1] = 255, 0
    return images


def patches_of(grid, images):
    return grid.patches(images).reshape(-1, grid.patch_size, grid.patch_size, 3)


def sums_in_a_loop(patches, side):
    size = patches.shape[1] // side
    wide = patches.astype(np.int64).reshape(len(patches), size, side, size, side, 3)
    return wide.sum(axis=(2, 4)).reshape(len(patches), -1)


@pytest.mark.parametrize(("grid", "side"), GRIDS, ids=IDS)
def test_sums_and_norms_are_those_of_every_patch(grid, side, rng):
    images = images_of(grid, rng)
    blocks, patches = blocks_of(grid), patches_of(grid, images)
    assert (blocks.side, blocks.width) == (side, grid.dimension // side**2)
    found = blocks.summed(images)
    rows = blocks.rows(torch.from_numpy(found.sums))
    expected = sums_in_a_loop(patches, side)
    np.testing.assert_array_equal(blocks.values(rows), expected - 128 * side**2)
    np.testing.assert_array_equal(blocks.rows_of_patches(patches), rows)
    windows = blocks.windows(found.sums).reshape(len(patches), -1)
    np.testing.assert_array_equal(windows, expected)
    norms = ((patches.astype(np.int64) - 128) ** 2).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(found.norms.ravel(), norms)


@pytest.mark.parametrize(("grid", "side"), GRIDS[:5], ids=IDS[:5])
@pytest.mark.parametrize("count", [1, 2, 17])
def test_products_with_filters_are_whole_and_right(grid, side, count, rng):
    blocks, patches = blocks_of(grid), patches_of(grid, images_of(grid, rng))
    filters = rng.integers(-127, 128, (count, blocks.width)).astype(np.int8)
    filters[0] = 127
    spread = blocks.spread(filters)
    assert spread.shape == (count, grid.dimension)
    np.testing.assert_array_equal(blocks.values_of(spread), filters)
    expected = (patches.reshape(len(patches), -1).astype(np.int64) - 128) @ spread.astype(
        np.int64
    ).T
    found = BlockFilters(blocks, filters).products(blocks.rows_of_patches(patches))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "grid",
    [PatchGrid(16, 8, 1, 8), PatchGrid(17, 8, 3, 8), PatchGrid(16, 4, 4, 4), PatchGrid(9, 9, 9, 9)],
)
def test_a_grid_whose_windows_begin_within_blocks_has_none(grid):
    assert Blocks.of(grid) is None


def test_no_images_have_no_sums(rng):
    blocks = blocks_of(GRIDS[2][0])
    found = blocks.summed(images_of(GRIDS[2][0], rng)[:0])
    assert (found.sums.shape, found.norms.shape) == ((0, 8, 8, 3), (0, 9))
