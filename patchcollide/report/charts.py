"""Charts as parts of an HTML page, in the page's colours, light or dark.

They show the samples of a polytope beside those between images that nobody made collide, how a
search went, and how searches slow down as stores grow.
"""

import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.evaluation.samples import HullSamples
from patchcollide.report.sheet import (
    INK,
    MUTED,
    RULE,
    SERIES,
    Axes,
    Figure,
    rc_context,
    write_figure,
)
from patchcollide.shapes import Float, ndarray

__all__ = [
    "LEGEND",
    "Chart",
    "draw_history",
    "draw_samples",
    "inline_svg",
    "style",
    "style_axes",
    "write_growth_chart",
]

# Inline in the page, a chart takes the page's colours; elsewhere it keeps its own.
_STYLE_NAMES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {
    colour: f"--series-{place}" for place, colour in enumerate(SERIES, start=1)
}

_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "patchcollide"}

_MARGINS_IN = (0.62, 0.45, 0.14, 0.26)
"""Space left of, below, right of and above axes, for their labels and title."""

# In a page, letters are wider than those that matplotlib measures.
_LEGEND_COLUMNS, _LEGEND_ROW_IN = 2, 0.17

LEGEND: dict[str, Any] = {
    "ncols": _LEGEND_COLUMNS,
    "fontsize": 7.5,
    "frameon": False,
    "labelcolor": INK,
    "handlelength": 1.2,
}
"""How legends look."""

_NUM_BINS = 40

_HULL = "between the vertices"

_NULL = "between random images"

_FEATURES = {
    "tau": "vertices and samples",
    "validation_tau_mean": "at validation, mean",
    "validation_tau_max": "at validation, largest",
}

# What is minimised where features are not followed: a sum of terms in units of their own, which
# history.csv has one by one.
_LOSS = {"loss": "loss"}

_CHANCES = {
    "validation_probability": "probability",
    "validation_success": "success",
}

_DISTANCES = {"distance": "vertices", "validation_distance": "at validation"}


class Chart:
    """A drawing in the page's colours.

    Attributes:
        axes: What to draw on.
        is_empty: Whether nothing was drawn, which is then said.
        xlabel: What the horizontal axis is.
    """

    def __init__(self, title: str) -> None:
        self.axes: Axes
        self.is_empty = False
        self.xlabel = "step"
        self._title = title
        self._figure = Figure((4.2, 3.1))
        self._figure.patch.set_alpha(0)
        self.axes = self._figure.add_subplot()
        self.axes.patch.set_alpha(0)

    def svg(self, name: str, label: str) -> str:
        """Returns the drawing as an ``<svg>`` element.

        Args:
            name: Tells its parts from those of other drawings of the page.
            label: What is drawn, for those who cannot see it.
        """
        style(self._figure, self.axes, self._title, self.xlabel, is_empty=self.is_empty)
        return inline_svg(self._figure, name, label)


