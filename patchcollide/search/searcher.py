"""What every search engine takes and gives, and the exact distances all of them end with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store import PatchStore

NO_DISTANCE = np.iinfo(np.int64).max
"""The squared distance that goes with identifier -1, "there is none"."""

# Sums of at most 256 squares of 8-bit differences stay below 2**24, where float32 still holds
# every integer: such a sum is exact in whatever order it is taken.
_EXACT_CHUNK = 256
_COMPARED_AT_ONCE = 8192


@dataclass(frozen=True)
class SearchResult:
    """The nearest patches of each query, nearest first, ties by identifier.

    Attributes:
        squared_distances: Squared L2 between 8-bit patches; :data:`NO_DISTANCE` where none.
        ids: Patch identifiers; -1 where there are fewer than ``k`` patches.
    """

    squared_distances: Int64[ndarray, "queries k"]
    ids: Int64[ndarray, "queries k"]


class Searcher(ABC):
    """A search engine over one store."""

    @abstractmethod
    def search(
        self,
        queries: UInt8[ndarray, "queries size size 3"],
        k: int,
        exclude: Int64[ndarray, "excluded"],
    ) -> SearchResult:
        """Finds the ``k`` patches nearest to each query.

        Args:
            queries: Patches to look for.
            k: How many neighbours to return.
            exclude: Numbers of images whose patches are never returned; unreadable ones never are.
        """


def squared_distances(
    queries: UInt8[ndarray, "n dimension"], patches: UInt8[ndarray, "n dimension"]
) -> Int64[ndarray, "n"]:
    """Returns the exact squared L2 distance of each query to the patch beside it."""
    difference = torch.from_numpy(patches).float() - torch.from_numpy(queries).float()
    padding = -difference.shape[1] % _EXACT_CHUNK
    padded = torch.nn.functional.pad(difference, (0, padding))
    chunks = padded.reshape(len(difference), -1, _EXACT_CHUNK)
    return np.asarray(chunks.square().sum(dim=2).long().sum(dim=1))


def distances_in_store(
    store: PatchStore,
    queries: UInt8[ndarray, "queries dimension"],
    rows: Int64[ndarray, "n"],
    ids: Int64[ndarray, "n"],
) -> Int64[ndarray, "n"]:
    """Returns the exact squared L2 distance of query ``rows[i]`` to patch ``ids[i]`` of a store."""
    found = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), _COMPARED_AT_ONCE):
        part = slice(start, start + _COMPARED_AT_ONCE)
        patches = store.patches(ids[part])
        found[part] = squared_distances(queries[rows[part]], patches.reshape(len(patches), -1))
    return found


def nearest_first(
    distances: Int64[ndarray, "queries n"], ids: Int64[ndarray, "queries n"], k: int
) -> SearchResult:
    """Sorts each row by distance, ties by identifier, and keeps ``k``, filled up with none."""
    order = np.lexsort((ids, distances), axis=1)[:, :k]
    kept_distances = np.take_along_axis(distances, order, axis=1)
    kept_ids = np.take_along_axis(ids, order, axis=1)
    missing = k - kept_ids.shape[1]
    if missing > 0:
        width = ((0, 0), (0, missing))
        kept_distances = np.pad(kept_distances, width, constant_values=NO_DISTANCE)
        kept_ids = np.pad(kept_ids, width, constant_values=-1)
    return SearchResult(kept_distances, kept_ids)
