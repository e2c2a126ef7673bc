"""Which patches may be near a query, by the sums of their blocks alone.

With ``P`` the projection onto some directions,

    <x, q> = <Px, Pq> + <x - Px, q - Pq>  <=  <Px, Pq> + |x - Px| |q - Pq|,

so that ``|x|^2 + |q|^2`` less twice the bound is at most the squared distance. Two such bounds
follow each other. The first projects onto few principal components that are constant on blocks,
and is one product of short float32 rows for all patches; what its rounding can take is added to it
(:attr:`BlockBounds._cover`). The second projects what the first leaves onto everything that is
constant on blocks, and is exact: sums ``S`` of blocks are whole numbers, ``|Px|^2`` is ``|S|^2`` by
the pixels of a block, and float64 holds all but the two roots.
"""

from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.shapes import Bool, Float32, Float64, Int8, Int32, Int64, Tensor, UInt8, ndarray
from patchcollide.store.blocks import BlockFilters, Blocks, BlockSums
from patchcollide.torch_modes import proof_modes

IMAGES_AT_ONCE = 32
"""Images whose patches are bounded at once, on the processor."""
ON_A_GPU = 512
"""Images whose patches are bounded at once, on a GPU."""
COMPONENTS = 32
"""Of those that an index has: more cost more than the comparisons they save."""
MOST_BOUNDED = 1 / 16
"""Where the first bound leaves a larger share of patches the second costs what it would spare."""
_UNIT = 2.0**-24
# A little more than what some roundings in float64 can take away.
_UP = 1 + 2.0**-48
_RAISED = 1 + 4 * _UNIT


@dataclass(frozen=True)
class Near:
    """Patches of some images that may be near a query.

    Attributes:
        rows: Their places among all patches of the images, rising.
        queries: The queries that one of them may be near, rising.
    """

    rows: Int64[ndarray, "some"]
    queries: Int64[ndarray, "few"]


