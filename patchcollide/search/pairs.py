"""Pairs of query and patch that may be near, and the nearest of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from patchcollide.search.searcher import NO_DISTANCE
from patchcollide.shapes import Int64, ndarray


@dataclass(frozen=True)
class Pairs:
    """Compared pairs.

    Attributes:
        queries: Number of the query of each pair.
        ids: Identifier of its patch.
        squared_distances: Squared L2 between them, exact.
    """

    queries: Int64[ndarray, "n"]
    ids: Int64[ndarray, "n"]
    squared_distances: Int64[ndarray, "n"]

    @classmethod
    def none(cls) -> "Pairs":
        """Returns no pairs."""
        return cls(*(np.empty(0, np.int64) for _ in range(3)))

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
