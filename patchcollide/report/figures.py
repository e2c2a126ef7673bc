"""The figures of a run: vertices with their differences, neighbours, history.

Pictures are drawn with a whole number of figure pixels for each of their own wherever they are
shown at full size, so that what is printed is what the network saw. Equal inputs give equal bytes.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.files import written_beside
from patchcollide.report.boxes import NUM_BOXES, box_size, differing_boxes
from patchcollide.report.sheet import (
    BOX,
    INK,
    MARK,
    MUTED,
    RULE,
    SERIES,
    Axes,
    Figure,
    Layout,
    Normalize,
    ScalarMappable,
    Sheet,
    cut,
    two_lines,
)
from patchcollide.report.svg import inline_svg
from patchcollide.shapes import Float, Int64, UInt8, ndarray

__all__ = [
    "caption",
    "draw_history",
    "write_contact_sheet",
    "write_figure",
    "write_growth_chart",
]

_LOSS_TERMS = {
    "loss": "loss",
    "active": "active",
    "inactive": "inactive",
    "unit": "unit",
    "total_variation": "total variation",
    "hull_active": "hull, active",
    "hull_inactive": "hull, inactive",
}
_CHANCES = {
    "validation_probability": "hull, probability",
    "validation_success": "hull, success",
}
_DISTANCES = {"distance": "vertices", "validation_distance": "at validation"}


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
        path: The PNG or, by its suffix, PDF file to write, at 200 dots an inch for pictures of 224
            pixels.
        source: The source, RGB.
        target: The target, RGB; None if it was given as features.
        vertices: The vertices, RGB.
        title: One line above all.
        captions: One each for source, target and the vertices, in this order; see
            :func:`caption`.

    Raises:
        ValueError: If the number of captions does not match.
        DiskFullError: If there is no room left.
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
    for image, (left, top), label, words in zip(
        [source, target, *vertices], places, labels, captions, strict=True
    ):
        sheet.text(label, left, top - line, color=MUTED)
        if image is None:
            sheet.blank("given as features", left, top, width, height)
        else:
            sheet.picture(image, left, top, width, height)
        sheet.text(two_lines(words), left, top + height + line // 3, linespacing=1.15)
    corners = differing_boxes(vertices, count=NUM_BOXES, size=box_size(vertices))
    for left in columns[1:]:
        sheet.frames(corners, left, tops[0], scale, box_size(vertices), BOX)
    differences = _differences(vertices)
    norm = Normalize(0, max(float(np.quantile(differences, 0.995)), 1.0))
    for left, difference in zip(columns[1:], differences, strict=True):
        sheet.picture(difference, left, tops[1], width, height, cmap="magma", norm=norm)
    words = "difference from the mean vertex at each pixel, L2 over channels in 0..255"
    sheet.text(words if num_vertices > 2 else "difference", columns[1], tops[1] - line, color=MUTED)
    _add_colour_bar(sheet, norm, right + gap, tops[1], height)
    sheet.write(path)


def write_contact_sheet(
    path: Path,
    *,
    source: UInt8[ndarray, "side side 3"],
    patches: UInt8[ndarray, "locations k height width channels"],
    squared_distances: Int64[ndarray, "locations k"],
    locations: Int64[ndarray, "locations 2"],
    window_px: int,
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
        num_locations: How many locations to show, at most.
        num_neighbours: How many neighbours of each to show, at most.

    Raises:
        DiskFullError: If there is no room left.
    """
    chosen = _spread(locations, num_locations)
    k = min(patches.shape[1], num_neighbours)
    side = 128
    dpi, gap, line = 200, 12, 24
    columns = [gap + place * (side + gap) for place in range(k + 2)]
    # The neighbours stand a little apart from what they are neighbours of.
    columns[2:] = [left + 2 * gap for left in columns[2:]]
    pitch = side + 2 * line
    sheet = Sheet(columns[-1] + side + gap, 2 * line + len(chosen) * pitch, dpi)
    heads = ["location", "window", *(str(rank + 1) for rank in range(k))]
    heads[2] = "neighbour 1"
    for left, head in zip(columns, heads, strict=True):
        sheet.text(head, left, gap, color=MUTED)
    for place, location in enumerate(chosen):
        top = 2 * line + place * pitch
        row, col = (int(corner) for corner in locations[location])
        sheet.picture(source, columns[0], top, side, side)
        corner = locations[location : location + 1]
        sheet.frames(corner, columns[0], top, side / len(source), window_px, MARK)
        sheet.text(f"({row}, {col})", columns[0], top + side + 4, points=6, color=MUTED)
        window = source[row : row + window_px, col : col + window_px]
        sheet.picture(window, columns[1], top, side, side)
        for rank in range(k):
            squared = int(squared_distances[location, rank])
            if squared >= 0:
                sheet.picture(patches[location, rank], columns[2 + rank], top, side, side)
            words = f"{math.sqrt(squared):.0f}" if squared >= 0 else "none"
            sheet.text(words, columns[2 + rank], top + side + 4, points=6)
    sheet.write(path)