class SumBounds:
    """Queries made ready to be bounded by all that is constant on blocks: the second bound.

    Args:
        blocks: Those of the store's grid.
        rows: Of queries, as :meth:`Blocks.rows` has them.
        norms: Squared norm of each query, centred.
    """

    def __init__(
        self,
        blocks: Blocks,
        rows: Int8[Tensor, "queries bytes"],
        norms: Float64[Tensor, "queries"],
    ) -> None:
        self._blocks, self._norms = blocks, norms
        self._sums = blocks.values(rows).double()
        self._rests = self._rest(self._sums, norms) * _UP

    def near(
        self,
        rows: Int8[Tensor, "patches bytes"],
        norms: Float64[Tensor, "patches"],
        bounds: Float64[Tensor, "queries"],
    ) -> Bool[Tensor, "patches queries"]:
        """Returns which pairs are not proven farther apart than the bound of their query.

        Times half the pixels of a block, a squared distance is at least what the norms give less
        the product of sums and that of the rests, all of it in whole numbers but the rests.
        """
        half = self._blocks.side**2 / 2
        sums = self._blocks.values(rows).double()
        products = torch.addmm(-half * norms[:, None], sums, self._sums.T)
        products.addcmul_(self._rest(sums, norms)[:, None], self._rests)
        # What is lost to the last rounding is far below a half.
        return products >= half * (self._norms - bounds) - 0.5

    def _rest(
        self, sums: Float64[Tensor, "n width"], norms: Float64[Tensor, "n"]
    ) -> Float64[Tensor, "n"]:
        """Returns the norm of what a patch has beside its sums, times the side of a block."""
        return (self._blocks.side**2 * norms - sums.square().sum(dim=1)).sqrt()


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
        self._transform = torch.from_numpy(transform.T.copy()).to(device)
        self._device = device
        self._norms = norms.double()
        rows = blocks.rows_of_patches(queries).to(device)
        self._described = self._describe(rows, self._norms, self._norms)
        self._all_sums = SumBounds(blocks, rows, self._norms)

    @proof_modes()
    def near(self, images: BlockSums, bounds: Int64[ndarray, "queries"]) -> Near:
        """Returns the patches of some images that are not proven farther than the bounds.

        Args:
            images: Their sums and norms, of one image at least.
            bounds: A squared distance for each query.
        """
        known = torch.from_numpy(bounds).to(self._device).double()
        of_queries = self._with_limits(known)
        norms = torch.from_numpy(images.norms).to(self._device).reshape(-1).double()
        halves = self._lowered(norms / 2)
        at_once = IMAGES_AT_ONCE if self._device == "cpu" else ON_A_GPU
        step = at_once * self.blocks.grid.num_positions
        # Memory that is taken anew each time costs as much as what is written to it.
        room = torch.empty(min(step, len(norms)), len(known), device=self._device)
        places, kept = [], []
        for number, some in enumerate(torch.split(norms, step)):
            part = slice(number * at_once, (number + 1) * at_once)
            rows = self.blocks.rows(torch.from_numpy(images.sums[part]).to(self._device))
            half = halves[number * step : number * step + len(rows)]
            # Half a norm and a query's limit go into the product of rows as well, so that a patch
            # is proven too far for every query by the largest of its products alone.
            described = self._describe(rows, some, half)
            largest = torch.mm(described, of_queries.T, out=room[: len(rows)]).amax(dim=1)
            near = torch.from_numpy(np.flatnonzero(largest.cpu().numpy() >= 0)).to(self._device)
            places.append(number * step + near)
            kept.append(rows[near])
        near, rows = torch.cat(places), torch.cat(kept)
        if len(near) > MOST_BOUNDED * len(norms):
            return Near(near.cpu().numpy(), np.arange(len(known)))
        pairs = self._all_sums.near(rows, norms[near], known)
        left, queries = (pairs.any(dim=dim).nonzero().flatten() for dim in (1, 0))
        return Near(near[left].cpu().numpy(), queries.cpu().numpy())

    def _describe(
        self,
        rows: Int8[Tensor, "n bytes"],
        norms: Float64[Tensor, "n"],
        halves: Float64[Tensor, "n"],
    ) -> Float32[Tensor, "n width"]:
        """Returns rows whose products, less the last two columns, are at least those of patches.

        A row holds the coordinates of the patch along the components, the norm of the rest, what
        covers rounding (:attr:`_cover`), and at last -1 and ``halves``, for those of patches; in
        those of queries the latter are replaced by limits, and 1.
        """
        count = len(self._filters.filters)
        described = self._filters.products(rows).double() @ self._transform
        held = torch.linalg.vector_norm(described, dim=1).square_()
        slack = (2 * self._skewness + 3 * _UNIT) * norms
        whole = torch.empty(len(rows), count + 4, device=rows.device)
        whole[:, :count] = described
        whole[:, count] = held.neg_().add_(norms).clamp_(min=0).add_(slack).sqrt_().mul_(_RAISED)
        whole[:, count + 1] = (norms * self._cover).sqrt_().mul_(_RAISED)
        whole[:, count + 2] = halves
        whole[:, count + 3] = -1
        return whole

    def _with_limits(self, bounds: Float64[Tensor, "queries"]) -> Float32[Tensor, "queries width"]:
        """Returns the rows of queries, of which a patch within the bounds has a product of 0."""
        whole = self._described.clone()
        whole[:, -2] = -1
        whole[:, -1] = self._lowered((self._norms - bounds) / 2)
        return whole

    def _lowered(self, values: Float64[Tensor, "n"]) -> Float64[Tensor, "n"]:
        """Returns values lowered by what they lose where they are rounded and summed up."""
        return values - self._loss * values.abs()

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
          section 3.1), here of ``D`` coordinates, the rest, this cover, half a norm and a limit.
          The last two are lowered by as much themselves (:meth:`_lowered`), the sizes of the others
          sum up to ``(1 + 4 u) |x| |q|`` at most.

        The factor 1.1 is for higher orders.
        """
        return 1.1 * (self._loss + 2 * _UNIT + self._skewness)

    @property
    def _loss(self) -> float:
        """The share ``n u / (1 - n u)``; two more terms are for rounding to float32."""
        roundings = (len(self._filters.filters) + 6) * _UNIT
        return roundings / (1 - roundings)
