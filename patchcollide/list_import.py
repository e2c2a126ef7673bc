"""Neighbours from lists that another program made, compared with the store they are to be of."""

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import RetrievalError
from patchcollide.leak_guard import near_copies
from patchcollide.neighbour_search import collect, cut_queries
from patchcollide.neighbours import Neighbours, Omissions
from patchcollide.released_lists import read_names, read_released_lists
from patchcollide.search import SearchResult
from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store import PatchStore

logger = logging.getLogger(__name__)

# Another decoder or another way to scale images moves a distance a little, another image far.
_TOLERANCE = 0.01
_ENOUGH = 0.95
_BLOCK = 4096


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
        path: The lists; see :func:`patchcollide.released_lists.read_released_lists`.
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
    exact = float((squared == listed).mean())
    # A grey level at each value is forgiven where patches are nearly the same.
    near = np.abs(squared - listed) <= _TOLERANCE * listed + store.grid.dimension
    agreeing = float(near.mean())
    shares = f"{agreeing:.1%} within {_TOLERANCE:.0%}, {exact:.1%} exactly"
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
