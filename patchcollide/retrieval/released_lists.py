"""Lists of neighbours as the paper's authors released them: read with care, then checked.

They are compared with the store that they are to be of.
"""

import logging
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import RetrievalError
from patchcollide.geometry import PatchGrid
from patchcollide.images.thumbnails import near_copies
from patchcollide.io.npz import open_npz
from patchcollide.retrieval.neighbours import Neighbours, Omissions
from patchcollide.retrieval.policy import collect, cut_queries
from patchcollide.retrieval.searcher import SearchResult
from patchcollide.shapes import Float64, Int64, UInt8, ndarray
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)

# The authors' lists hold 200 neighbours of each location.
_MOST_NEIGHBOURS = 10_000

_MOST_NAME_BYTES = 256 << 20

_DTYPES: dict[str, type[np.int64] | type[np.float64]] = {
    "finalidx": np.int64,
    "finalpos": np.int64,
    "finaldist": np.float64,
}

_WIDTHS = {"finalpos": (2,)}

# Another decoder or another way to scale images moves a distance a little, another image far.
_TOLERANCE = 0.01

_ENOUGH = 0.95

_BLOCK = 4096


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


@dataclass(frozen=True)
class ListOptions:
    """How lists are taken over.

    Attributes:
        order: A text file with the name of each image, by number; None if the store's numbers are
            those of the lists.
        keep: How many neighbours of each location to keep; None for ``retrieval.k``, or as many as
            there are if they are fewer.
        unverified: Whether to take lists that do not agree with the store.
    """

    order: Path | None = None
    keep: int | None = None
    unverified: bool = False


def neighbours_from_lists(
    config: Config,
    path: Path,
    source: UInt8[ndarray, "side side 3"],
    store: PatchStore,
    options: ListOptions,
) -> Neighbours:
    """Reads lists of neighbours and compares their distances with those in the store.

    All distances that are kept are computed again, in whole numbers; where lists and store agree
    those are the result's. That no other patch is nearer is never proven so.

    Args:
        config: Sections ``images``, ``patches`` and ``retrieval``; the margin.
        path: The lists; see :func:`patchcollide.retrieval.released_lists.read_released_lists`.
        source: The image that they are of.
        store: Holds the images.
        options: How they are taken over.

    Raises:
        RetrievalError: If they cannot be read or do not fit the settings, the store or the source.
    """
    grid = store.grid.with_stride(config.retrieval.query_stride_px)
    lists = read_released_lists(path, store.grid, grid.num_positions)
    keep = _length(options.keep, config.retrieval.k, lists.image_numbers.shape[1], path)
    images = _in_store(lists.image_numbers[:, :keep], store, options.order, path)
    ids = images * store.grid.num_positions + lists.positions[:, :keep]
    squared = _compared(
        store,
        ids,
        lists.squared_distances[:, :keep],
        cut_queries(source, grid),
        path,
        options.unverified,
    )
    _warn_of_leaks(store, source, images)
    order = np.lexsort((ids, squared), axis=-1)
    found = SearchResult(
        np.take_along_axis(squared, order, axis=1),
        np.take_along_axis(ids, order, axis=1),
        np.zeros(len(ids), np.bool_),
    )
    return collect(source, grid, found, store, config.composition.margin_px, Omissions(0, 0, 0))


