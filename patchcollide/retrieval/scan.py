"""One pass over the store that finds the nearest patches, with proof.

The exact engine compares every patch with every query, in whole numbers. The certified engine
first bounds distances from below. A patch for which even that exceeds the k-th distance known is
proven too far and never compared; the others are compared in whole numbers, however many they are:
a query that the bound cannot help falls back to the full pass by itself. Rounding of the bound is
bounded too, so the answers of both engines are those of a loop in integers, bit for bit.

The bound is that of :mod:`patchcollide.retrieval.block_bounds`, from sums of blocks of pixels. Of
grids that have no blocks it takes all pixels of a patch, one product of long rows before that of
short ones (:class:`_Filter`).
"""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch

from patchcollide.errors import GeometryError
from patchcollide.geometry import PatchGrid
from patchcollide.retrieval.block_bounds import BlockBounds
from patchcollide.retrieval.component_bounds import ComponentBounds
from patchcollide.retrieval.lowest_values import everything, lowest_places
from patchcollide.retrieval.searcher import Pairs
from patchcollide.shapes import Bool, Int8, Int32, Int64, Tensor, UInt8, ndarray
from patchcollide.store.blocks import BlockSums
from patchcollide.store.descriptors import Basis
from patchcollide.store.integer_products import (
    CENTRE,
    centred,
    inner_products,
    row_norms,
    squared_norms,
    window_rows,
)
from patchcollide.torch_modes import proof_modes

IMAGES_AT_ONCE = 8
"""Images whose patches are compared at once, on the processor."""
ON_A_GPU = 128
"""Images whose patches are compared at once, on a GPU: it would wait for work in smaller parts."""
MOST_DIMENSIONS = 2**15 - 1
"""Of so many, norms plus twice a product stay below ``2**31``: each value is at most ``2**14``."""
_FAR = 2**31 - 1


