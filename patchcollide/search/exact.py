"""Exact search: one pass over the store, proven by a bound on rounding.

The inner products of all windows with all queries are one strided convolution, so no patch is
copied. In float32 they are rounded; with ``u = 2**-24`` and ``d`` terms, in whatever order they are
added, the error is at most ``d u / (1 - d u)`` times the sum of the absolute products (Higham,
"Accuracy and Stability of Numerical Algorithms", section 3.1), which by Cauchy-Schwarz is at most
the product of the norms. A patch is left out only if its distance less this bound exceeds the k-th
distance known; all others are compared in integers.
"""

from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.geometry import PatchGrid
from patchcollide.progress import track
from patchcollide.search.searcher import (
    NO_DISTANCE,
    Searcher,
    SearchResult,
    distances_in_store,
    nearest_first,
)
from patchcollide.shapes import Float32, Int64, UInt8, ndarray
from patchcollide.store import PatchStore

# Centring halves the values and so quarters the bound on rounding.
_CENTRE = 128
_BLOCK_IMAGES = 32


@dataclass(frozen=True)
class ExactSearcher(Searcher):
    """Compares every patch of the store; the answer is that of a loop in integers, bit for bit."""

    store: PatchStore

    def search(
        self,
        queries: UInt8[ndarray, "queries size size 3"],
        k: int,
        exclude: Int64[ndarray, "excluded"],
    ) -> SearchResult:
        """See :meth:`patchcollide.search.searcher.Searcher.search`."""
        allowed = self.store.valid.copy()
        allowed[exclude] = False
        flat = queries.reshape(len(queries), -1)
        best = nearest_first(*_nothing(len(queries)), k)
        num_blocks = -(-self.store.num_images // _BLOCK_IMAGES)
        blocks = track(self.store.blocks(_BLOCK_IMAGES), "Searching all patches", num_blocks)
        for first, images in blocks:
            usable = allowed[first : first + len(images)]
            if not usable.any():
                continue
            bounds = _distance_bounds(queries, images, self.store.grid)
            rows, columns = _candidates(*bounds, usable, self.store.grid, best)
            ids = columns + first * self.store.grid.num_positions
            best = _merge(best, rows, ids, distances_in_store(self.store, flat, rows, ids))
        return best


def _nothing(num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    empty = np.empty((num_queries, 0), np.int64)
    return empty, empty


def _distance_bounds(
    queries: UInt8[ndarray, "queries size size 3"],
    images: UInt8[ndarray, "n side side 3"],
    grid: PatchGrid,
) -> tuple[Float32[ndarray, "queries patches"], Float32[ndarray, "queries patches"]]:
    """Returns a lower and an upper bound of every squared distance of this block."""
    pixels = torch.from_numpy(np.array(grid.reduce(images))).permute(0, 3, 1, 2).float()
    pixels -= _CENTRE
    filters = torch.from_numpy(np.array(queries)).permute(0, 3, 1, 2).float() - _CENTRE
    step = grid.stride // grid.factor
    products = torch.nn.functional.conv2d(pixels, filters.contiguous(), stride=step)
    # Squares of 8-bit numbers summed in float64 are exact.
    ones = torch.ones(1, 3, grid.patch_size, grid.patch_size, dtype=torch.float64)
    norms = torch.nn.functional.conv2d(pixels.double().square(), ones, stride=step)
    query_norms = filters.double().square().sum(dim=(1, 2, 3))[None, :, None, None]
    roundings = (grid.dimension + 4) * 2.0**-24
    slack = 2 * roundings / (1 - roundings) * (query_norms.sqrt() * norms.sqrt())
    distances = norms + query_norms - 2 * products.double()
    lower, upper = distances - slack, distances + slack
    return tuple(  # type: ignore[return-value]
        _outwards(bound, direction).permute(1, 0, 2, 3).flatten(1).numpy()
        for bound, direction in ((lower, -torch.inf), (upper, torch.inf))
    )


def _outwards(bound: torch.Tensor, direction: float) -> torch.Tensor:
    """Rounds to float32 in a direction, so that a bound stays one."""
    rounded = bound.float()
    return torch.nextafter(rounded, torch.full_like(rounded, direction))


def _candidates(
    lower: Float32[ndarray, "queries patches"],
    upper: Float32[ndarray, "queries patches"],
    usable: np.ndarray,
    grid: PatchGrid,
    best: SearchResult,
) -> tuple[Int64[ndarray, "n"], Int64[ndarray, "n"]]:
    """Returns (query, column) of every patch that could be among the ``k`` nearest."""
    columns = np.repeat(usable, grid.num_positions)
    lower[:, ~columns] = np.inf
    known = best.squared_distances[:, -1].astype(np.float64)
    k = best.ids.shape[1]
    if (known == float(NO_DISTANCE)).any() and columns.sum() >= k:
        within = np.where(columns, upper, np.inf)
        known = np.minimum(known, np.partition(within, k - 1, axis=1)[:, k - 1])
    rows, found = np.nonzero((lower <= known[:, None]) & columns)
    return rows.astype(np.int64), found.astype(np.int64)


def _merge(
    best: SearchResult, rows: np.ndarray, ids: np.ndarray, distances: np.ndarray
) -> SearchResult:
    """Adds found patches to each query's best ``k``; ``rows`` is sorted."""
    if not len(rows):
        return best
    k = best.ids.shape[1]
    counts = np.bincount(rows, minlength=len(best.ids))
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    new_ids = np.full((len(best.ids), counts.max()), -1, np.int64)
    new_distances = np.full(new_ids.shape, NO_DISTANCE, np.int64)
    new_ids[rows, places] = ids
    new_distances[rows, places] = distances
    return nearest_first(
        np.concatenate([best.squared_distances, new_distances], axis=1),
        np.concatenate([best.ids, new_ids], axis=1),
        k,
    )
