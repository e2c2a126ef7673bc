"""The figures of a run: vertices with their differences, boxes, samples between, neighbours.

They are laid out as Tables 3 and 5 of the paper. Pictures are drawn with a whole number of figure
pixels for each of their own wherever they are shown at full size, so that what is printed is what
the network saw. Equal inputs give equal bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from patchcollide.report.boxes import NUM_BOXES, box_size, differing_boxes
from patchcollide.report.sheet import (
    BOX,
    INK,
    MARK,
    MUTED,
    Layout,
    Normalize,
    ScalarMappable,
    Sheet,
    cut,
    two_lines,
)
from patchcollide.shapes import Float, Int64, UInt8, ndarray

__all__ = [
    "caption",
    "differences_from_mean",
    "largest_shown",
    "write_contact_sheet",
    "write_figure",
    "write_polytope_figure",
]

_CROPS_PER_ROW = 2
_NAME_LETTERS = 14


def caption(class_name: str, probability: float) -> str:
    """Returns a class, by the first of its synonyms, and its probability, on two lines."""
    return f"{class_name.split(',')[0]}\n{probability:.3f}"


def write_figure(
    path: Path,
    *,
    source: UInt8[ndarray, "height width channels"],
    target: UInt8[ndarray, "height width channels"] | None,
    vertices: UInt8[ndarray, "vertices height width channels"],
    title: str,
    captions: Sequence[str],
) -> None:
    """Writes source, target and vertices, and where each vertex differs from their mean.

    Purple boxes mark on each vertex where all of them differ most from each other.

    The difference at a pixel is L2 over the channels in the 0..255 scale, so at most 441.7;
    all heat maps share one scale, from zero to what 99.5 % of the pixels stay below, so that a few
    stray pixels do not darken the rest.

    Args:
        path: The PNG or, by its suffix, PDF or SVG file to write, at 200 dots an inch for
            pictures of 224 pixels.
        source: The source, RGB.
        target: The target, RGB; None if it was given as features.
        vertices: The vertices, RGB.
        title: One line above all.
        captions: One each for source, target and the vertices, in this order; see
            :func:`caption`.

    Raises:
        ValueError: If the number of captions does not match.
        DiskFullError: If the disk is full.
    """
    layout = Layout.of(vertices, captions)
    num_vertices, columns, scale = len(vertices), layout.lefts, layout.scale
    width, height, dpi = layout.width, layout.height, layout.dpi
    margin, gap, line = layout.margin, layout.gap, layout.line
    tops = [margin + 3 * line, margin + 7 * line + height]
    right = columns[-1] + width
    sheet = Sheet(right + round(0.55 * dpi), tops[1] + height + 3 * line, dpi)
    sheet.text(cut(title, 14 * num_vertices + 20), margin, margin, points=9, weight="bold")
    places = [(columns[0], tops[0]), (columns[0], tops[1])]
    places += [(left, tops[0]) for left in columns[1:]]
    labels = ["source", "target", *(f"vertex {number}" for number in range(num_vertices))]
    _place_pictures(sheet, layout, [source, target, *vertices], places, labels, captions)
    corners = _boxes(vertices, layout)
    for left in columns[1:]:
        sheet.frames(corners, left, tops[0], scale, box_size(vertices), BOX)
    differences = differences_from_mean(vertices)
    norm = Normalize(0, largest_shown(differences))
    for left, difference in zip(columns[1:], differences, strict=True):
        sheet.picture(difference, left, tops[1], width, height, cmap="magma", norm=norm)
    words = "difference from the mean vertex at each pixel, L2 over channels in 0..255"
    sheet.text(words if num_vertices > 2 else "difference", columns[1], tops[1] - line, color=MUTED)
    _add_colour_bar(sheet, norm, right + gap, tops[1], height)
    sheet.write(path)


def _boxes(
    vertices: UInt8[ndarray, "vertices height width channels"], layout: Layout
) -> Int64[ndarray, "boxes 2"]:
    """Returns where vertices differ most, so that outlines stay inside and clear of each other."""
    margin = Sheet.outline_px(layout.dpi, layout.scale)
    return differing_boxes(vertices, count=NUM_BOXES, size=box_size(vertices), margin=margin)


def _place_pictures(
    sheet: Sheet,
    layout: Layout,
    images: Sequence[UInt8[ndarray, "height width channels"] | None],
    places: Sequence[tuple[int, int]],
    labels: Sequence[str],
    captions: Sequence[str],
) -> None:
    """Draws pictures with a label above and a caption below; None is a target of features."""
    width, height, line = layout.width, layout.height, layout.line
    for image, (left, top), label, words in zip(images, places, labels, captions, strict=False):
        sheet.text(label, left, top - line, color=MUTED)
        if image is None:
            sheet.blank("given as features", left, top, width, height)
        else:
            sheet.picture(image, left, top, width, height)
        sheet.text(two_lines(words), left, top + height + line // 3, linespacing=1.15)


def write_contact_sheet(
    path: Path,
    *,
    source: UInt8[ndarray, "side side 3"],
    patches: UInt8[ndarray, "locations k height width channels"],
    squared_distances: Int64[ndarray, "locations k"],
    locations: Int64[ndarray, "locations 2"],
    window_px: int,
    names: Sequence[Sequence[str]] | None = None,
    num_locations: int = 12,
    num_neighbours: int = 10,
) -> None:
    """Writes, for locations spread over the source, its window and the neighbours found there.

    Args:
        path: The PNG file to write.
        source: The source, RGB.
        patches: The neighbour patches of each location, nearest first, RGB.
        squared_distances: Their squared L2 distances from the source's own patch, in the 0..255
            scale; negative where there is no neighbour.
        locations: Top left corners (row, column) of the windows, in pixels of the source.
        window_px: Side of a window, in pixels of the source.
        names: Of the image that each neighbour is from; None where they are not known.
        num_locations: How many locations to show, at most.
        num_neighbours: How many neighbours of each to show, at most.

    Raises:
        DiskFullError: If the disk is full.
    """
    chosen = _spread(locations, num_locations)
    k = min(patches.shape[1], num_neighbours)
    side = 128
    dpi, gap, line = 200, 12, 24
    columns = [gap + place * (side + gap) for place in range(k + 2)]
    # The neighbours stand a little apart from what they are neighbours of.
    columns[2:] = [left + 2 * gap for left in columns[2:]]
    pitch = side + 3 * line
    sheet = Sheet(columns[-1] + side + gap, 2 * line + len(chosen) * pitch, dpi)
    heads = ["location", "window", *(str(rank + 1) for rank in range(k))]
    heads[2] = "neighbour 1, its distance (L2 of pixels in 0..255) and its image"
    heads[3:] = [""] * (k - 1)
    for left, head in zip(columns, heads, strict=True):
        sheet.text(head, left, gap, color=MUTED)
    for place, location in enumerate(chosen):
        top = 2 * line + place * pitch
        _add_window(sheet, source, locations[location], window_px, columns[:2], top, side)
        for rank in range(k):
            squared = int(squared_distances[location, rank])
            if squared >= 0:
                sheet.picture(patches[location, rank], columns[2 + rank], top, side, side)
            words = f"{rank + 1}: L2 {math.sqrt(squared):,.0f}" if squared >= 0 else "none"
            if names is not None and squared >= 0:
                words += f"\n{_ending(names[location][rank])}"
            sheet.text(words, columns[2 + rank], top + side + 4, points=6, linespacing=1.15)
    sheet.write(path)


def _add_window(
    sheet: Sheet,
    source: UInt8[ndarray, "side side 3"],
    corner: Int64[ndarray, "2"],
    window_px: int,
    lefts: Sequence[int],
    top: int,
    side: int,
) -> None:
    """Outlines a window on the source at ``lefts[0]``, and shows it enlarged at ``lefts[1]``."""
    row, col = corner.tolist()
    sheet.picture(source, lefts[0], top, side, side)
    sheet.frames(corner[None], lefts[0], top, side / len(source), window_px, MARK)
    sheet.text(f"row {row}, col {col} px", lefts[0], top + side + 4, points=6, color=MUTED)
    window = source[row : row + window_px, col : col + window_px]
    sheet.picture(window, lefts[1], top, side, side)


def _ending(name: str) -> str:
    """Returns the end of a name, which tells images of one class apart, in a neighbour's width."""
    name = PurePath(name).stem
    return name if len(name) <= _NAME_LETTERS else f"…{name[1 - _NAME_LETTERS :]}"


