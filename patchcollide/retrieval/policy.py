"""Finds the neighbours of source images: which patches may be one, and how deep to search."""

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import translate

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import RetrievalError
from patchcollide.geometry import PatchGrid
from patchcollide.images.thumbnails import near_copies
from patchcollide.retrieval.neighbours import Neighbours, Omissions
from patchcollide.retrieval.searcher import NO_DISTANCE, Question, Searcher, SearchResult
from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store.reader import PatchStore


def find_neighbours(
    config: Config,
    source: UInt8[ndarray, "side side 3"],
    targets: Sequence[UInt8[ndarray, "side side 3"]],
    store: PatchStore,
    searcher: Searcher,
) -> Neighbours:
    """Finds neighbours for every location of ``source`` under the retrieval policy.

    Args:
        config: Section ``retrieval``, and the margin of section ``composition``.
        source: The image whose look is kept.
        targets: Images that, like the source, must not lend their own patches.
        store: Where patches come from.
        searcher: An engine over ``store``.

    Raises:
        RetrievalError: If a location has fewer than ``k`` allowed neighbours, or a pattern of
            ``retrieval.exclude`` matches no image.
    """
    return find_neighbours_of_each(config, [source], targets, store, searcher)[0]


def find_neighbours_of_each(
    config: Config,
    sources: Sequence[UInt8[ndarray, "side side 3"]],
    targets: Sequence[UInt8[ndarray, "side side 3"]],
    store: PatchStore,
    searcher: Searcher,
) -> list[Neighbours]:
    """Finds neighbours for every location of several sources, as :func:`find_neighbours` does.

    An engine that passes over the store does so once for all of them.
    """
    settings = config.retrieval
    grid = store.grid.with_stride(settings.query_stride_px)
    excluded = _excluded_images(store, settings.exclude)
    questions, leaked = [], []
    for source in sources:
        leaked.append(_leaked_images(store, [source, *targets]) if settings.leak_guard else set())
        omitted = np.array(sorted(leaked[-1] | excluded), dtype=np.int64)
        _require_candidates(settings.k, omitted, store)
        questions.append(Question(cut_queries(source, grid), omitted))
    if settings.deduplicate:
        found, overlapping = _search_without_overlap(store, searcher, questions, settings.k)
    else:
        found = searcher.search_all(questions, settings.k)
        overlapping = [0] * len(found)
    margin = config.composition.margin_px
    return [
        collect(source, grid, result, store, margin, Omissions(len(own), len(excluded), dropped))
        for source, result, own, dropped in zip(sources, found, leaked, overlapping, strict=True)
    ]


def cut_queries(
    source: UInt8[ndarray, "side side 3"], grid: PatchGrid
) -> UInt8[ndarray, "queries size size 3"]:
    """Returns the patch of each location of an image, in row order."""
    patches = np.ascontiguousarray(grid.patches(source[None])[0])
    return patches.reshape(-1, grid.patch_size, grid.patch_size, 3)


def collect(
    source: UInt8[ndarray, "side side 3"],
    grid: PatchGrid,
    found: SearchResult,
    store: PatchStore,
    margin: int,
    omissions: Omissions,
) -> Neighbours:
    """Puts what was found together with its pixels and names.

    Args:
        source: The image the neighbours are of.
        grid: The geometry of its locations.
        found: The neighbours of each location.
        store: Where they come from.
        margin: How far their pixels reach over the windows on each side.
        omissions: What was left out.

    Raises:
        RetrievalError: If a location lacks a neighbour.
    """
    _require_enough(found, found.ids.shape[1], store)
    flat = found.ids.ravel()
    supports = store.supports(flat, margin)
    numbers = np.unique(store.grid.locate(flat)[0])
    return Neighbours(
        source=source,
        grid=grid,
        ids=found.ids,
        squared_distances=found.squared_distances,
        proven=found.proven,
        patches=supports.reshape(*found.ids.shape, *supports.shape[1:]),
        margin=margin,
        image_names={int(number): store.names[number] for number in numbers},
        omissions=omissions,
    )


def _leaked_images(store: PatchStore, images: Sequence[np.ndarray]) -> set[int]:
    thumbnails = store.thumbnails()
    return {
        int(number) for image in images for number in np.flatnonzero(near_copies(thumbnails, image))
    }