def style_axes(axes: Axes, title: str, xlabel: str) -> None:
    """Gives axes a title, a grid and a label."""
    axes.set_title(title, fontsize=9, color=INK, loc="left", weight="bold")
    axes.set_xlabel(xlabel, fontsize=8, color=MUTED)
    axes.tick_params(labelsize=8, labelcolor=MUTED, color=RULE, which="both")
    axes.grid(True, color=RULE, lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.yaxis.set_offset_position("right")  # a power of ten on the left would lift the title


def style(figure: Figure, axes: Axes, title: str, xlabel: str, *, is_empty: bool) -> None:
    """Gives axes :func:`style_axes` and a legend, or says that nothing was recorded."""
    style_axes(axes, title, xlabel)
    num_rows = 0
    if is_empty:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
    else:
        legend = figure.legend(loc="lower left", borderaxespad=0.2, **LEGEND)
        num_rows = -(-len(legend.texts) // _LEGEND_COLUMNS)
    # Matplotlib's own layouts draw all twice.
    left, bottom, right, top = _MARGINS_IN
    width, height = figure.get_size_inches()
    bottom += num_rows * _LEGEND_ROW_IN
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """Returns a figure as an ``<svg>`` element that refers to nothing outside.

    Its colours follow the page's ``--ink``, ``--muted``, ``--rule`` and ``--series-1`` to
    ``--series-7`` where it has them.

    Args:
        figure: Equal ones give equal texts.
        name: Tells its parts from those of other charts on the page.
        label: What it shows, for those who do not see it; a plain text of ours.
    """
    text = StringIO()
    with rc_context(_SETTINGS):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=metadata)
    return _for_html(text.getvalue(), name, label)


def _for_html(svg: str, name: str, label: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    # A style element would hold for the whole page, a namespace is only for files.
    svg = re.sub(r'<style.*?</style>| xmlns(:xlink)?="[^"]*"', "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    # Several drawings share one page, and matplotlib numbers its elements anew in each.
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, variable in _STYLE_NAMES.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def draw_samples(
    hull: HullSamples, null: HullSamples | None, target_probability: float
) -> list[str]:
    """Draws the probability of the target's class, and the distance of features, over samples.

    Args:
        hull: Samples of the polytope.
        null: Samples between random images of the data set; None if they were not measured.
        target_probability: Of the target's class for the target itself, 0..1.

    Returns:
        Two ``<svg>`` elements, or one where distances were not measured; see
        :meth:`patchcollide.report.charts.Chart.svg`.
    """
    chances = Chart("Probability of the target's class")
    chances.xlabel = "probability"
    others = [] if null is None else [null.target_probabilities]
    _draw_shares(chances, [hull.target_probabilities, *others], np.linspace(0, 1, _NUM_BINS + 1))
    chances.axes.axvline(target_probability, color=INK, lw=0.9, ls=":", label="the target")
    what = "over samples of the polytope, and of polytopes between random images"
    charts = [chances.svg("probabilities", f"Probability of the target's class {what}")]
    others = [] if null is None else [null.feature_distances]
    # Files of the first version did not measure them, and to a silent target they are infinite.
    known = [values[np.isfinite(values)] for values in (hull.feature_distances, *others)]
    if len(known[0]):
        gaps = Chart("Distance of features from the target's")
        gaps.xlabel = "share of the target's from silence"
        largest = max(1.0, *(float(values.max(initial=0)) for values in known))
        _draw_shares(gaps, known, np.linspace(0, largest, _NUM_BINS + 1))
        gaps.axes.axvline(1, color=INK, lw=0.9, ls=":", label="silent features")
        charts.append(gaps.svg("gaps", f"Distance of features from the target's {what}"))
    return charts


def _draw_shares(
    chart: Chart, columns: Sequence[Float[ndarray, "_"]], edges: Float[ndarray, "_"]
) -> None:
    for values, colour, label in zip(columns, SERIES, (_HULL, _NULL), strict=False):
        counts, _ = np.histogram(values, edges)
        shares = counts / max(len(values), 1)
        chart.axes.stairs(shares, edges, color=colour, lw=1.3, label=label)
        chart.axes.stairs(shares, edges, color=colour, alpha=0.25, fill=True)
    chart.axes.set_ylabel("share of the samples", fontsize=8, color=MUTED)
    chart.axes.set_ylim(0, None)


def draw_history(history: Sequence[Mapping[str, Any]]) -> str:
    """Draws how an optimisation went as three charts: features or loss, classes, distances.

    Args:
        history: One mapping a step, with the columns of ``history.csv``; values that are missing,
            empty or not finite are left out.

    Returns:
        Three ``<svg>`` elements for an HTML page, without references to anything outside. Their
        colours follow the page's ``--ink``, ``--muted``, ``--rule`` and ``--series-1`` to
        ``--series-7`` where it has them.
    """
    has_features = any(len(_series(history, key)[1]) for key in _FEATURES)
    first = ("features", "Features: tau", _FEATURES) if has_features else ("loss", "Loss", _LOSS)
    charts = (
        first,
        ("chances", "Samples at validation", _CHANCES),
        ("distances", "Mean distance between vertices (L2)", _DISTANCES),
    )
    return "\n".join(_draw(history, *chart) for chart in charts)


def write_growth_chart(path: Path, series: Mapping[str, Sequence[tuple[int, float, int]]]) -> None:
    """Writes how searches take more time and memory as stores grow.

    Axes are logarithmic, but that of memory.

    Args:
        path: The PNG file to write.
        series: Name of each search to numbers of patches, with its seconds and its own bytes.

    Raises:
        DiskFullError: If the disk is full.
    """
    figure = Figure((9.6, 3.8), dpi=160, facecolor="white")
    seconds, memory = figure.subplots(1, 2)
    for place, (name, points) in enumerate(series.items()):
        # More searches than colours: the lines of a second round are broken.
        colour, line = SERIES[place % len(SERIES)], "-" if place < len(SERIES) else "--"
        look = {"color": colour, "lw": 1.3, "marker": "o", "ms": 3.5}
        sizes, taken, own = zip(*points, strict=True)
        seconds.loglog(sizes, taken, line, label=name, **look)
        memory.semilogx(sizes, [number / 1e9 for number in own], line, **look)
    style_axes(memory, "Memory of its own", "patches in the store")
    memory.set_ylabel("GB", fontsize=8, color=MUTED)
    memory.set_ylim(0)
    style(figure, seconds, "Seconds of a search", "patches in the store", is_empty=not series)
    seconds.set_ylabel("seconds", fontsize=8, color=MUTED)
    write_figure(figure, path)


def _draw(
    history: Sequence[Mapping[str, Any]], name: str, title: str, terms: Mapping[str, str]
) -> str:
    chart = Chart(title)
    axes = chart.axes
    shown = []
    for (key, label), colour in zip(terms.items(), SERIES, strict=False):
        steps, values = _series(history, key)
        if not len(values):
            continue
        marker = "o" if key.startswith("validation") or len(steps) == 1 else ""
        axes.plot(steps, values, color=colour, label=label, lw=1.3, marker=marker, ms=2.8)
        shown.append(values)
    if name == "loss" and shown:
        axes.set_yscale("log" if min(values.min() for values in shown) > 0 else "linear")
    elif shown:
        axes.set_ylim(0, 1.03 if name == "chances" else None)
    chart.is_empty = not shown
    return chart.svg(name, f"{title} over the steps of the optimisation")


def _series(
    history: Sequence[Mapping[str, Any]], key: str
) -> tuple[Float[ndarray, "n"], Float[ndarray, "n"]]:
    pairs = [(float(row["step"]), _number(row.get(key))) for row in history]
    kept = np.array([pair for pair in pairs if math.isfinite(pair[1])], dtype=np.float64)
    return kept.reshape(-1, 2)[:, 0], kept.reshape(-1, 2)[:, 1]


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)
