"""What every search engine takes and gives, and the nearest of pairs that may be near."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
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
        proven: Of which queries the answer is proven: no patch of the store is nearer.
    """

    squared_distances: Int64[ndarray, "queries k"]
    ids: Int64[ndarray, "queries k"]
    proven: Bool[ndarray, "queries"]


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


@dataclass(frozen=True)
class Pairs:
    """Compared pairs.

    Attributes:
        queries: Number of the query of each pair.
        ids: Identifier of its patch.
        squared_distances: Squared L2 between them, whole numbers.
    """

    queries: Int64[ndarray, "n"]
    ids: Int64[ndarray, "n"]
    squared_distances: Int64[ndarray, "n"]

    @classmethod
    def none(cls) -> "Pairs":
        """Returns no pairs."""
        return cls(*(np.empty(0, np.int64) for _ in range(3)))

    @classmethod
    def of_table(
        cls,
        ids: Int64[ndarray, "queries n"],
        squared_distances: Int64[ndarray, "queries n"],
    ) -> "Pairs":
        """Returns the pairs of a table with a row for each query, -1 where there is none."""
        queries, places = np.nonzero(ids >= 0)
        return cls(queries, ids[queries, places], squared_distances[queries, places])

    @classmethod
    def joined(cls, several: Iterable["Pairs"]) -> "Pairs":
        """Returns the pairs of all of ``several``."""
        parts = [cls.none(), *several]
        return cls(
            np.concatenate([part.queries for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.squared_distances for part in parts]),
        )

    def nearest(self, k: int) -> "Pairs":
        """Keeps the ``k`` nearest of each query, ties by identifier; each pair once."""
        order = np.lexsort((self.ids, self.squared_distances, self.queries))
        queries, ids = self.queries[order], self.ids[order]
        again = np.zeros(len(order), np.bool_)
        again[1:] = (queries[1:] == queries[:-1]) & (ids[1:] == ids[:-1])
        order = order[~again]
        first = np.searchsorted(self.queries[order], self.queries[order])
        kept = order[np.arange(len(order)) - first < k]
        return Pairs(self.queries[kept], self.ids[kept], self.squared_distances[kept])

    def table(self, num_queries: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns squared distances and identifiers as ``(num_queries, k)``, filled up with none.

        The pairs must be those of :meth:`nearest`.
        """
        distances = np.full((num_queries, k), NO_DISTANCE, np.int64)
        ids = np.full((num_queries, k), -1, np.int64)
        ranks = np.arange(len(self.queries)) - np.searchsorted(self.queries, self.queries)
        distances[self.queries, ranks] = self.squared_distances
        ids[self.queries, ranks] = self.ids
        return distances, ids
