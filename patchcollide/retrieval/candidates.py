"""Patches that may be neighbours: which of them may be answers, and how far they are, exactly."""

from typing import cast

import numpy as np
import torch

from patchcollide.parallel import map_in_threads, one_thread_each
from patchcollide.retrieval.searcher import NO_DISTANCE
from patchcollide.shapes import Float32, Int64, UInt8, ndarray
from patchcollide.store.blocks import Blocks
from patchcollide.store.integer_products import centred, inner_products, row_norms
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_files import gather_sums
from patchcollide.torch_modes import proof_modes

_QUERIES_ORDERED_AT_ONCE = 8
_AGREEMENT = 0.25

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
def likeliest(
    store: PatchStore,
    queries: UInt8[ndarray, "queries size size 3"],
    candidates: Int64[ndarray, "queries candidates"],
    count: int,
) -> Int64[ndarray, "queries count"]:
    """Returns the candidates of each query that are likely to be nearest, by their block sums.

    With ``P`` the projection onto what is constant on blocks, a squared distance is

        |x|^2 + |q|^2 - 2 <Px, Pq> - 2 <x - Px, q - Pq>

    of which sums and norms say all but the last product. It is taken for a quarter of
    ``|x - Px| |q - Pq|``, which is its largest value: among neighbours details agree a little.

    Args:
        store: A store whose grid has blocks.
        queries: The queries.
        candidates: Identifiers; -1 for none.
        count: How many of each are wanted.
    """

    def few(start: int) -> np.ndarray:
        part = slice(start, start + _QUERIES_ORDERED_AT_ONCE)
        estimates = _estimates(store, queries[part], candidates[part])
        chosen = np.argpartition(estimates, count - 1, axis=1)[:, :count]
        return np.take_along_axis(candidates[part], chosen, axis=1)

    with one_thread_each():
        parts = map_in_threads(few, range(0, len(queries), _QUERIES_ORDERED_AT_ONCE))
        return np.concatenate([candidates[:0, :count], *parts])


@proof_modes()
def _estimates(
    store: PatchStore,
    queries: UInt8[ndarray, "queries size size 3"],
    candidates: Int64[ndarray, "queries candidates"],
) -> Float32[ndarray, "queries candidates"]:
    """Returns estimates of the squared distances, each less the norm of the query."""
    blocks = cast("Blocks", Blocks.of(store.grid))
    shape = *candidates.shape, blocks.width
    rows, squares = gather_sums(store, np.maximum(candidates, 0).ravel())
    sums = blocks.values(rows).float().reshape(shape) / blocks.side
    own = blocks.values(blocks.rows_of_patches(queries)).float() / blocks.side
    norms = torch.from_numpy(squares).float().reshape(candidates.shape)
    flat = torch.from_numpy(centred(queries).reshape(len(queries), -1))
    rest = _rest(row_norms(flat).float(), own)[:, None] * _rest(norms, sums)
    products = torch.bmm(sums, own[:, :, None])[:, :, 0] + _AGREEMENT * rest
    return torch.where(torch.from_numpy(candidates < 0), torch.inf, norms - 2 * products).numpy()


def _rest(norms: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    return (norms - sums.square().sum(dim=-1)).clamp(min=0).sqrt()


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
