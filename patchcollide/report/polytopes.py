"""A polytope in pictures, as in Tables 3 and 5 of the paper: vertices, boxes, samples between."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from patchcollide.report.boxes import NUM_BOXES, box_size, differing_boxes
from patchcollide.report.sheet import (
    BOX,
    INK,
    MUTED,
    Layout,
    Sheet,
    cut,
    two_lines,
)
from patchcollide.shapes import Int64, UInt8, ndarray

__all__ = ["write_polytope_figure"]

_CROPS_PER_ROW = 2


def write_polytope_figure(
    path: Path,
    *,
    source: UInt8[ndarray, "height width channels"],
    target: UInt8[ndarray, "height width channels"] | None,
    vertices: UInt8[ndarray, "vertices height width channels"],
    samples: UInt8[ndarray, "samples height width channels"],
    title: str,
    captions: Sequence[str],
) -> None:
    """Writes source, target, vertices with purple boxes, these enlarged, and hull samples.

    The boxes are where the vertices differ most from each other; below each vertex its own content
    of the four boxes is four times as large, in their order.

    Args:
        path: The PNG or, by its suffix, PDF file to write, at 200 dots an inch for
            pictures of 224 pixels.
        source: The source, RGB.
        target: The target, RGB; None if it was given as features.
        vertices: The vertices, RGB.
        samples: Images between the vertices, RGB; at most as many as vertices are shown.
        title: One line above all.
        captions: One each for source, target and the vertices, in this order; see
            :func:`patchcollide.report.figures.caption`.

    Raises:
        ValueError: If the number of captions does not match.
        DiskFullError: If there is no room left.
    """
    layout = Layout.of(vertices, captions)
    num_vertices, lefts, scale = len(vertices), layout.lefts, layout.scale
    width, height, margin, line = layout.width, layout.height, layout.margin, layout.line
    tops = [margin + 3 * line, margin + 7 * line + height, margin + 9 * line + 2 * height]
    shown = samples[:num_vertices]
    bottom = tops[2] + height + margin if len(shown) else tops[1] + height + 3 * line
    sheet = Sheet(lefts[-1] + width + margin, bottom, layout.dpi)
    sheet.text(cut(title, 20 * num_vertices + 20), margin, margin, points=9, weight="bold")
    images = [source, target, *vertices, *shown]
    places = [(lefts[0], tops[0]), (lefts[0], tops[1])]
    places += [(left, tops[0]) for left in lefts[1:]]
    places += [(left, tops[2]) for left in lefts[1:]]
    labels = ["source", "target", *(f"vertex {number}" for number in range(num_vertices))]
    labels += ["samples between the vertices", *[""] * num_vertices][: len(shown)]
    words = [*captions, *[""] * len(shown)]
    for image, (left, top), label, text in zip(images, places, labels, words, strict=False):
        sheet.text(label, left, top - line, color=MUTED)
        if image is None:
            sheet.blank("given as features", left, top, width, height)
        else:
            sheet.picture(image, left, top, width, height)
        sheet.text(two_lines(text), left, top + height + line // 3, color=INK, linespacing=1.15)
    corners = differing_boxes(vertices, count=NUM_BOXES, size=box_size(vertices))
    for vertex, left in zip(vertices, lefts[1:], strict=True):
        _add_boxes(sheet, vertex, corners, left, tops[:2], scale)
    if num_vertices > 1:
        sheet.text("the boxes, enlarged", lefts[1], tops[1] - line, color=MUTED)
    sheet.write(path)


def _add_boxes(
    sheet: Sheet,
    vertex: UInt8[ndarray, "height width channels"],
    corners: Int64[ndarray, "boxes 2"],
    left: int,
    tops: Sequence[int],
    scale: int,
) -> None:
    """Outlines the boxes on a vertex at ``tops[0]``, and shows them enlarged at ``tops[1]``."""
    size = box_size(vertex[None])
    side = min(vertex.shape[:2]) * scale // _CROPS_PER_ROW
    sheet.frames(corners, left, tops[0], scale, size, BOX)
    places = [(left + col * scale, tops[0] + row * scale) for row, col in corners.tolist()]
    sheet.numbers(places, ha="right", va="bottom")
    cells = []
    for place, (row, col) in enumerate(corners.tolist()):
        cell = (place // _CROPS_PER_ROW * side, place % _CROPS_PER_ROW * side)
        crop = vertex[row : row + size, col : col + size]
        sheet.picture(crop, left + cell[1], tops[1] + cell[0], side, side)
        cells.append(cell)
    outlines = np.array(cells, np.int64).reshape(-1, 2)
    sheet.frames(outlines, left, tops[1], 1, side, BOX)
    sheet.numbers([(left + col + 3, tops[1] + row + 3) for row, col in cells])