def _excluded_images(store: PatchStore, patterns: Sequence[str]) -> set[int]:
    """Returns the images that patterns name; RetrievalError if a pattern names none.

    An accented letter may be one character or two: file systems and keyboards differ in that.
    """
    names = [_composed(name) for name in store.names] if patterns else []
    excluded: set[int] = set()
    for pattern in patterns:
        plain = _composed(pattern)
        matches = re.compile(translate(plain)).match
        # A name may itself hold brackets.
        found = {number for number, name in enumerate(names) if name == plain or matches(name)}
        if not found:
            raise RetrievalError(
                f"retrieval.exclude names {pattern!r}, which matches none of the {len(names)} "
                f"images of {store.path}{_nearly(plain, names)}. Correct it, or leave it out."
            )
        excluded |= found
    return excluded


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _nearly(pattern: str, names: Sequence[str]) -> str:
    """Says what a pattern without a match may have meant."""
    anywhere = re.compile(translate(f"*{pattern.casefold()}"))
    meant = next((name for name in names if anywhere.match(name.casefold())), None)
    if meant is not None:
        return f"; did you mean {meant!r}? Letters count as they are, and so do folders"
    return f", whose names are like {names[0]!r}"


def _search_without_overlap(
    store: PatchStore, searcher: Searcher, questions: Sequence[Question], k: int
) -> tuple[list[SearchResult], list[int]]:
    """Searches deeper until each query has ``k`` neighbours that do not overlap, or no more are.

    Only the queries that want more are asked again.
    """
    results = [_none_found(len(question.queries), k) for question in questions]
    dropped = [np.zeros(len(question.queries), np.int64) for question in questions]
    open_queries = [np.arange(len(question.queries)) for question in questions]
    depth = min(4 * k, store.num_patches)
    while any(len(rows) for rows in open_queries):
        asked = [number for number, rows in enumerate(open_queries) if len(rows)]
        again = [
            Question(questions[number].queries[open_queries[number]], questions[number].exclude)
            for number in asked
        ]
        for number, found in zip(asked, searcher.search_all(again, depth), strict=True):
            rows = open_queries[number]
            kept, dropped[number][rows] = drop_overlapping(found, store.grid, k)
            _put(results[number], rows, kept)
            exhausted = (depth == store.num_patches) | (found.ids[:, -1] < 0)
            open_queries[number] = rows[(kept.ids[:, -1] < 0) & ~exhausted]
        depth = min(4 * depth, store.num_patches)
    return results, [int(counts.sum()) for counts in dropped]


def _none_found(num_queries: int, k: int) -> SearchResult:
    return SearchResult(
        np.full((num_queries, k), NO_DISTANCE, np.int64),
        np.full((num_queries, k), -1, np.int64),
        np.zeros(num_queries, np.bool_),
    )


def _put(result: SearchResult, rows: np.ndarray, found: SearchResult) -> None:
    result.squared_distances[rows] = found.squared_distances
    result.ids[rows] = found.ids
    result.proven[rows] = found.proven


def drop_overlapping(
    found: SearchResult, grid: PatchGrid, k: int
) -> tuple[SearchResult, Int64[ndarray, "queries"]]:
    """Keeps, of patches of one image that overlap, the one nearest to the query.

    Args:
        found: Neighbours, nearest first.
        grid: The geometry of the store.
        k: How many to keep for each query.

    Returns:
        The kept neighbours, -1 where there are fewer than ``k``, and how many patches of each
        query were passed over before the ``k``-th.
    """
    order = np.full((len(found.ids), k), -1, np.int64)
    dropped = np.zeros(len(found.ids), np.int64)
    # The first positions apart from each other between which windows no longer overlap.
    apart = -(-grid.window_size // grid.stride)
    for query, ids in enumerate(found.ids):
        ranks = np.flatnonzero(ids >= 0)
        places = zip(*(places.tolist() for places in grid.locate(ids[ranks])), strict=True)
        kept: dict[int, list[tuple[int, int]]] = {}
        count = 0
        for rank, (image, row, col) in zip(ranks, places, strict=True):
            if count == k:
                break
            others = kept.setdefault(image, [])
            if any(abs(row - r) < apart and abs(col - c) < apart for r, c in others):
                dropped[query] += 1
                continue
            others.append((row, col))
            order[query, count] = rank
            count += 1
    none = order < 0
    ids = np.take_along_axis(found.ids, np.maximum(order, 0), axis=1)
    distances = np.take_along_axis(found.squared_distances, np.maximum(order, 0), axis=1)
    ids[none], distances[none] = -1, NO_DISTANCE
    return SearchResult(distances, ids, found.proven), dropped


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
