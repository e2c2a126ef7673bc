"""Vertices as a page shows them at first: two of them large, and places of all side by side."""

from dataclasses import dataclass

import numpy as np

from patchcollide.images.pictures import png_bytes
from patchcollide.images.tensors import as_batch, as_pictures, resized
from patchcollide.report.boxes import box_size, differing_boxes, differing_pair
from patchcollide.report.figures import differences_from_mean, largest_shown
from patchcollide.report.sheet import heat
from patchcollide.report.templates import Picture, embedded
from patchcollide.shapes import UInt8, ndarray

__all__ = ["Closeups", "Crop", "make_closeups"]

_NUM_CROPS = 3
_OUTLINES = 112
"""A box's outline takes a pixel of so many."""
_MAP_SIDE_PX = 64


@dataclass(frozen=True)
class Crop:
    """One place, of all vertices.

    Attributes:
        left: Where it is, in percent of a picture.
        top: The same.
        width: The same.
        height: The same.
        pictures: Of each vertex, in their order.
    """

    left: float
    top: float
    width: float
    height: float
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Closeups:
    """What of the vertices a page shows.

    Attributes:
        pair: The numbers of the two that differ most in coarse detail; of one alone, its own.
        crops: Where vertices differ most.
        map: The first of the pair, small, to show on it where a crop is.
        differences: Of each vertex, where it differs from the mean of all.
        largest: What is white there, and everything above: L2 over channels, in 0..255.
    """

    pair: tuple[int, ...]
    crops: tuple[Crop, ...]
    map: Picture
    differences: tuple[Picture, ...]
    largest: float


def make_closeups(vertices: UInt8[ndarray, "vertices height width channels"]) -> Closeups:
    """Chooses which vertices are shown large, and which places of all of them."""
    height, width = (int(side) for side in vertices.shape[1:3])
    size, margin = box_size(vertices), max(1, min(height, width) // _OUTLINES)
    corners = differing_boxes(vertices, count=_NUM_CROPS, size=size, margin=margin)
    crops = tuple(
        Crop(
            100 * col / width,
            100 * row / height,
            100 * size / width,
            100 * size / height,
            tuple(_picture(vertex[row : row + size, col : col + size]) for vertex in vertices),
        )
        for row, col in corners.tolist()
    )
    differences = differences_from_mean(vertices)
    largest = largest_shown(differences)
    maps = tuple(_picture(heat(values / largest)) for values in differences)
    pair = differing_pair(vertices) or (0,)
    small = resized(as_batch(vertices[[pair[0]]]), min(height, _MAP_SIDE_PX))
    return Closeups(pair, crops, _picture(as_pictures(small)[0]), maps, largest)


def _picture(pixels: UInt8[ndarray, "height width channels"]) -> Picture:
    return embedded("a close-up", png_bytes(np.ascontiguousarray(pixels)))
