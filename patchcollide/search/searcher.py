"""What every search engine takes and gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchcollide.shapes import Bool, Int64, UInt8, ndarray

NO_DISTANCE = np.iinfo(np.int64).max
"""The squared distance that goes with identifier -1, "there is none"."""


@dataclass(frozen=True)
class SearchResult:
    """The nearest patches of each query, nearest first, ties by identifier.

    Attributes:
        squared_distances: Squared L2 between 8-bit patches; :data:`NO_DISTANCE` where none.
        ids: Patch identifiers; -1 where there are fewer than ``k`` patches.
        certified: Of which queries the answer is proven: no patch of the store is nearer.
    """

    squared_distances: Int64[ndarray, "queries k"]
    ids: Int64[ndarray, "queries k"]
    certified: Bool[ndarray, "queries"]


@dataclass(frozen=True)
class Question:
    """Queries, and what their answers may not be.

    Attributes:
        queries: Patches to look for.
        exclude: Numbers of images whose patches are never returned; unreadable ones never are.
    """

    queries: UInt8[ndarray, "queries size size 3"]
    exclude: Int64[ndarray, "excluded"]


class Searcher(ABC):
    """A search engine over one store."""

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
        return self.search_all([Question(queries, exclude)], k)[0]

    @abstractmethod
    def search_all(self, questions: Sequence[Question], k: int) -> list[SearchResult]:
        """Answers several questions; one pass over the store, where there is one, serves all."""


def nearest_first(
    distances: Int64[ndarray, "queries n"],
    ids: Int64[ndarray, "queries n"],
    k: int,
    certified: Bool[ndarray, "queries"],
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
    return SearchResult(kept_distances, kept_ids, certified)