class Scan:
    """Queries made ready to be compared with blocks of images.

    Args:
        queries: Patches to look for.
        grid: The geometry of the images.
        k: How many neighbours are wanted.
        basis: Of the certified engine; None compares everything.
        barred: By number of an image, the queries that may not find its patches.
        device: Where to compute, such as ``cpu`` or ``cuda``.

    Raises:
        GeometryError: If patches are larger than 104 x 104.
    """

    @proof_modes()
    def __init__(
        self,
        queries: UInt8[ndarray, "queries size size 3"],
        grid: PatchGrid,
        k: int,
        basis: Basis | None = None,
        barred: Mapping[int, Int64[ndarray, "some"]] | None = None,
        device: str = "cpu",
    ) -> None:
        if grid.dimension > MOST_DIMENSIONS:
            raise GeometryError(
                f"Patches of {grid.patch_size} x {grid.patch_size} pixels are too large to compare "
                "in 32-bit whole numbers, which hold up to 104 x 104. Set patches.patch_px lower."
            )
        self.grid = grid
        self.k = k
        self.num_queries = len(queries)
        self._barred = barred or {}
        self.device = device
        self._at_once = IMAGES_AT_ONCE if device == "cpu" else ON_A_GPU
        self._queries = torch.from_numpy(centred(queries).reshape(len(queries), -1)).to(device)
        self._norms = row_norms(self._queries)
        self._bounds = self._filter = None
        if basis is not None and basis.block_filters:
            filters = basis.block_filters
            self._bounds = BlockBounds(
                filters.blocks, filters.filters, queries, self._norms, device
            )
        # Where filters are far from orthonormal the bound says nothing.
        elif basis is not None and basis.skewness < 0.1:
            self._filter = ComponentBounds(basis)
            self._described = self._filter.describe(self._queries, self._norms)

    @property
    def takes_sums(self) -> bool:
        """Whether :meth:`block_of_sums` is what passes over the store."""
        return self._bounds is not None

    @proof_modes()
    def block(
        self,
        images: UInt8[ndarray, "n side side 3"],
        numbers: Int64[ndarray, "n"],
        bounds: Int64[ndarray, "queries"],
        norms: Int32[ndarray, "n positions"] | None = None,
    ) -> Pairs:
        """Returns every pair in these images that could belong to the nearest ``k``.

        Args:
            images: As they are stored.
            numbers: Their numbers in the store, rising.
            bounds: No neighbour of a query is farther than this squared distance.
            norms: Squared norms of their centred patches, if they are known.
        """
        if self._bounds:
            sums = self._bounds.blocks.summed(images)
            return self.block_of_sums(sums, numbers, bounds, lambda places: images[places])
        parts = [slice(n, n + self._at_once) for n in range(0, len(images), self._at_once)]
        some = [None if norms is None else norms[part] for part in parts]
        return self._nearest(
            [
                self._few(images[part], numbers[part], bounds, few)
                for part, few in zip(parts, some, strict=True)
            ]
        )

    @proof_modes()
    def block_of_sums(
        self,
        images: BlockSums,
        numbers: Int64[ndarray, "n"],
        bounds: Int64[ndarray, "queries"],
        read: Callable[[Int64[ndarray, "some"]], UInt8[ndarray, "some side side 3"]],
    ) -> Pairs:
        """Does what :meth:`block` does, and reads only those of the images that it must.

        Args:
            images: Their sums and norms.
            numbers: See there.
            bounds: See there.
            read: Returns some of the images, by their places among these.
        """
        near = cast("BlockBounds", self._bounds).near(images, bounds)
        queries = torch.from_numpy(near.queries).to(self.device)
        of_rows, positions = np.divmod(near.rows, self.grid.num_positions)
        needed = np.unique(of_rows)
        found = []
        for start in range(0, len(needed), self._at_once):
            places = needed[start : start + self._at_once]
            here = slice(*np.searchsorted(of_rows, [places[0], places[-1] + 1]))
            own = np.searchsorted(places, of_rows[here])
            rows = torch.from_numpy(own * self.grid.num_positions + positions[here])
            norms = torch.from_numpy(images.norms[of_rows[here], positions[here]])
            pixels = self._pixels(read(places))
            found.append(
                self._pairs(
                    window_rows(pixels, self.grid, rows.to(self.device)),
                    norms.to(self.device),
                    numbers[of_rows[here]] * self.grid.num_positions + positions[here],
                    queries,
                    bounds,
                )
            )
        return self._nearest(found)

    def _nearest(self, found: list[Pairs]) -> Pairs:
        pairs = Pairs.joined(found)
        # Few can be among the nearest of all; of many, most are kept for nothing.
        return pairs if len(pairs.ids) <= self.num_queries * self.k else pairs.nearest(self.k)

    def _pixels(self, images: UInt8[ndarray, "n side side 3"]) -> Int8[Tensor, "n small small 3"]:
        # Copied first: what is done to them costs a GPU nothing.
        pixels = torch.from_numpy(self.grid.reduce(images)).to(self.device)
        return pixels.bitwise_xor(CENTRE).view(torch.int8)

    def _few(
        self,
        images: np.ndarray,
        numbers: np.ndarray,
        bounds: np.ndarray,
        known_norms: np.ndarray | None,
    ) -> Pairs:
        pixels = self._pixels(images)
        rows = window_rows(pixels, self.grid)
        if known_norms is None:
            norms = squared_norms(pixels, self.grid)
        else:
            norms = torch.from_numpy(known_norms.reshape(-1)).to(self.device)
        near, queries = everything(rows), everything(self._queries)
        if self._filter:
            known = torch.from_numpy(bounds).to(self.device)
            near, queries = self._filter.possible(
                self._filter.describe(rows, norms),
                norms,
                self._described,
                (self._norms.double() - known.double()) / 2,
            )
        if len(near) < len(rows):
            rows, norms = rows[near], norms[near]
        images_of, places = np.divmod(near.cpu().numpy(), self.grid.num_positions)
        ids = numbers[images_of] * self.grid.num_positions + places
        return self._pairs(rows, norms, ids, queries, bounds)

    def _pairs(
        self,
        rows: Int8[Tensor, "patches dimension"],
        norms: Int32[Tensor, "patches"],
        ids: Int64[ndarray, "patches"],
        queries: Int64[Tensor, "some"],
        bounds: Int64[ndarray, "queries"],
    ) -> Pairs:
        """Compares patches with queries; returns the pairs within the bounds."""
        known = torch.from_numpy(bounds).to(self.device)[queries]
        forbidden = self._forbidden(ids // self.grid.num_positions, queries)
        compared = self._compare(rows, norms, queries, known, forbidden)
        row, query, distances = (tensor.cpu().numpy() for tensor in compared)
        return Pairs(queries.cpu().numpy()[query], ids[row], distances)

    def _forbidden(
        self, images: Int64[ndarray, "patches"], queries: Int64[Tensor, "some"]
    ) -> Bool[Tensor, "patches some"] | None:
        """Returns which pairs of patch and query may not be found; None if all may."""
        if not self._barred:
            return None
        barred = [number for number in np.unique(images).tolist() if number in self._barred]
        if not barred:
            return None
        of_queries = queries.cpu().numpy()
        forbidden = np.zeros((len(images), len(of_queries)), np.bool_)
        for number in barred:
            forbidden |= (images == number)[:, None] & np.isin(of_queries, self._barred[number])
        return torch.from_numpy(forbidden).to(queries.device)

    def _compare(
        self,
        rows: Int8[Tensor, "patches dimension"],
        norms: Int32[Tensor, "patches"],
        queries: Int64[Tensor, "some"],
        bounds: Int64[Tensor, "some"],
        forbidden: Bool[Tensor, "patches some"] | None,
    ) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"], Int64[Tensor, "n"]]:
        """Returns row, query and squared distance of the pairs within the bounds.

        Of each query the nearest ``k`` are among them, ties by row: identifiers rise with rows.
        """
        whole = len(queries) == self.num_queries
        products = inner_products(rows, self._queries if whole else self._queries[queries])
        # Distance less the query's norm.
        partial = torch.sub(norms[:, None], products, alpha=2, out=products)
        if forbidden is not None:
            partial[forbidden] = _FAR
        limits = (bounds - self._norms[queries]).clamp(max=_FAR - 1)
        row, query = lowest_places(partial, limits.int(), self.k)
        distances = partial[row, query].long() + self._norms[queries[query]]
        return row, query, distances
