"""Patches that may be neighbours: which of them may be answers, and how far they are, exactly."""

from dataclasses import replace

import numpy as np
import torch

from patchcollide.parallel import map_in_threads, one_thread_each
from patchcollide.retrieval.block_bounds import SumBounds
from patchcollide.retrieval.searcher import Pairs
from patchcollide.shapes import Int8, Int32, Int64, Tensor, UInt8, ndarray
from patchcollide.store.integer_products import centred, inner_products, row_norms
from patchcollide.store.patch_sums import PatchSums
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

PAIRS_AT_ONCE = 10_000
"""Pairs of some queries and their candidates that a thread compares at once."""
QUERIES_AT_ONCE = 32
"""Queries that it compares at once, at most: each is, with the candidates of all of them."""
# Candidates that are compared without a bound, for each neighbour that is wanted.
_FIRST = 2


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


def nearest_candidates(
    sums: PatchSums,
    queries: UInt8[ndarray, "queries size size 3"],
    candidates: Int64[ndarray, "queries candidates"],
    k: int,
) -> Pairs:
    """Returns the nearest ``k`` of each query's candidates, compared in whole numbers.

    The first of them are compared in any case. They bound how far the others may be, most of which
    the sums of their blocks then spare: what is returned is the same.

    Args:
        sums: Those of the store's patches.
        queries: Patches to look for.
        candidates: Each query's, those likely to be near first, each once; -1 where there is none.
        k: How many neighbours are wanted.
    """
    at_once = queries_at_once(candidates.shape[1])

    def few(start: int) -> Pairs:
        part = slice(start, start + at_once)
        pairs = _few_nearest(sums, queries[part], candidates[part], k)
        return replace(pairs, queries=pairs.queries + start)

    with one_thread_each():
        # A few queries at a time in each thread.
        return Pairs.joined(map_in_threads(few, range(0, len(queries), at_once)))


def queries_at_once(num_candidates: int) -> int:
    """Returns how many queries of so many candidates a thread compares at once."""
    return min(max(PAIRS_AT_ONCE // max(num_candidates, 1), 1), QUERIES_AT_ONCE)


@proof_modes()
def _few_nearest(sums: PatchSums, queries: np.ndarray, candidates: np.ndarray, k: int) -> Pairs:
    filters = torch.from_numpy(centred(queries).reshape(len(queries), -1))
    norms = row_norms(filters)
    first, others = candidates[:, : _FIRST * k], candidates[:, _FIRST * k :]
    found = _compared(sums.store, filters, norms, first).nearest(k)
    if sums.blocks and others.size:
        bounds = SumBounds(sums.blocks, sums.blocks.rows_of_patches(queries), norms.double())
        farthest = torch.from_numpy(found.table(len(queries), k)[0][:, -1]).double()
        ids, places = np.unique(np.maximum(others, 0), return_inverse=True)
        rows, norms_of_rows = sums.gather(ids)
        near = bounds.near(rows, torch.from_numpy(norms_of_rows).double(), farthest).numpy()
        near = near[places.reshape(others.shape), np.arange(len(queries))[:, None]]
        others = np.where(near, others, -1)
    return Pairs.joined([found, _compared(sums.store, filters, norms, others)]).nearest(k)


def _compared(
    store: PatchStore,
    filters: Int8[Tensor, "queries dimension"],
    norms: Int32[Tensor, "queries"],
    candidates: Int64[ndarray, "queries candidates"],
) -> Pairs:
    """Returns the pairs of queries and their candidates with squared distances."""
    of_query, columns = np.nonzero(candidates >= 0)
    ids, places = np.unique(candidates[of_query, columns], return_inverse=True)
    rows = torch.from_numpy(centred(store.patches(ids)).reshape(len(ids), filters.shape[1]))
    # One product of matrices, though it compares each candidate with all of these queries.
    products = inner_products(rows, filters).numpy()[places, of_query].astype(np.int64)
    both = row_norms(rows).numpy()[places] + norms.numpy()[of_query].astype(np.int64)
    return Pairs(of_query, ids[places], both - 2 * products)
