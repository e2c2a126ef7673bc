"""Whole images in which queries have found something: every patch of them is compared.

Neighbours of one image's patches lie together: where a location finds its nearest, those beside it
have theirs not far away. So the few images that a search has named hold most of what it missed, and
a bound from the sums of their blocks spares most comparisons with all of their patches. What of the
nearest was missed there tells, too, how much a query misses elsewhere.
"""

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import cast

import numpy as np

from patchcollide.parallel import map_in_threads, one_thread_each
from patchcollide.retrieval.block_bounds import COMPONENTS
from patchcollide.retrieval.scan import MOST_DIMENSIONS, Scan
from patchcollide.retrieval.searcher import Pairs
from patchcollide.shapes import Bool, Int64, UInt8, ndarray
from patchcollide.store.blocks import Blocks, BlockSums
from patchcollide.store.descriptors import Basis
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_files import open_sums, read_sums

MOST_IMAGES = 512
"""Images that are compared, at a time: those in which most queries have found something."""
IMAGES_AT_ONCE = 64
"""Images that a thread compares at once."""


@dataclass
class SharedImages:
    """Those of one search, which are compared once however often they are found.

    Attributes:
        store: The store.
        basis: Of its patches; bounds their distances.
        queries: Patches to look for.
        k: How many neighbours are wanted.
    """

    store: PatchStore
    basis: Basis
    queries: UInt8[ndarray, "queries size size 3"]
    k: int
    _compared: Int64[ndarray, "images"] = field(default_factory=lambda: np.empty(0, np.int64))

    def nearest(self, found: Pairs) -> Pairs:
        """Returns the nearest ``k`` of what was found and of all patches of the images it is in.

        Patches too large to be compared so are left out: the answer is what was found.

        Args:
            found: The nearest of each query so far, of images that may be found.
        """
        if self.store.grid.dimension > MOST_DIMENSIONS:
            return found
        numbers, counts = np.unique(found.ids // self.store.grid.num_positions, return_counts=True)
        fresh = ~np.isin(numbers, self._compared)
        numbers, counts = numbers[fresh], counts[fresh]
        chosen = np.sort(numbers[np.argsort(-counts, kind="stable")[:MOST_IMAGES]])
        self._compared = np.concatenate([self._compared, chosen])
        distances, _ = found.table(len(self.queries), self.k)
        some = partial(self._some, self._scan, bounds=np.ascontiguousarray(distances[:, -1]))
        parts = [chosen[n : n + IMAGES_AT_ONCE] for n in range(0, len(chosen), IMAGES_AT_ONCE)]
        with one_thread_each():
            pairs = list(map_in_threads(some, parts))
        return Pairs.joined([found, *pairs]).nearest(self.k)

    def left_out(self, ids: Int64[ndarray, "queries n"]) -> Bool[ndarray, "queries n"]:
        """Says of patches that were found whether their image is among too many to be compared."""
        if self.store.grid.dimension > MOST_DIMENSIONS:
            return np.zeros(ids.shape, np.bool_)
        return ~np.isin(ids // self.store.grid.num_positions, self._compared)

    @cached_property
    def _scan(self) -> Scan:
        return Scan(self.queries, self.store.grid, self.k, self.basis.first(COMPONENTS))

    def _some(
        self, scan: Scan, numbers: Int64[ndarray, "images"], bounds: Int64[ndarray, "queries"]
    ) -> Pairs:
        if not scan.takes_sums:
            return scan.block(self._pixels(numbers), numbers, bounds)
        sums, read = self._sums(numbers), lambda places: self._pixels(numbers[places])
        return scan.block_of_sums(sums, numbers, bounds, read)

    def _pixels(self, numbers: Int64[ndarray, "n"]) -> UInt8[ndarray, "n side side 3"]:
        return np.stack([self.store.image(int(number)) for number in numbers])

    def _sums(self, numbers: Int64[ndarray, "n"]) -> BlockSums:
        """Reads sums, of the pixels where there are none on the disk, or damaged ones."""
        blocks, found = cast("Blocks", Blocks.of(self.store.grid)), []
        # Numbers rise, and so do shards.
        for shard, mask in self.store.shards_of(numbers):
            file = open_sums(self.store.grid, shard.origin)
            for place in (numbers[mask] - shard.first_image).tolist():
                found.append(read_sums(shard, file, blocks, slice(place, place + 1)))
        return BlockSums(
            np.concatenate([each.sums for each in found]),
            np.concatenate([each.norms for each in found]),
        )
