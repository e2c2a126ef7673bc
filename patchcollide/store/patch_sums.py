"""Block sums of single patches, here and there in a store: what candidates are bounded by."""

from typing import cast

import numpy as np
import torch

from patchcollide.errors import StoreError
from patchcollide.io.mapped_arrays import MappedArray
from patchcollide.shapes import Int8, Int16, Int32, Int64, Tensor, ndarray
from patchcollide.store.blocks import Blocks
from patchcollide.store.integer_products import centred, row_norms
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.sums_files import SumsFile, open_sums


class PatchSums:
    """The sums of a store's patches; files of them stay mapped into memory as long as this is kept.

    Unlike what a pass reads they are compared with no checksum: no proof may rest on them. Of
    shards without a file of sums they are made of the pixels.

    Args:
        store: The store.
    """

    def __init__(self, store: PatchStore) -> None:
        self.store = store
        self.blocks = Blocks.of(store.grid)
        self._files: dict[int, tuple[SumsFile, MappedArray, MappedArray] | None] = {}

    def gather(
        self, ids: Int64[ndarray, "n"]
    ) -> tuple[Int8[Tensor, "n bytes"], Int32[ndarray, "n"]]:
        """Returns the rows of :meth:`Blocks.rows`, and the squared norms, of single patches.

        Args:
            ids: Identifiers of patches of the store, whose grid has blocks.
        """
        blocks = cast("Blocks", self.blocks)
        images, rows, cols = self.store.grid.locate(ids)
        sums = np.empty((len(ids), blocks.width), np.int16)
        norms = np.empty(len(ids), np.int32)
        for shard, mask in self.store.shards_of(images):
            maps = self._maps_of(shard)
            if maps:
                places = images[mask] - shard.first_image, rows[mask], cols[mask]
                sums[mask], norms[mask] = self._mapped(*maps, *places)
            else:
                patches = self.store.patches(ids[mask])
                flat = torch.from_numpy(centred(patches).reshape(len(patches), -1))
                sums[mask], norms[mask] = blocks.sums_of_patches(patches), row_norms(flat).numpy()
        return blocks.as_bytes(torch.from_numpy(sums)), norms

    def _mapped(
        self,
        sums: np.ndarray,
        norms: np.ndarray,
        images: Int64[ndarray, "n"],
        rows: Int64[ndarray, "n"],
        cols: Int64[ndarray, "n"],
    ) -> tuple[Int16[ndarray, "n width"], Int32[ndarray, "n"]]:
        blocks = cast("Blocks", self.blocks)
        found = blocks.windows(sums)[images, rows, cols].reshape(len(images), blocks.width)
        return found, norms[images, rows * self.store.grid.positions_per_side + cols]

    def _maps_of(self, shard: Shard) -> tuple[np.ndarray, np.ndarray] | None:
        if shard.first_image not in self._files:
            file = open_sums(self.store.grid, shard.origin)
            self._files[shard.first_image] = (file, *file.maps()) if file else None
        found = self._files[shard.first_image]
        if found is None:
            return None
        file, sums, norms = found
        try:
            # Whoever touches a page of a map that was cut off meanwhile is killed.
            whole = file.path.stat().st_size >= file.num_bytes
            return (np.asarray(sums.array()), np.asarray(norms.array())) if whole else None
        except (OSError, StoreError):
            return None
