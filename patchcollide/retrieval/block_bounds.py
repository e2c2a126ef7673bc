"""Which patches may be near a query, by the sums of their blocks alone.

With ``P`` the projection onto some directions,

    <x, q> = <Px, Pq> + <x - Px, q - Pq>  <=  <Px, Pq> + |x - Px| |q - Pq|,

so that ``|x|^2 + |q|^2`` less twice the bound is at most the squared distance. Two such bounds
follow each other. The first projects onto few principal components that are constant on blocks,
and is one product of short float32 rows for all patches; what its rounding can add is added to it
(:meth:`BlockBounds._cover`). The second projects what the first leaves onto everything that is
constant on blocks, and is exact: sums of blocks ``S`` are whole numbers, ``|Px|^2`` is ``|S|^2`` by
the pixels of a block, and float64 holds all but the two roots.
"""

from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.shapes import Float32, Float64, Int8, Int32, Int64, Tensor, UInt8, ndarray
from patchcollide.store.blocks import BlockFilters, Blocks, BlockSums
from patchcollide.torch_modes import proof_modes

IMAGES_AT_ONCE = 8
"""Images whose patches are bounded at once."""
_UNIT = 2.0**-24
# One and a little: more than what some roundings in float64 can take away.
_UP = 1 + 2.0**-48


@dataclass(frozen=True)
class Near:
    """Patches of some images that may be near a query.

    Attributes:
        rows: Their places among all patches of the images, rising.
        queries: The queries that one of them may be near, rising.
    """

    rows: Int64[ndarray, "some"]
    queries: Int64[ndarray, "few"]