def differences_from_mean(
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> Float[ndarray, "vertices height width"]:
    """Returns how far each vertex is from their mean at each pixel: L2 over channels, in 0..255."""
    values = vertices.astype(np.float64)
    return np.asarray(np.linalg.norm(values - values.mean(axis=0), axis=-1))


def largest_shown(differences: Float[ndarray, "vertices height width"]) -> float:
    """Returns where the scale of differences ends: 99.5 % of the pixels are below."""
    return max(float(np.quantile(differences, 0.995)), 1.0)


def _add_colour_bar(sheet: Sheet, norm: Normalize, left: int, top: int, height: int) -> None:
    width = round(0.09 * sheet.dpi)
    bottom = 1 - (top + height) / sheet.height
    place = (left / sheet.width, bottom, width / sheet.width, height / sheet.height)
    bar = sheet.figure.colorbar(
        ScalarMappable(norm, "magma"),
        cax=sheet.figure.add_axes(place),
        ticks=[norm.vmin, norm.vmax],
    )
    bar.ax.set_yticklabels(["0", f"≥ {norm.vmax:.0f}"])
    bar.ax.tick_params(labelsize=6.5, color=INK, length=2, pad=2)
    bar.ax.spines["outline"].set_visible(False)


def _spread(locations: Int64[ndarray, "locations 2"], num_locations: int) -> list[int]:
    """Returns the locations nearest to the points of a coarse lattice over all of them."""
    rows = max(1, math.isqrt(num_locations))
    cols = math.ceil(num_locations / rows)
    low, high = locations.min(axis=0), locations.max(axis=0)
    chosen = []
    for place in range(num_locations):
        share = ((place // cols + 0.5) / rows, (place % cols + 0.5) / cols)
        point = low + np.array(share) * (high - low)
        chosen.append(int(np.square(locations - point).sum(axis=1).argmin()))
    return list(dict.fromkeys(chosen))


def write_polytope_figure(
    path: Path,
    *,
    source: UInt8[ndarray, "height width channels"],
    target: UInt8[ndarray, "height width channels"] | None,
    vertices: UInt8[ndarray, "vertices height width channels"],
    samples: UInt8[ndarray, "samples height width channels"],
    title: str,
    captions: Sequence[str],
    sample_captions: Sequence[str] = (),
) -> None:
    """Writes source, target, vertices with purple boxes, these enlarged, and hull samples.

    The boxes are where the vertices differ most from each other; below each vertex its own content
    of the four boxes is four times as large, in their order.

    Args:
        path: The PNG or, by its suffix, PDF or SVG file to write, at 200 dots an inch for
            pictures of 224 pixels.
        source: The source, RGB.
        target: The target, RGB; None if it was given as features.
        vertices: The vertices, RGB.
        samples: Images between the vertices, RGB; at most as many as vertices are shown.
        title: One line above all.
        captions: One each for source, target and the vertices, in this order; see
            :func:`patchcollide.report.figures.caption`.
        sample_captions: One for each sample; none where it is not known what they are taken for.

    Raises:
        ValueError: If the number of captions does not match.
        DiskFullError: If the disk is full.
    """
    layout = Layout.of(vertices, captions)
    num_vertices, lefts, scale = len(vertices), layout.lefts, layout.scale
    width, height, margin, line = layout.width, layout.height, layout.margin, layout.line
    tops = [margin + 3 * line, margin + 7 * line + height, margin + 9 * line + 2 * height]
    shown = samples[:num_vertices]
    said = [*sample_captions, *[""] * len(shown)][: len(shown)]
    last = margin + (3 * line if any(said) else 0)
    bottom = tops[2] + height + last if len(shown) else tops[1] + height + 3 * line
    sheet = Sheet(lefts[-1] + width + margin, bottom, layout.dpi)
    sheet.text(cut(title, 20 * num_vertices + 20), margin, margin, points=9, weight="bold")
    images = [source, target, *vertices, *shown]
    places = [(lefts[0], tops[0]), (lefts[0], tops[1])]
    places += [(left, tops[0]) for left in lefts[1:]]
    places += [(left, tops[2]) for left in lefts[1:]]
    labels = ["source", "target", *(f"vertex {number}" for number in range(num_vertices))]
    labels += ["samples between the vertices", *[""] * num_vertices][: len(shown)]
    words = [*captions, *said]
    _place_pictures(sheet, layout, images, places, labels, words)
    corners = _boxes(vertices, layout)
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
    places = [(left + col * scale + 3, tops[0] + row * scale + 3) for row, col in corners.tolist()]
    sheet.numbers(places)
    cells = []
    for place, (row, col) in enumerate(corners.tolist()):
        cell = (place // _CROPS_PER_ROW * side, place % _CROPS_PER_ROW * side)
        crop = vertex[row : row + size, col : col + size]
        sheet.picture(crop, left + cell[1], tops[1] + cell[0], side, side)
        cells.append(cell)
    outlines = np.array(cells, np.int64).reshape(-1, 2)
    sheet.frames(outlines, left, tops[1], 1, side, BOX)
    sheet.numbers([(left + col + 3, tops[1] + row + 3) for row, col in cells])
