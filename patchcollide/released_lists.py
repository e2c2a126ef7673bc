"""Lists of neighbours as the paper's authors released them: read with care, then checked."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.errors import RetrievalError
from patchcollide.geometry import PatchGrid
from patchcollide.npz import open_npz
from patchcollide.shapes import Float64, Int64, ndarray

# The authors' lists hold 200 neighbours of each location.
_MOST_NEIGHBOURS = 10_000
_MOST_NAME_BYTES = 256 << 20
_DTYPES: dict[str, type[np.int64] | type[np.float64]] = {
    "finalidx": np.int64,
    "finalpos": np.int64,
    "finaldist": np.float64,
}
_WIDTHS = {"finalpos": (2,)}


@dataclass(frozen=True)
class ReleasedLists:
    """The neighbours of each location of a source image, nearest first.

    Attributes:
        image_numbers: In the order of images that the lists were made with.
        positions: Numbers of the windows in their images, row by row.
        squared_distances: Squared L2 between patches.
    """

    image_numbers: Int64[ndarray, "locations n"]
    positions: Int64[ndarray, "locations n"]
    squared_distances: Int64[ndarray, "locations n"]


def read_released_lists(path: Path, grid: PatchGrid, num_locations: int) -> ReleasedLists:
    """Reads ``finalidx``, ``finalpos`` and ``finaldist`` from an ``.npz`` file.

    ``finalidx`` (L, n) numbers images, ``finalpos`` (L, n, 2) are rows and columns of the corners
    of windows in pixels, ``finaldist`` (L, n) distances: plain ones, not squared, as those
    released show, whose squares are whole numbers.

    Args:
        path: The file.
        grid: The geometry of the windows.
        num_locations: For how many locations of the source there must be a list.

    Raises:
        RetrievalError: If the file is missing or damaged, or holds anything else.
    """
    arrays = _read_arrays(path, num_locations)
    numbers, corners = arrays["finalidx"], arrays["finalpos"]
    _require(numbers.min() >= 0 and numbers.max() < 2**31, path, "has impossible image numbers")
    on_grid = (corners % grid.stride == 0) & (corners >= 0)
    on_grid &= corners <= grid.image_size - grid.window_size
    _require(
        on_grid.all(),
        path,
        f"has windows off the grid: corners should be multiples of {grid.stride} from 0 to "
        f"{grid.image_size - grid.window_size} (patches.stride_px), but one is at "
        f"{corners[~on_grid.all(axis=-1)][:1].tolist()}",
    )
    rows, cols = np.moveaxis(corners // grid.stride, -1, 0)
    positions = rows * grid.positions_per_side + cols
    patches = np.sort(numbers * grid.num_positions + positions, axis=1)
    twice = (patches[:, 1:] == patches[:, :-1]).any(axis=1)
    _require(not twice.any(), path, f"names a patch twice at location {int(twice.argmax())}")
    squared = _squared(arrays["finaldist"], path, grid)
    return ReleasedLists(numbers, positions, squared)


def read_names(path: Path) -> list[str]:
    """Reads file names, one a line: the images by number.

    Raises:
        RetrievalError: If the file cannot be read or is too large.
    """
    try:
        if path.stat().st_size > _MOST_NAME_BYTES:
            raise RetrievalError(f"{path} is larger than any list of names. Check --order.")
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RetrievalError(
            f"{path} cannot be read ({error}). --order takes a text file, a name a line."
        ) from error


def _squared(
    distances: Float64[ndarray, "locations n"], path: Path, grid: PatchGrid
) -> Int64[ndarray, "locations n"]:
    largest = 255 * math.sqrt(grid.dimension) + 1
    _require(
        np.isfinite(distances).all() and distances.min() >= 0 and distances.max() <= largest,
        path,
        f"has impossible distances: between patches they are 0 to {largest:.0f}",
    )
    _require((np.diff(distances, axis=1) >= 0).all(), path, "is not sorted: nearest first")
    squared = np.square(distances)
    away = np.abs(squared - np.rint(squared)).max()
    _require(
        away <= 1e-2,
        path,
        f"has distances whose squares are {away:.2g} away from whole numbers, which those of 8-bit "
        "patches are",
    )
    return np.asarray(np.rint(squared).astype(np.int64))


def _read_arrays(path: Path, num_locations: int) -> dict[str, np.ndarray]:
    with open_npz(path, error=RetrievalError) as archive:
        shapes = {name: archive.shape(name, dtype) for name, dtype in _DTYPES.items()}
        for name, shape in shapes.items():
            _require_shape(path, name, shape, num_locations)
        lengths = {name: shape[1] for name, shape in shapes.items()}
        _require(len(set(lengths.values())) == 1, path, f"has lists of lengths {lengths}")
        return {name: archive.array(name, shapes[name], _DTYPES[name]) for name in _DTYPES}


def _require_shape(path: Path, name: str, shape: tuple[int, ...], locations: int) -> None:
    after = _WIDTHS.get(name, ())
    fits = len(shape) == 2 + len(after) and shape[0] == locations and shape[2:] == after
    wanted = ", ".join(map(str, (locations, "n", *after)))
    _require(
        fits and 1 <= shape[1] <= _MOST_NEIGHBOURS,
        path,
        f"has '{name}' of shape {shape}, expected ({wanted}) with n from 1 to {_MOST_NEIGHBOURS}; "
        "locations follow from retrieval.query_stride_px and sections images and patches",
    )


def _require(right: Any, path: Path, problem: str) -> None:
    if not right:
        raise RetrievalError(f"{path} {problem}. Give a file as released, and settings that fit.")
