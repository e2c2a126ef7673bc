"""Patches that may be neighbours: which of them may be answers, and how far they are, exactly."""

import numpy as np
import torch

from patchcollide.parallel import map_in_threads, one_thread_each
from patchcollide.retrieval.searcher import NO_DISTANCE
from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store.integer_products import centred, inner_products, row_norms
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

QUERIES_AT_ONCE = 32
"""Queries that are compared at once with the candidates of all of them."""


def allowed_once(
    store: PatchStore,
    candidates: Int64[ndarray, "queries candidates"],
    exclude: Int64[ndarray, "excluded"],
) -> Int64[ndarray, "queries candidates"]:
    """Returns each row's candidates with -1 for what no answer may hold.

    That are identifiers that the store does not have, patches of unreadable or excluded images,
    and all but the first of those that are named several times in a row.
    """
    inside = (candidates >= 0) & (candidates < store.num_patches)
    allowed = store.valid.copy()
    allowed[exclude] = False
    kept = inside & allowed[np.where(inside, candidates, 0) // store.grid.num_positions]
    order = np.argsort(candidates, axis=1, kind="stable")
    ordered = np.take_along_axis(candidates, order, axis=1)
    again = np.zeros_like(kept)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    first = np.empty_like(kept)
    np.put_along_axis(first, order, ~again, axis=1)
    return np.where(kept & first, candidates, -1)


@proof_modes()
def integer_distances(
    store: PatchStore,
    queries: UInt8[ndarray, "queries size size 3"],
    candidates: Int64[ndarray, "queries candidates"],
) -> Int64[ndarray, "queries candidates"]:
    """Returns squared distances of queries and candidates; :data:`NO_DISTANCE` where -1."""

    def few(start: int) -> np.ndarray:
        part = slice(start, start + QUERIES_AT_ONCE)
        return _few_distances(store, queries[part], candidates[part])

    with one_thread_each():
        # A few queries at a time in each thread.
        parts = map_in_threads(few, range(0, len(queries), QUERIES_AT_ONCE))
        return np.concatenate([candidates[:0], *parts])


@proof_modes()
def _few_distances(store: PatchStore, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    ids, places = np.unique(candidates, return_inverse=True)
    places = places.reshape(candidates.shape)
    rows = torch.from_numpy(centred(store.patches(np.maximum(ids, 0))).reshape(len(ids), -1))
    filters = torch.from_numpy(centred(queries).reshape(len(queries), -1))
    # One product of matrices, though it compares each candidate with all of these queries.
    products = inner_products(rows, filters).numpy()
    of_query = products[places, np.arange(len(queries))[:, None]].astype(np.int64)
    norms = row_norms(rows).numpy()[places] + row_norms(filters).numpy()[:, None].astype(np.int64)
    return np.where(candidates < 0, NO_DISTANCE, norms - 2 * of_query)
