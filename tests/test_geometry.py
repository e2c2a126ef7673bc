"""The patch grid against loops that slice the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.errors import GeometryError
from patchcollide.geometry import PatchGrid

GRIDS = [
    PatchGrid(8, 8, 8, 8),
    PatchGrid(1, 1, 1, 1),
    PatchGrid(5, 1, 1, 1),
    PatchGrid(11, 3, 2, 3),
    PatchGrid(9, 7, 1, 7),
    PatchGrid(12, 4, 2, 2),
    PatchGrid(14, 6, 4, 3),
    PatchGrid(12, 6, 3, 2),
]


def random_images(grid, num, rng):
    return rng.integers(0, 256, (num, grid.image_size, grid.image_size, 3), dtype=np.uint8)


def slow_patch(grid, image, row, col):
    """Cuts one window out and averages its blocks, rounding half up, in whole numbers."""
    window = image[
        row * grid.stride : row * grid.stride + grid.window_size,
        col * grid.stride : col * grid.stride + grid.window_size,
    ]
    factor = grid.window_size // grid.patch_size
    patch = np.empty((grid.patch_size, grid.patch_size, 3), np.uint8)
    for y in range(grid.patch_size):
        for x in range(grid.patch_size):
            for channel in range(3):
                block = [
                    int(window[factor * y + i, factor * x + j, channel])
                    for i in range(factor)
                    for j in range(factor)
                ]
                mean, rest = divmod(sum(block), len(block))
                patch[y, x, channel] = mean + (2 * rest >= len(block))
    return patch


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_patches_are_the_averaged_windows_of_each_image(grid, num, rng):
    images = random_images(grid, num, rng)
    patches = grid.patches(images)
    side, size = grid.positions_per_side, grid.patch_size
    assert patches.shape == (num, side, side, size, size, 3)
    for number in range(num):
        for row in range(side):
            for col in range(side):
                expected = slow_patch(grid, images[number], row, col)
                assert np.array_equal(patches[number, row, col], expected)


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_canvas_windows_are_slices_of_each_image(grid, num, rng):
    images = random_images(grid, num, rng)
    windows = grid.canvas_windows(images)
    assert windows.shape[:3] == (num, grid.positions_per_side, grid.positions_per_side)
    for number in range(num):
        for row in range(grid.positions_per_side):
            for col in range(grid.positions_per_side):
                top, left = row * grid.stride, col * grid.stride
                expected = images[
                    number, top : top + grid.window_size, left : left + grid.window_size
                ]
                assert np.array_equal(windows[number, row, col], expected)


@pytest.mark.parametrize(
    ("block", "mean"),
    [
        ([0, 0, 0, 1], 0),
        ([0, 0, 1, 1], 1),
        ([0, 1, 1, 1], 1),
        ([255] * 4, 255),
        ([254, 255] * 2, 255),
    ],
)
def test_an_average_is_rounded_half_up(block, mean):
    image = np.array(block, np.uint8).reshape(1, 2, 2, 1).repeat(3, axis=3)
    assert (PatchGrid(2, 2, 2, 1).reduce(image) == mean).all()


def test_reducing_by_one_copies_nothing(rng):
    grid = PatchGrid(8, 4, 2, 4)
    images = random_images(grid, 2, rng)
    assert np.shares_memory(grid.reduce(images), images)
    assert np.shares_memory(grid.patches(images), images)
    assert np.shares_memory(PatchGrid(8, 4, 2, 2).canvas_windows(images), images)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_patch_ids_count_images_then_rows_then_columns(grid):
    expected = 0
    for image in range(3):
        for row in range(grid.positions_per_side):
            for col in range(grid.positions_per_side):
                found = grid.locate(np.array([expected]))
                assert [part.item() for part in found] == [image, row, col]
                expected += 1
    assert expected == 3 * grid.num_positions


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=5), st.sampled_from(GRIDS))
def test_64_bit_ids_come_back_from_where_they_lie(ids, grid):
    images, rows, cols = grid.locate(np.array(ids, np.int64))
    assert {part.dtype for part in (images, rows, cols)} == {np.dtype(np.int64)}
    for number, (image, row, col) in enumerate(zip(images, rows, cols, strict=True)):
        position = ids[number] - int(image) * grid.num_positions
        assert 0 <= position < grid.num_positions
        assert (int(row), int(col)) == divmod(position, grid.positions_per_side)


def test_ids_of_the_papers_store_go_beyond_32_bits():
    grid = PatchGrid(224, 32, 12, 32)
    last = (2**31 // 289 + 1) * 289 + 288
    assert last > 2**31
    found = grid.locate(np.array([last]))
    assert [part.item() for part in found] == [2**31 // 289 + 1, 16, 16]


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3)])
def test_ids_of_any_shape_are_located(shape, rng):
    grid = PatchGrid(11, 3, 2, 3)
    ids = np.asarray(rng.integers(0, 1000, shape))
    assert all(part.shape == shape for part in grid.locate(ids))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_corners_come_in_the_order_of_ids_and_reach_the_border(grid):
    corners = grid.corners_px()
    expected = [
        [row * grid.stride, col * grid.stride]
        for row in range(grid.positions_per_side)
        for col in range(grid.positions_per_side)
    ]
    assert corners.tolist() == expected
    assert corners.max() + grid.window_size == grid.image_size


@pytest.mark.parametrize("sizes", [(224, 32, 12, 32), (256, 64, 12, 32)])
def test_both_geometries_of_the_paper_have_289_patches_of_3072_values(sizes):
    grid = PatchGrid(*sizes)
    assert (grid.positions_per_side, grid.num_positions, grid.dimension) == (17, 289, 3072)
    assert grid.factor == sizes[1] // 32


def test_the_released_codes_queries_have_25_positions_a_side():
    assert PatchGrid(256, 64, 12, 32).with_stride(8).positions_per_side == 25


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_grid_comes_back_from_what_files_hold(grid):
    assert PatchGrid(**grid.to_dict()) == grid


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1, 1, 1), r"must be at least 1, but found PatchGrid\(image_size=0"),
        ((8, 0, 1, 1), r"must be at least 1.*window_size=0"),
        ((8, 4, 0, 4), r"must be at least 1.*stride=0"),
        ((8, 4, -2, 4), r"must be at least 1.*stride=-2"),
        ((8, 4, 2, 0), r"must be at least 1.*patch_size=0"),
        (
            (8, 9, 1, 9),
            r"window of 9 pixels does not fit into an image of 8. Set patches.window_px",
        ),
        ((8, 3, 2, 3), r"Windows of 3 pixels at stride 2 leave the border.*so that it divides 5"),
        (
            (8, 2, 3, 2),
            r"Windows of 2 pixels at stride 3 leave gaps. Set patches.stride_px to at m",
        ),
        ((8, 4, 2, 3), r"window of 4 pixels in a 8-pixel image does not average down to .* of 3"),
        ((8, 4, 2, 8), r"window of 4 pixels in a 8-pixel image does not average down to .* of 8"),
        ((7, 4, 3, 2), r"window of 4 pixels in a 7-pixel image does not average down to .* of 2"),
        ((8, 4, 1, 2), r"stride of 1 is not a multiple of 2, by which windows are averaged down"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(sizes, message):
    with pytest.raises(GeometryError, match=message):
        PatchGrid(*sizes)


def test_another_stride_is_checked_like_the_first():
    with pytest.raises(GeometryError, match="at stride 3 leave the border"):
        PatchGrid(8, 4, 2, 4).with_stride(3)