def distances_in_store(
    store: PatchStore,
    ids: Int64[ndarray, "locations k"],
    queries: UInt8[ndarray, "locations size size 3"],
) -> Int64[ndarray, "locations k"]:
    """Returns the squared distance of each patch from its location's own, in whole numbers."""
    flat, squared = ids.ravel(), np.empty(ids.size, np.int64)
    # By identifier: each image is then read once or twice.
    order = np.argsort(flat, kind="stable")
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        difference = store.patches(flat[block]).astype(np.int32) - queries[block // ids.shape[1]]
        squared[block] = np.square(difference).sum(axis=(1, 2, 3), dtype=np.int64)
    return squared.reshape(ids.shape)


def _length(keep: int | None, k: int, found: int, path: Path) -> int:
    if keep is None:
        return min(k, found)
    if not 1 <= keep <= found:
        raise RetrievalError(
            f"{path} lists {found} neighbours of each location, but --keep asks for {keep}. Set it "
            f"to 1 to {found}."
        )
    return keep


def _in_store(
    numbers: Int64[ndarray, "locations k"], store: PatchStore, order: Path | None, path: Path
) -> Int64[ndarray, "locations k"]:
    """Returns the images by their numbers in the store, where all must be readable."""
    known = store.num_images if order is None else len(names := read_names(order))
    if numbers.max() >= known:
        where = store.path if order is None else order
        raise RetrievalError(
            f"{path} names image {numbers.max()}, but {where} has images 0 to {known - 1}. Give "
            "the store the lists were made with, or the names of their images with --order."
        )
    images = numbers if order is None else _by_name(numbers, names, store, order)
    unreadable = images[~store.valid[images]]
    if unreadable.size:
        raise RetrievalError(
            f"{path} names image {unreadable[0]} of {store.path}, {store.names[unreadable[0]]}, "
            "which could not be read. Put a good copy of it in place and index again."
        )
    return images


def _by_name(
    numbers: Int64[ndarray, "locations k"], names: Sequence[str], store: PatchStore, order: Path
) -> Int64[ndarray, "locations k"]:
    # An accented letter may be one character or two.
    names = [unicodedata.normalize("NFC", name) for name in names]
    in_store = {unicodedata.normalize("NFC", name): n for n, name in enumerate(store.names)}
    used, inverse = np.unique(numbers, return_inverse=True)
    missing = [names[number] for number in used if names[number] not in in_store]
    if missing:
        raise RetrievalError(
            f"{order} names {missing[0]!r}, which {store.path} does not hold (of {len(used)} "
            f"images, {len(missing)}); its names are like {store.names[0]!r}. Write the names so, "
            "or index those images."
        )
    found = np.array([in_store[names[number]] for number in used], dtype=np.int64)
    return np.asarray(found[inverse].reshape(numbers.shape))


def _compared(
    store: PatchStore,
    ids: Int64[ndarray, "locations k"],
    listed: Int64[ndarray, "locations k"],
    queries: UInt8[ndarray, "locations size size 3"],
    path: Path,
    unverified: bool,
) -> Int64[ndarray, "locations k"]:
    """Returns the distances in the store if the listed ones agree with them, else the latter."""
    squared = distances_in_store(store, ids, queries)
    equal = float((squared == listed).mean())
    # A grey level at each value is forgiven where patches are nearly the same.
    near = np.abs(squared - listed) <= _TOLERANCE * listed + store.grid.dimension
    agreeing = float(near.mean())
    shares = f"{agreeing:.1%} within {_TOLERANCE:.0%}, {equal:.1%} exactly"
    if agreeing >= _ENOUGH:
        logger.info("%s agrees with %s: of %d distances %s.", path, store.path, ids.size, shares)
        return squared
    if not unverified:
        raise RetrievalError(
            f"{path} does not agree with {store.path}: of {ids.size} distances only {shares}; "
            f"expected {_ENOUGH:.0%}. The store numbers its images differently, or the source was "
            "prepared differently: give the lists' images by name with --order, check --source "
            "and images.fit, or take the lists as they are with --unverified."
        )
    logger.warning(
        "%s does not agree with %s: of %d distances only %s. Its own are kept, unverified: the "
        "patches shown may not be those meant.",
        path,
        store.path,
        ids.size,
        shares,
    )
    return listed


def _warn_of_leaks(
    store: PatchStore, source: UInt8[ndarray, "side side 3"], images: np.ndarray
) -> None:
    copies = np.flatnonzero(near_copies(store.thumbnails(), source))
    used = np.intersect1d(images, copies)
    if used.size:
        logger.warning(
            "The lists take patches from the source's own picture, or near copies of it: %s.",
            ", ".join(store.names[number] for number in used[:3]),
        )
