import contextlib
import io
import re
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchcollide.errors import RetrievalError
from patchcollide.geometry import PatchGrid
from patchcollide.retrieval.released_lists import read_names, read_released_lists

GRID = PatchGrid(image_size=32, window_size=16, stride=4, patch_size=8)


def lists(num_locations=4, n=3):
    """Arrays as the authors released them."""
    squared = np.sort(np.arange(num_locations * n).reshape(num_locations, n) ** 3 + 7)
    corners = np.arange(num_locations * n)[:, None] // [5, 1] % 5
    return {
        "finalidx": np.arange(num_locations * n, dtype=np.int32).reshape(num_locations, n) // 2,
        "finalpos": 4 * corners.reshape(num_locations, n, 2),
        "finaldist": np.sqrt(squared.astype(np.float64)),
    }


def write(path, **changes):
    np.savez_compressed(path, **(lists() | changes))
    return path


def read(path, num_locations=4):
    return read_released_lists(path, GRID, num_locations)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_lists_are_read_as_images_windows_and_whole_squared_distances(n, tmp_path):
    arrays = lists(6, n)
    found = read(write(tmp_path / "l.npz", **arrays), 6)
    np.testing.assert_array_equal(found.image_numbers, arrays["finalidx"])
    np.testing.assert_array_equal(
        found.squared_distances.ravel(), np.arange(6 * n, dtype=np.int64) ** 3 + 7
    )
    for position, (row, col) in zip(
        found.positions.ravel(), arrays["finalpos"].reshape(-1, 2), strict=True
    ):
        np.testing.assert_array_equal(GRID.corners_px()[position], [row, col])


@pytest.mark.parametrize("squared", [0, 1, 11587684, 61447254, 3072 * 255**2])
def test_every_squared_distance_survives_its_square_root(squared, tmp_path):
    grid = PatchGrid(256, 64, 12, 32)
    path = write(
        tmp_path / "l.npz",
        finalidx=np.zeros((1, 1), np.int32),
        finalpos=np.full((1, 1, 2), 192),
        finaldist=np.sqrt(np.full((1, 1), squared, np.float64)),
    )
    found = read_released_lists(path, grid, 1)
    assert (found.squared_distances[0, 0], found.positions[0, 0]) == (squared, 288)


def changed(name, place, value):
    array = lists()[name].copy()
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finalidx": np.zeros((5, 3), int)}, "'finalidx' of shape (5, 3), expected (4, n)"),
        ({"finalidx": np.zeros(4, int)}, "'finalidx' of shape (4,), expected (4, n)"),
        ({"finalidx": np.zeros((4, 0), int)}, "n from 1 to 10000"),
        ({"finalpos": np.zeros((4, 3, 3), int)}, "shape (4, 3, 3), expected (4, n, 2)"),
        ({"finaldist": np.zeros((4, 2))}, "lists of lengths {'finalidx': 3"),
        (
            {"finalidx": np.zeros((4, 3))},
            "'finalidx' should hold whole numbers",
        ),
        ({"finalidx": np.full((4, 3), None)}, "'finalidx' holds Python objects"),
        (
            {"finaldist": np.zeros((4, 3), int)},
            "'finaldist' should hold floating-point numbers",
        ),
        (changed("finalidx", (1, 1), -1), "impossible image numbers"),
        ({"finalidx": np.full((4, 3), 2**63, np.uint64)}, "impossible image numbers"),
        (changed("finalpos", (1, 1, 0), 3), "multiples of 4 from 0 to 16 (patches.stride_px)"),
        (changed("finalpos", (1, 1, 1), 20), "one is at [[0, 20]]"),
        (changed("finalpos", (1, 1, 1), -4), "windows off the grid"),
        (changed("finaldist", (2, 0), 1e2), "not sorted: nearest first"),
        (changed("finaldist", (3, 2), np.nan), "impossible distances"),
        (changed("finaldist", (0, 0), -1.0), "impossible distances"),
        (changed("finaldist", (3, 2), 3535.0), "between patches they are 0 to 3534"),
        (changed("finaldist", (0, 0), 1.5), "squares are 0.25 away from whole numbers"),
        (
            {"finalidx": np.zeros((4, 3), int), "finalpos": np.zeros((4, 3, 2), int)},
            "names a patch twice at location 0",
        ),
    ],
)
def test_lists_that_are_not_as_released_are_refused(change, message, tmp_path):
    path = write(tmp_path / "l.npz", **change)
    with pytest.raises(RetrievalError, match=rf"l\.npz.*{re.escape(message)}"):
        read(path)


def test_a_file_without_an_array_is_refused(tmp_path):
    arrays = lists()
    del arrays["finalpos"]
    np.savez(tmp_path / "l.npz", **arrays)
    with pytest.raises(RetrievalError, match=r"l\.npz has no array 'finalpos'"):
        read(tmp_path / "l.npz")


def test_a_file_that_is_missing_or_no_archive_is_refused(tmp_path):
    with pytest.raises(RetrievalError, match=r"l\.npz is missing\. Check the path"):
        read(tmp_path / "l.npz")
    (tmp_path / "l.npz").write_text("<html>404</html>")
    with pytest.raises(RetrievalError, match=r"damaged or not an \.npz file \(File is not a zip"):
        read(tmp_path / "l.npz")


def test_nothing_of_the_size_that_a_header_promises_is_made_before_it_is_checked(tmp_path):
    path = write(tmp_path / "l.npz")
    header = io.BytesIO()
    shape = (4, 2**50)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"finalidx.npy": header.getvalue()}).items():
            archive.writestr(name, content)
    with pytest.raises(RetrievalError, match=r"shape \(4, 1125899906842624\), expected \(4, n\)"):
        read(path)


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_are_refused_or_still_give_lists(data, tmp_path):
    path = tmp_path / "l.npz"
    np.savez(path, **lists())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) - 50, len(content)))])
    with contextlib.suppress(RetrievalError):
        found = read(path)
        assert found.positions.shape == found.image_numbers.shape


def test_names_are_read_a_line_each(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a/0.png\nb/é.png\n", encoding="utf-8")
    assert read_names(path) == ["a/0.png", "b/é.png"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RetrievalError, match=r"names\.txt cannot be read .* a name a line"):
        read_names(path)
    with pytest.raises(RetrievalError, match=r"none\.txt cannot be read"):
        read_names(tmp_path / "none.txt")