def draw_history(history: Sequence[Mapping[str, Any]]) -> str:
    """Draws how an optimisation went as three charts: loss terms, probabilities, distances.

    Args:
        history: One mapping a step, with the columns of ``history.csv``; values that are missing,
            empty or not finite are left out.

    Returns:
        Three ``<svg>`` elements for an HTML page, without references to anything outside. Their
        colours follow the page's ``--ink``, ``--muted``, ``--rule`` and ``--series-1`` to
        ``--series-7`` where it has them.
    """
    charts = (
        ("losses", "Loss terms", _LOSS_TERMS),
        ("chances", "Probability and success", _CHANCES),
        ("distances", "Mean distance between vertices (L2)", _DISTANCES),
    )
    return "\n".join(_chart(history, *chart) for chart in charts)


def write_growth_chart(path: Path, series: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Writes how searches slow down as stores grow, on logarithmic axes.

    Args:
        path: The PNG file to write.
        series: Name of each search to pairs of a number of patches and seconds.

    Raises:
        DiskFullError: If there is no room left.
    """
    figure = Figure((5.6, 3.8), dpi=160, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for place, (name, points) in enumerate(series.items()):
        # More searches than colours: the lines of a second round are broken.
        colour, line = SERIES[place % len(SERIES)], "-" if place < len(SERIES) else "--"
        sizes, seconds = zip(*points, strict=True)
        axes.loglog(sizes, seconds, line, color=colour, label=name, lw=1.3, marker="o", ms=3.5)
    _style(figure, axes, "Seconds of a search", is_empty=not series)
    axes.set_xlabel("patches in the store", fontsize=8, color=MUTED)
    axes.set_ylabel("seconds", fontsize=8, color=MUTED)
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _chart(
    history: Sequence[Mapping[str, Any]], name: str, title: str, terms: Mapping[str, str]
) -> str:
    figure = Figure((4.2, 3.1), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    shown = []
    for (key, label), colour in zip(terms.items(), SERIES, strict=False):
        steps, values = _series(history, key)
        if not values.any():
            continue
        marker = "o" if key.startswith("validation") or len(steps) == 1 else ""
        axes.plot(steps, values, color=colour, label=label, lw=1.3, marker=marker, ms=2.8)
        shown.append(values)
    if name == "losses":
        _scale_losses(axes, shown)
    elif shown:
        axes.set_ylim(0, 1.03 if name == "chances" else None)
    _style(figure, axes, title, is_empty=not shown)
    return inline_svg(figure, name, f"{title} over the steps of the optimisation")


def _scale_losses(axes: Axes, shown: Sequence[Float[ndarray, "_"]]) -> None:
    # The term that drives a unit down ends below zero, where a logarithm has nothing to show.
    values = np.concatenate(shown) if shown else np.ones(1)
    if (values > 0).all():
        axes.set_yscale("log")
    else:
        size = np.abs(values[values != 0])
        threshold = 10.0 ** math.floor(math.log10(float(np.quantile(size, 0.1))))
        axes.set_yscale("symlog", linthresh=threshold)


def _style(figure: Figure, axes: Axes, title: str, *, is_empty: bool) -> None:
    axes.set_title(title, fontsize=9, color=INK, loc="left", weight="bold")
    axes.set_xlabel("step", fontsize=8, color=MUTED)
    axes.tick_params(labelsize=8, labelcolor=MUTED, color=RULE, which="both")
    axes.grid(True, color=RULE, lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    if is_empty:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
    else:
        figure.legend(
            loc="outside lower left",
            ncols=3,
            fontsize=7.5,
            frameon=False,
            labelcolor=INK,
            handlelength=1.2,
        )


def _series(
    history: Sequence[Mapping[str, Any]], key: str
) -> tuple[Float[ndarray, "n"], Float[ndarray, "n"]]:
    pairs = [(float(row["step"]), _number(row.get(key))) for row in history]
    kept = np.array([pair for pair in pairs if math.isfinite(pair[1])], dtype=np.float64)
    return kept.reshape(-1, 2)[:, 0], kept.reshape(-1, 2)[:, 1]


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _differences(
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> Float[ndarray, "vertices height width"]:
    values = vertices.astype(np.float64)
    return np.asarray(np.linalg.norm(values - values.mean(axis=0), axis=-1))


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