class BlockBounds:
    """Queries made ready to be bounded against block sums.

    Args:
        blocks: Those of the store's grid.
        filters: Principal components of its patches, one value for each block.
        queries: Patches to look for.
        norms: Squared norm of each, centred.
        device: Where to compute, such as ``cpu`` or ``cuda``.
    """

    @proof_modes()
    def __init__(
        self,
        blocks: Blocks,
        filters: Int8[ndarray, "components width"],
        queries: UInt8[ndarray, "queries size size 3"],
        norms: Int32[Tensor, "queries"],
        device: str = "cpu",
    ) -> None:
        self.blocks = blocks
        self._filters = BlockFilters(blocks, filters)
        wide = filters.astype(np.float64)
        gram = blocks.side**2 * (wide @ wide.T)
        transform = np.linalg.inv(np.linalg.cholesky(gram))
        excess = transform @ gram @ transform.T - np.eye(len(gram))
        self._skewness = 2 * float(np.linalg.norm(excess, ord=2)) + 1e-12
        self._transform = torch.from_numpy(transform).to(device)
        self._device = device
        self._norms = norms.double()
        rows = blocks.rows_of_patches(queries).to(device)
        self._described = self._describe(rows, norms)
        self._sums = blocks.values(rows).double()
        self._rests = self._rest(self._sums, self._norms)

    @proof_modes()
    def near(self, images: BlockSums, bounds: Int64[ndarray, "queries"]) -> Near:
        """Returns the patches of some images that are not proven farther than the bounds.

        Args:
            images: Their sums and norms.
            bounds: A squared distance for each query.
        """
        known = torch.from_numpy(bounds).to(self._device).double()
        norms = torch.from_numpy(images.norms).to(self._device).reshape(-1)
        positions = self.blocks.grid.num_positions
        of_queries = self._of_queries(known)
        places, kept = [], []
        for start in range(0, len(images.sums), IMAGES_AT_ONCE):
            few = torch.from_numpy(images.sums[start : start + IMAGES_AT_ONCE]).to(self._device)
            rows = self.blocks.rows(few)
            some = norms[start * positions : start * positions + len(rows)]
            near = self._first(rows, some, of_queries)
            places.append(start * positions + near)
            kept.append(rows[near])
        if not places:
            return Near(np.empty(0, np.int64), np.empty(0, np.int64))
        near, rows = torch.cat(places), torch.cat(kept)
        left, queries = self._second(rows, norms[near].double(), known)
        return Near(near[left].cpu().numpy(), queries.cpu().numpy())

    def _first(
        self,
        rows: Int8[Tensor, "patches bytes"],
        norms: Int32[Tensor, "patches"],
        of_queries: Float32[Tensor, "queries width"],
    ) -> Int64[Tensor, "some"]:
        """Returns the patches that the first bound leaves.

        The halves of their norms and the queries' limits go into the product as well, so that a
        patch is proven too far for every query by the largest of its products alone.
        """
        half = self._lowered(norms.double() / 2)[:, None]
        of_patches = torch.cat([self._describe(rows, norms), -half, torch.ones_like(half)], dim=1)
        largest = (of_patches @ of_queries.T).amax(dim=1)
        places = np.flatnonzero(largest.cpu().numpy() >= 0)
        return torch.from_numpy(places).to(rows.device)

    def _of_queries(self, bounds: Float64[Tensor, "queries"]) -> Float32[Tensor, "queries width"]:
        limits = self._lowered((self._norms - bounds) / 2)[:, None]
        return torch.cat([self._described, torch.ones_like(limits), -limits], dim=1)

    def _lowered(self, values: Float64[Tensor, "n"]) -> Float32[Tensor, "n"]:
        """Returns values lowered by what the sums they go into can lose, and then rounded."""
        return (values - self._loss * values.abs()).float()

    def _describe(
        self, rows: Int8[Tensor, "n bytes"], norms: Int32[Tensor, "n"]
    ) -> Float32[Tensor, "n width"]:
        """Returns rows whose products are at least the inner products of patches.

        A row holds the coordinates of the patch along the components, the norm of the rest, and
        what covers rounding; see :meth:`_cover`.
        """
        described = (self._filters.products(rows).double() @ self._transform.T).float()
        squares = norms.double()
        held = described.double().square().sum(dim=1)
        slack = (2 * self._skewness + 3 * _UNIT) * squares
        rest = ((squares - held).clamp(min=0) + slack).sqrt()
        columns = torch.stack([rest, (self._cover * squares).sqrt()], dim=1) * (1 + 4 * _UNIT)
        return torch.cat([described, columns.float()], dim=1)

    @property
    def _cover(self) -> float:
        """Bound on what the product of two rows lacks, as a share of the product of norms.

        Let ``u = 2**-24``, and ``s`` the skewness: the filters, made orthonormal in float64, are so
        within ``s``. Their products with patches are whole numbers, and what float64 rounds is
        far below ``u``; coordinates rounded to float32 are off by ``u |x|`` together. So

        - ``<Px, Pq>`` is off by at most ``(2 u + s) |x| |q|`` to first order;
        - ``|x - Px|^2 = |x|^2 - |Px|^2`` by ``(2 u + s) |x|^2``, which is added where it is taken;
        - a sum of ``n`` products, in whatever order and of rounded terms, by ``n u / (1 - n u)``
          of the sum of their sizes (Higham, "Accuracy and Stability of Numerical Algorithms",
          section 3.1), here of ``D`` coordinates, the rest, this cover, and the two terms that
          :meth:`_first` adds, which are lowered by as much themselves. The first are
          ``(1 + 4 u) |x| |q|`` at most.

        The factor 1.1 covers higher orders.
        """
        return 1.1 * (self._loss + 2 * _UNIT + self._skewness)

    @property
    def _loss(self) -> float:
        roundings = (len(self._filters.filters) + 6) * _UNIT
        return roundings / (1 - roundings)

    def _second(
        self,
        rows: Int8[Tensor, "patches bytes"],
        norms: Float64[Tensor, "patches"],
        bounds: Float64[Tensor, "queries"],
    ) -> tuple[Int64[Tensor, "some"], Int64[Tensor, "few"]]:
        """Returns which of the patches, and which queries, the second bound leaves.

        Times the pixels of a block, half the squared distance is at least half of what norms give
        less the product of sums and that of the rests, all of it in whole numbers but the rests.
        """
        pixels = self.blocks.side**2
        sums = self.blocks.values(rows).double()
        within = torch.addmm(-pixels / 2 * norms[:, None], sums, self._sums.T)
        within.addmm_(self._rest(sums, norms)[:, None], self._rests[None] * _UP)
        # What is lost to the last rounding is far below a half, and all else is whole.
        near = within >= pixels / 2 * (self._norms - bounds) - 0.5
        return near.any(dim=1).nonzero().flatten(), near.any(dim=0).nonzero().flatten()

    def _rest(
        self, sums: Float64[Tensor, "n width"], norms: Float64[Tensor, "n"]
    ) -> Float64[Tensor, "n"]:
        """Returns what the norm of a patch has beside that of its sums, by the root of a block."""
        return (self.blocks.side**2 * norms - sums.square().sum(dim=1)).sqrt()
