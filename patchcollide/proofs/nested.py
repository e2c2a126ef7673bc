"""What is left of a network over a hull, and over parts of it, each for the simplices within.

Of a part less bends than of the whole, so a reduction of its own pays if it is cut often enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from patchcollide.proofs.backward import Backward
from patchcollide.proofs.reduction import Reducer, Reduction
from patchcollide.shapes import Float64, Tensor

_SHARE = 1 / 8

# Coordinates within a simplex are as exact as float64 holds them down to cuts of this many.
_BITS = 2.0**30


@dataclass(eq=False)
class _Mapped:
    """A simplex that was bounded by maps, and its reduction, once it is asked for."""

    simplex: Float64[Tensor, "corners vertices"]
    back: Backward | None
    outer: Reduction | None
    reduction: Reduction | None = None


class NestedReductions:
    """Reductions over the whole of a hull, and over some of its parts.

    Args:
        outputs: The numbers of the affine steps that are wanted, by names.
        vertices: Of the hull.
        radius: How far each value of an image may be from one between them.
        max_bytes: How much memory all matrices may take.
    """

    def __init__(
        self,
        outputs: Mapping[str, int],
        vertices: Float64[Tensor, "vertices *image"],
        radius: Float64[Tensor, "*values"],
        max_bytes: int,
    ) -> None:
        self._outputs, self._vertices, self._radius = outputs, vertices, radius
        self._left = max_bytes
        self._whole: _Mapped | None = None
        self._parts: list[_Mapped] = []

    def note(self, simplex: Float64[Tensor, "corners vertices"], back: Backward) -> None:
        """Keeps the bounds of the whole, or of a part that is small enough, to be reduced.

        Args:
            simplex: Any; of parts those count that were bounded through the whole's reduction.
            back: Bounds of all outputs, by maps.
        """
        if torch.equal(simplex, torch.eye(len(self._vertices), dtype=torch.float64)):
            self._whole = _Mapped(simplex, back, None)
            return
        reduction = None if self._whole is None else self._whole.reduction
        is_full = simplex.shape[0] == simplex.shape[1]
        if reduction is None or back.program is not reduction.program or not is_full:
            return
        if 0 < float(torch.linalg.det(simplex).abs()) <= _SHARE:
            self._parts.append(_Mapped(simplex, back, reduction))

    def over(self, simplex: Float64[Tensor, "corners vertices"]) -> Reduction | None:
        """Returns the reduction of the smallest part that holds a simplex, if there is one."""
        holding = [part for part in self._parts if holds(part.simplex, simplex)]
        for mapped in (*holding, self._whole):
            if mapped is None:
                continue
            if mapped.back is not None:
                self._reduce(mapped)
            if mapped.reduction is not None:
                return mapped.reduction
        return None

    def _reduce(self, mapped: _Mapped) -> None:
        back, mapped.back = mapped.back, None
        assert back is not None  # noqa: S101
        if mapped.outer is None:
            reducer = Reducer(back, self._vertices, self._radius)
            mapped.reduction = reducer.reduced(self._outputs, self._left)
        else:
            whole = torch.eye(len(self._vertices), dtype=torch.float64)
            reducer = Reducer(back, mapped.outer.corners(whole), mapped.outer.radius)
            outputs = mapped.outer.program.outputs
            mapped.reduction = reducer.reduced(outputs, self._left, mapped.outer)
        if mapped.reduction is not None:
            self._left -= mapped.reduction.bytes


def holds(outer: Float64[Tensor, "corners vertices"], inner: Tensor) -> bool:
    """Says whether a simplex is part of another one: exactly, where both were halved from one."""
    shares = (torch.linalg.solve(outer, inner, left=False) * _BITS).round() / _BITS
    return bool((shares >= 0).all()) and torch.equal(shares @ outer, inner)
