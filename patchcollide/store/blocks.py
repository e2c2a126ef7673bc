"""Sums of an image's pixels over small blocks, which overlapping windows share.

Where windows begin and end between blocks of ``side`` x ``side`` pixels, the sums over an image's
blocks hold every inner product of its patches with a filter that is constant on blocks: rows are
``side**2`` times shorter than patches, and an image is reduced once for all of its windows. A sum
of up to 16 values of 8 bits has 12: its two bytes are taken as two signed values, so that products
with filters are those of :mod:`patchcollide.store.integer_products`, whole numbers throughout.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from patchcollide.geometry import PatchGrid
from patchcollide.shapes import Int8, Int16, Int32, Int64, Tensor, UInt8, ndarray
from patchcollide.store.integer_products import CENTRE, centred, inner_products, squared_norms
from patchcollide.torch_modes import proof_modes

_SIDES = (4, 2)
_LEAST_WIDE = 4
# Blocks that are summed by one row of a product, where so many divide an image's width.
_BLOCKS_AT_ONCE = 4


@dataclass(frozen=True)
class BlockSums:
    """What is kept of images to bound distances to their patches.

    Attributes:
        sums: Of the values of each block, not centred: 0 to ``255 * side**2``.
        norms: Squared norm of each centred patch.
    """

    sums: Int16[ndarray, "n blocks blocks 3"]
    norms: Int32[ndarray, "n positions"]

    def __getitem__(self, chosen: slice | np.ndarray) -> "BlockSums":
        """Returns the same of some of the images."""
        return BlockSums(self.sums[chosen], self.norms[chosen])


@dataclass(frozen=True)
class Blocks:
    """The blocks of a grid's images, after windows were averaged down to patches.

    Attributes:
        grid: The geometry.
        side: Width of a block in pixels; 4 or 2.
    """

    grid: PatchGrid
    side: int

    @classmethod
    def of(cls, grid: PatchGrid) -> "Blocks | None":
        """Returns the largest blocks between which a grid's windows begin and end, if any.

        A patch is at least four of them wide: of fewer sums no bound says much.
        """
        common = math.gcd(grid.stride // grid.factor, grid.patch_size)
        for side in _SIDES:
            if common % side == 0 and grid.patch_size >= _LEAST_WIDE * side:
                return cls(grid, side)
        return None

    @property
    def per_side(self) -> int:
        """Blocks along an image's side."""
        return self.grid.image_size // self.grid.factor // self.side

    @property
    def width(self) -> int:
        """Sums in a patch."""
        return self.grid.dimension // self.side**2

    @property
    def centre(self) -> int:
        """The sum of a block of values that are :data:`CENTRE`."""
        return CENTRE * self.side**2

    @proof_modes()
    def summed(self, images: UInt8[ndarray, "n size size 3"]) -> BlockSums:
        """Returns the sums and norms of images, as they are stored."""
        pixels = torch.from_numpy(centred(self.grid.reduce(images)))
        norms = squared_norms(pixels, self.grid).reshape(len(images), self.grid.num_positions)
        return BlockSums(self._sums(pixels).numpy(), norms.numpy())

    def _sums(self, pixels: Int8[Tensor, "n side side 3"]) -> Int16[Tensor, "n blocks blocks 3"]:
        num, side = self.per_side, self.side
        at_once = _BLOCKS_AT_ONCE if num % _BLOCKS_AT_ONCE == 0 else 1
        ones = np.kron(np.eye(at_once), np.kron(np.ones((1, side)), np.eye(3))).astype(np.int8)
        strips = pixels.reshape(-1, ones.shape[1])
        across = inner_products(strips, torch.from_numpy(ones)).reshape(-1, num, side, 3 * num)
        down = across[:, :, 0]
        for row in range(1, side):
            down = down + across[:, :, row]
        return down.add_(self.centre).to(torch.int16).reshape(-1, num, num, 3)

    def rows(self, sums: Int16[Tensor, "n blocks blocks 3"]) -> Int8[Tensor, "patches bytes"]:
        """Returns the sums of each patch as pairs of signed bytes, low and high.

        A sum is 256 times the second and the first, and 128. Flipping a bit of the low byte makes
        it a signed one.
        """
        shape, strides = self._layout(len(sums))
        flipped = torch.bitwise_xor(sums, CENTRE).contiguous()
        return flipped.as_strided(shape, strides).reshape(-1, self.width).view(torch.int8)

    def windows(
        self, sums: Int16[ndarray, "n blocks blocks 3"]
    ) -> Int16[ndarray, "n rows cols size thrice"]:
        """Returns the sums of each patch, as a view of those of images that lie in one piece."""
        shape, strides = self._layout(len(sums))
        steps = [step * sums.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(sums, shape, steps, writeable=False)

    def _layout(self, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns shape and strides of the patches of images, a row of blocks in one piece."""
        num, places = self.per_side, self.grid.positions_per_side
        step, size = self.grid.stride // self.grid.factor // self.side, self._size
        row = 3 * num
        return (count, places, places, size, 3 * size), (row * num, step * row, step * 3, row, 1)

    def rows_of_patches(self, patches: UInt8[ndarray, "n size size 3"]) -> Int8[Tensor, "n bytes"]:
        """Returns what :meth:`rows` returns, for separate patches."""
        return self.as_bytes(torch.from_numpy(self.sums_of_patches(patches)))

    def sums_of_patches(
        self, patches: UInt8[ndarray, "n size size 3"]
    ) -> Int16[ndarray, "n width"]:
        """Returns the sums of separate patches."""
        size = self._size
        cut = patches.reshape(len(patches), size, self.side, size, self.side, 3)
        # Of one row and column at a time: NumPy sums over short axes slowly.
        sums = np.zeros((len(patches), size, size, 3), np.int16)
        for row in range(self.side):
            for column in range(self.side):
                sums += cut[:, :, row, :, column]
        return sums.reshape(-1, self.width)

    @staticmethod
    def as_bytes(sums: Int16[Tensor, "n width"]) -> Int8[Tensor, "n bytes"]:
        """Returns sums of patches as :meth:`rows` has them."""
        return torch.bitwise_xor(sums, CENTRE).view(torch.int8)

    def values(self, rows: Int8[Tensor, "n bytes"]) -> Int16[Tensor, "n width"]:
        """Returns the centred sums that rows stand for."""
        return torch.bitwise_xor(rows.view(torch.int16), CENTRE) - self.centre

    def spread(self, filters: Int8[ndarray, "m width"]) -> Int8[ndarray, "m dimension"]:
        """Returns filters with a value for each pixel, the same in each block."""
        size = self._size
        cut = filters.reshape(len(filters), size, 1, size, 1, 3)
        whole = np.broadcast_to(cut, (len(filters), size, self.side, size, self.side, 3))
        return whole.reshape(len(filters), self.grid.dimension)

    def values_of(self, filters: Int8[ndarray, "m dimension"]) -> Int8[ndarray, "m width"]:
        """Returns what :meth:`spread` was given."""
        size = self._size
        cut = filters.reshape(len(filters), size, self.side, size, self.side, 3)
        return np.ascontiguousarray(cut[:, :, 0, :, 0]).reshape(len(filters), self.width)

    @property
    def _size(self) -> int:
        """Blocks along a patch."""
        return self.grid.patch_size // self.side


@dataclass(frozen=True)
class BlockFilters:
    """Filters that are constant on blocks: one 8-bit value for each sum of a patch."""

    blocks: Blocks
    filters: Int8[ndarray, "m width"]

    @cached_property
    def _of_bytes(self) -> tuple[Int8[Tensor, "twice bytes"], Int64[Tensor, "m"]]:
        """Returns the filters of low bytes, then those of high ones, and what is added at last."""
        count, width = self.filters.shape
        wide = np.zeros((2, count, width, 2), np.int8)
        wide[0, :, :, 0] = wide[1, :, :, 1] = self.filters
        rest = (CENTRE - self.blocks.centre) * self.filters.astype(np.int64).sum(axis=1)
        return torch.from_numpy(wide.reshape(2 * count, 2 * width)), torch.from_numpy(rest)

    @proof_modes()
    def products(self, rows: Int8[Tensor, "n bytes"]) -> Int32[Tensor, "n m"]:
        """Returns the inner products of centred patches with the filters, exactly.

        They are below ``2**31``: of ``dimension`` products of two values, at most ``2**14`` each.
        """
        filters, rest = (tensor.to(rows.device) for tensor in self._of_bytes)
        low, high = inner_products(rows, filters).tensor_split(2, dim=1)
        return torch.add(low, high, alpha=256).add_(rest.int())
