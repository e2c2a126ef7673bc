"""Where the pixels of a composition come from: which neighbours, from which images, how much."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from patchcollide.composition.mixing import LogitTiles, Tint
from patchcollide.errors import RunError
from patchcollide.geometry import Canvas
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.shapes import Float, Float32, Int64, Tensor, ndarray

ENCODING = "patchcollide-contributions"
VERSION = "1"


@dataclass(frozen=True)
class Contributions:
    """What each neighbour adds to the vertices, on blocks of pixels and in all.

    The coefficients of a pixel sum to 1 over all patches that cover it; a neighbour's part in a
    block is the mean of its coefficients over the block's pixels.

    Attributes:
        locations: The locations of the neighbours that add most to a block, most first.
        ranks: Their ranks among the neighbours of their location.
        parts: Their parts, 0..1; those left out add the rest to 1.
        shares: Part of every neighbour in each whole vertex; of one vertex they sum to 1.
    """

    locations: Int64[ndarray, "vertices blocks blocks most"]
    ranks: Int64[ndarray, "vertices blocks blocks most"]
    parts: Float32[ndarray, "vertices blocks blocks most"]
    shares: Float32[ndarray, "vertices locations k"]

    def save(self, path: Path, fingerprint: str) -> None:
        """Writes them, with the run they are of.

        Raises:
            DiskFullError: If the disk is full.
        """
        write_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            datasets=vars(self),
            attributes={"fingerprint": fingerprint},
        )

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> "Contributions":
        """Reads what :meth:`save` wrote.

        Raises:
            RunError: If it is missing, damaged, or of another run.
        """
        with open_hdf5(path, encoding=ENCODING, version=VERSION, error=RunError) as file:
            if file.attribute("fingerprint") != fingerprint:
                raise RunError(f"{path} belongs to another run than the files beside it.")
            parts = file.array("parts", np.float32, (None, None, None, None))
            shares = file.array("shares", np.float32, (len(parts), None, None))
            found = {
                name: file.array(name, np.int64, parts.shape) for name in ("locations", "ranks")
            }
        for name, limit in zip(found, shares.shape[1:], strict=True):
            if found[name].size and not 0 <= found[name].min() <= found[name].max() < limit:
                raise RunError(f"{path} is damaged: {name} should be 0 to {limit - 1}.")
        return cls(parts=parts, shares=shares, **found)


def contributions_of(
    logits: Float[Tensor, "vertices k rows cols size size"],
    frame: Float[Tensor, "support support"],
    canvas: Canvas,
    *,
    num_blocks: int,
    most: int,
    tint: Tint | None = None,
) -> Contributions:
    """Finds what adds most to each block of pixels, from the coefficients of a composition.

    Args:
        logits: Unnormalised coefficients; see :func:`patchcollide.composition.mixing.mix_patches`.
        frame: What is added to the logits of every patch.
        canvas: Where patches lie. What margins show outside the image does not count.
        num_blocks: Blocks along a side; at most the pixels of the image.
        most: How many neighbours to keep of each block.
        tint: What is added to the logits at each pixel; None for nothing.
    """
    blocks = _Blocks.of(canvas, min(num_blocks, canvas.image_size))
    weights = (blocks.areas / blocks.areas.sum())[:, :, None]
    found, shares = [], []
    for number, vertex in enumerate(logits.detach()):
        own = tint and Tint(tint.field[number, None], tint.patches)
        parts = blocks.gather(vertex[None], frame, own)
        found.append(parts.topk(min(most, parts.shape[2]), dim=2))
        shares.append((parts * weights).sum(dim=(0, 1)).reshape(-1, len(vertex)))
    numbers = torch.stack([indices for _, indices in found]).numpy()
    return Contributions(
        locations=numbers // logits.shape[1],
        ranks=numbers % logits.shape[1],
        parts=torch.stack([values for values, _ in found]).numpy(),
        shares=torch.stack(shares).float().numpy(),
    )


@dataclass(frozen=True)
class _Blocks:
    """Blocks of the image's pixels, and how supports lie on them.

    Attributes:
        canvas: Where patches lie.
        owner: The block of each pixel along a side of what supports cover; -1 outside the image.
        num_blocks: Blocks along a side.
    """

    canvas: Canvas
    owner: Int64[Tensor, "covered"]
    num_blocks: int

    @classmethod
    def of(cls, canvas: Canvas, num_blocks: int) -> "_Blocks":
        covered = canvas.stride * (canvas.positions_per_side - 1) + canvas.support
        pixel = torch.arange(covered) - canvas.margin
        inside = (pixel >= 0) & (pixel < canvas.image_size)
        owner = torch.where(inside, pixel * num_blocks // canvas.image_size, -1)
        return cls(canvas, owner, num_blocks)

    @property
    def _lengths(self) -> Float[Tensor, "blocks"]:
        return torch.bincount(self.owner[self.owner >= 0], minlength=self.num_blocks).double()

    @property
    def areas(self) -> Float[Tensor, "blocks blocks"]:
        """The number of pixels of each block."""
        return self._lengths.outer(self._lengths)

    def _pooling(self, position: int) -> Float[Tensor, "blocks support"]:
        """Returns the matrix that takes means over blocks along a side of a support."""
        start = position * self.canvas.stride
        owner = self.owner[start : start + self.canvas.support]
        matrix = (owner[None] == torch.arange(self.num_blocks)[:, None]).double()
        return matrix / self._lengths.clamp(min=1)[:, None]

    def gather(
        self,
        logits: Float[Tensor, "1 k rows cols size size"],
        frame: Float[Tensor, "support support"],
        tint: Tint | None,
    ) -> Float[Tensor, "blocks blocks neighbours"]:
        """Returns the part of each neighbour, by location and rank, in each block."""
        tiles = LogitTiles.of(logits, frame, self.canvas.stride, tint).normalised()
        side, k, blocks = self.canvas.positions_per_side, logits.shape[1], self.num_blocks
        parts = torch.zeros(blocks, blocks, side, side, k)
        poolings = [self._pooling(position) for position in range(side)]
        for row in range(side):
            coefficients = tiles.exponentials(row)[0].double().cpu()
            for col in range(side):
                pooled = poolings[row] @ coefficients[:, col] @ poolings[col].T
                parts[:, :, row, col] = pooled.permute(1, 2, 0).float()
        return parts.reshape(blocks, blocks, -1)
