"""Which patches may be near a query, by their principal components."""

from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.shapes import Float32, Float64, Int8, Int32, Int64, Tensor
from patchcollide.store.descriptors import Basis

_UNIT = 2.0**-24


@dataclass(frozen=True)
class ComponentBounds:
    """Bounds inner products of patches and queries from above, by one product of short rows.

    With ``P`` the projection onto the principal components,

        <x, q> = <Px, Pq> + <x - Px, q - Pq>  <=  <Px, Pq> + |x - Px| |q - Pq|,

    so that ``|x|^2 + |q|^2`` less twice the bound is at most the squared distance.
    """

    basis: Basis

    def describe(
        self, rows: Int8[Tensor, "n dimension"], norms: Int32[Tensor, "n"]
    ) -> Float32[Tensor, "n width"]:
        """Returns rows whose products are at least the inner products of patches.

        A row holds the descriptor, an upper bound of the norm of the rest, and a term that covers
        rounding. With ``e`` the error of a descriptor and ``s`` the skewness of the basis, both
        relative, ``<Px, Pq>`` is off by at most ``(2 e + s) |x| |q|`` to first order, the product
        of rows, with the columns that :meth:`possible` adds, by ``(D + 8) u`` of the sum of
        absolute terms, and ``|x - Px|^2 = |x|^2 - |Px|^2`` by ``(2 e + s + (D + 4) u) |x|^2``. The
        factor 1.3 covers higher orders, for ``s`` below 0.1.
        """
        squares = norms.float()
        described = self.basis.describe_rows(rows)
        held = described.square().sum(dim=1)
        slack = 1.3 * (self.basis.skewness + 2 * self.basis.rounding + self._rounding)
        rest = ((squares - held).clamp(min=0) + slack * squares).sqrt()
        # The root of the slack in a patch's and a query's row gives the slack of their product.
        cover = (slack * squares).sqrt()
        columns = torch.stack([rest, cover], dim=1) * (1 + 8 * _UNIT)
        return torch.cat([described, columns], dim=1)

    def possible(
        self,
        patches: Float32[Tensor, "patches width"],
        norms: Int32[Tensor, "patches"],
        queries: Float32[Tensor, "queries width"],
        least: Float64[Tensor, "queries"],
    ) -> tuple[Int64[Tensor, "some"], Int64[Tensor, "few"]]:
        """Returns which patches, and which queries, have a product of at least ``|x|^2/2 + least``.

        Both terms go into the product of rows, rounded downwards: a patch is proven too far for
        every query by the largest of its products alone.
        """
        margin = 2 * self._rounding
        half = norms.double() / 2 * (1 - margin)
        limit = (least - margin * least.abs()).clamp(min=-1e30)
        of_patches = torch.stack([-half.float(), torch.ones_like(half).float()], dim=1)
        of_queries = torch.stack([torch.ones_like(limit).float(), -limit.float()], dim=1)
        wide = torch.cat([patches, of_patches], dim=1)
        scores = wide @ torch.cat([queries, of_queries], dim=1).T
        near = torch.from_numpy(np.flatnonzero(scores.amax(dim=1).cpu().numpy() >= 0))
        near = near.to(scores.device)
        return near, (scores[near].amax(dim=0) >= 0).nonzero().flatten() if len(near) else near

    @property
    def _rounding(self) -> float:
        return (self.basis.num_components + 8) * _UNIT
