"""Neighbours of every location of a source image, and which ones are not allowed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import RetrievalError
from patchcollide.geometry import PatchGrid
from patchcollide.hdf5 import open_hdf5, write_hdf5
from patchcollide.leak_guard import near_copies
from patchcollide.provenance import versions
from patchcollide.search import Searcher, SearchResult
from patchcollide.search.searcher import NO_DISTANCE
from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store import PatchStore

ENCODING = "patchcollide-neighbours"
VERSION = "1"


@dataclass(frozen=True)
class Omissions:
    """What the retrieval policy left out, counted.

    Attributes:
        leaked_images: Images of the store that are the source or the target, or near copies.
        excluded_images: Images whose name matches ``retrieval.exclude``.
        overlapping_patches: Patches that overlap a nearer one of the same image.
    """

    leaked_images: int
    excluded_images: int
    overlapping_patches: int


@dataclass(frozen=True)
class Neighbours:
    """The ``k`` nearest allowed patches of each location of a source image.

    Attributes:
        source: The source image, as it was cut.
        grid: The geometry of the locations, in pixels of the source.
        ids: Patch identifiers, nearest first.
        squared_distances: Squared L2 between 8-bit patches.
        patches: The neighbours' windows, at the resolution of the source.
        image_names: Name of the image of each identifier, by image number.
        omissions: What was left out.
    """

    source: UInt8[ndarray, "side side 3"]
    grid: PatchGrid
    ids: Int64[ndarray, "locations k"]
    squared_distances: Int64[ndarray, "locations k"]
    patches: UInt8[ndarray, "locations k window window 3"]
    image_names: dict[int, str]
    omissions: Omissions

    def save(self, path: Path, *, settings: dict[str, Any], seed: int, store: str) -> None:
        """Writes ``neighbours.h5``, with the settings and the store's fingerprint."""
        numbers = np.array(sorted(self.image_names), dtype=np.int64)
        write_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            datasets={
                "source": self.source,
                "ids": self.ids,
                "squared_distances": self.squared_distances,
                "patches": self.patches,
                "image_numbers": numbers,
                "image_names": [self.image_names[int(number)] for number in numbers],
            },
            attributes={
                "grid": self.grid.to_dict(),
                "omissions": asdict(self.omissions),
                "settings": settings,
                "seed": seed,
                "store": store,
                "versions": versions(),
            },
        )

    @classmethod
    def load(cls, path: Path) -> "Neighbours":
        """Reads ``neighbours.h5``.

        Raises:
            RetrievalError: If it is missing, damaged or of another version.
        """
        with open_hdf5(path, encoding=ENCODING, version=VERSION, error=RetrievalError) as file:
            grid = PatchGrid(**file.attribute("grid"))
            window, locations = grid.window_size, grid.num_positions
            numbers = file.array("image_numbers", np.int64, (None,))
            names = file.strings("image_names")
            return cls(
                source=file.array("source", np.uint8, (grid.image_size, grid.image_size, 3)),
                grid=grid,
                ids=file.array("ids", np.int64, (locations, None)),
                squared_distances=file.array("squared_distances", np.int64, (locations, None)),
                patches=file.array("patches", np.uint8, (locations, None, window, window, 3)),
                image_names=dict(zip(numbers.tolist(), names, strict=True)),
                omissions=Omissions(**file.attribute("omissions")),
            )


def find_neighbours(
    config: Config,
    source: UInt8[ndarray, "side side 3"],
    targets: Sequence[UInt8[ndarray, "side side 3"]],
    store: PatchStore,
    searcher: Searcher,
) -> Neighbours:
    """Finds neighbours for every location of ``source`` under the retrieval policy.

    Args:
        config: Section ``retrieval``.
        source: The image whose look is kept.
        targets: Images that, like the source, must not lend their own patches.
        store: Where patches come from.
        searcher: An engine over ``store``.

    Raises:
        RetrievalError: If a location has fewer than ``k`` allowed neighbours.
    """
    settings = config.retrieval
    grid = store.grid.with_stride(settings.query_stride_px)
    queries = np.ascontiguousarray(grid.patches(source[None])[0]).reshape(
        -1, grid.patch_size, grid.patch_size, 3
    )
    leaked = _leaked_images(store, [source, *targets]) if settings.leak_guard else set()
    excluded = _excluded_images(store, settings.exclude)
    omitted = np.array(sorted(leaked | excluded), dtype=np.int64)
    _require_candidates(settings.k, omitted, store)
    if settings.deduplicate:
        found, overlapping = _search_without_overlap(store, searcher, queries, settings.k, omitted)
    else:
        found, overlapping = searcher.search(queries, settings.k, omitted), 0
    _require_enough(found, settings.k, store)
    flat = found.ids.ravel()
    patches = store.windows(flat).reshape(*found.ids.shape, *[store.grid.window_size] * 2, 3)
    numbers = np.unique(store.grid.locate(flat)[0])
    return Neighbours(
        source=source,
        grid=grid,
        ids=found.ids,
        squared_distances=found.squared_distances,
        patches=patches,
        image_names={int(number): store.names[number] for number in numbers},
        omissions=Omissions(len(leaked), len(excluded), overlapping),
    )


