"""Edges and triangles of a hull, cut into cells that are proved, violated or open, to be shown."""

import time
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch

from patchcollide.proofs.bounds import HullBounds, Method
from patchcollide.proofs.search import ABOVE_ZERO, Budget, Cells, refine
from patchcollide.proofs.simplices import combined, face
from patchcollide.shapes import Tensor
from patchcollide.torch_modes import proof_modes

MOST_CELLS = 512
"""More are not cut: nobody could see them."""

State = Literal["proved", "violated", "open"]


class FaceCell(TypedDict):
    """A part of a face.

    Attributes:
        corners: Weights of the face's vertices at each.
        state: ``proved`` where every image is of the class, ``violated`` where the one in the
            middle is not, else ``open``.
        margin: What no margin of it is below.
    """

    corners: list[list[float]]
    state: State
    margin: float


class FaceProof(TypedDict):
    """What is known of a face.

    Attributes:
        vertices: Their numbers.
        cells: Its parts.
        share_proved: Of its length or area.
        margin: No image of it has a smaller one.
        method: How that was bounded.
        is_done: Whether more time would change nothing.
        seconds: What it took so far.
    """

    vertices: list[int]
    cells: list[FaceCell]
    share_proved: float
    margin: float
    method: Method
    is_done: bool
    seconds: float


class Faces:
    """Proofs of a hull's faces, which go on where they ended.

    Args:
        bounds: Of the hull.
    """

    def __init__(self, bounds: HullBounds) -> None:
        self._bounds = bounds
        # Of faces, many small cells say more than few that are bounded well.
        way = bounds.way_of_margins()
        self._method: Method = "rows" if way == "maps" else way
        flat = bounds.vertices.flatten(1)
        self._products = flat @ flat.T
        self._known: dict[tuple[int, ...], Cells] = {}

    @proof_modes()
    def prove(self, vertices: Sequence[int], seconds: float) -> FaceProof:
        """Proves more of a face.

        Args:
            vertices: The numbers of two or three different ones.
            seconds: How long.
        """
        begun, key = time.perf_counter(), tuple(sorted(vertices))
        if key not in self._known:
            first = face(len(self._products), key)
            self._known[key] = Cells.first(first, self._bound)
        cells = self._known[key]
        left = max(seconds - (time.perf_counter() - begun), 0.0)
        budget = Budget(left, MOST_CELLS - len(cells.bounds), at_once=4, highest=True)
        refine(cells, self._bound, lambda: ABOVE_ZERO, self._products, budget)
        return self._described(key, cells)

    def _bound(self, simplices: Tensor) -> Tensor:
        return self._bounds.margins(simplices, self._method)

    def _described(self, key: tuple[int, ...], cells: Cells) -> FaceProof:
        middles = combined(cells.weights.mean(dim=1), self._bounds.vertices)
        with torch.no_grad():
            margins = torch.cat([self._bounds.margin_at(part) for part in torch.split(middles, 16)])
        share = cells.share_above(0.0)
        return {
            "vertices": [*key],
            "cells": [
                {
                    "corners": corners[:, list(key)].tolist(),
                    "state": _state(float(bound), float(margin)),
                    "margin": float(bound),
                }
                for corners, bound, margin in zip(cells.weights, cells.bounds, margins, strict=True)
            ],
            "share_proved": share,
            "margin": cells.lowest,
            "method": self._method,
            "is_done": share == 1 or len(cells.bounds) >= MOST_CELLS - 1,
            "seconds": cells.seconds,
        }


def _state(bound: float, margin: float) -> State:
    if bound > 0:
        return "proved"
    return "violated" if margin <= 0 else "open"