def _leaked_images(store: PatchStore, images: Sequence[np.ndarray]) -> set[int]:
    thumbnails = store.thumbnails()
    return {
        int(number) for image in images for number in np.flatnonzero(near_copies(thumbnails, image))
    }


def _excluded_images(store: PatchStore, patterns: Sequence[str]) -> set[int]:
    return {
        number
        for number, name in enumerate(store.names)
        if any(fnmatch(name, pattern) for pattern in patterns)
    }


def _search_without_overlap(
    store: PatchStore, searcher: Searcher, queries: np.ndarray, k: int, omitted: np.ndarray
) -> tuple[SearchResult, int]:
    """Searches deeper until each query has ``k`` neighbours that do not overlap, or no more are."""
    depth = min(4 * k, store.num_patches)
    while True:
        found = searcher.search(queries, depth, omitted)
        kept, overlapping = drop_overlapping(found, store.grid, k)
        exhausted = depth == store.num_patches or (found.ids[:, -1] < 0).all()
        if exhausted or (kept.ids >= 0).all():
            return kept, overlapping
        depth = min(4 * depth, store.num_patches)


def drop_overlapping(found: SearchResult, grid: PatchGrid, k: int) -> tuple[SearchResult, int]:
    """Keeps, of patches of one image that overlap, the one nearest to the query.

    Args:
        found: Neighbours, nearest first.
        grid: The geometry of the store.
        k: How many to keep for each query.

    Returns:
        The kept neighbours, -1 where there are fewer than ``k``, and how many patches were
        passed over before the ``k``-th.
    """
    images, rows, cols = grid.locate(found.ids)
    order = np.full((len(found.ids), k), -1, np.int64)
    dropped = 0
    for query in range(len(found.ids)):
        kept: dict[int, list[tuple[int, int]]] = {}
        count = 0
        for rank in np.flatnonzero(found.ids[query] >= 0):
            if count == k:
                break
            place = (int(rows[query, rank]), int(cols[query, rank]))
            others = kept.setdefault(int(images[query, rank]), [])
            if any(_overlap(place, other, grid) for other in others):
                dropped += 1
                continue
            others.append(place)
            order[query, count] = rank
            count += 1
    none = order < 0
    ids = np.take_along_axis(found.ids, np.maximum(order, 0), axis=1)
    distances = np.take_along_axis(found.squared_distances, np.maximum(order, 0), axis=1)
    ids[none], distances[none] = -1, NO_DISTANCE
    return SearchResult(distances, ids), dropped


def _overlap(first: tuple[int, int], second: tuple[int, int], grid: PatchGrid) -> bool:
    return all(
        abs(a - b) * grid.stride < grid.window_size for a, b in zip(first, second, strict=True)
    )


def _require_candidates(k: int, omitted: np.ndarray, store: PatchStore) -> None:
    """Refuses, before any search, what no search could find."""
    allowed = store.valid.copy()
    allowed[omitted] = False
    available = int(allowed.sum()) * store.grid.num_positions
    if available < k:
        raise RetrievalError(
            f"retrieval.k = {k}, but {store.path} holds only {available} allowed patches: "
            f"{int(allowed.sum())} of its {store.num_images} images are readable and not left out. "
            f"Set retrieval.k to at most {available}, or index more images."
        )


def _require_enough(found: SearchResult, k: int, store: PatchStore) -> None:
    counts = (found.ids >= 0).sum(axis=1)
    if counts.min() < k:
        raise RetrievalError(
            f"retrieval.k = {k}, but {store.path} can give location {int(counts.argmin())} of the "
            f"source only {int(counts.min())} allowed neighbours. Set retrieval.k to at most "
            f"{int(counts.min())}, index more images, or turn off retrieval.deduplicate."
        )
