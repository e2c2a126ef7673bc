"""How a search went, and how searches slow down as stores grow, as charts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.files import written_beside
from patchcollide.report.charts import MUTED, SERIES, Chart, style
from patchcollide.report.sheet import Axes, Figure
from patchcollide.shapes import Float, ndarray

__all__ = ["draw_history", "write_growth_chart"]

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
    return "\n".join(_draw(history, *chart) for chart in charts)


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
    style(figure, axes, "Seconds of a search", "patches in the store", is_empty=not series)
    axes.set_ylabel("seconds", fontsize=8, color=MUTED)
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _draw(
    history: Sequence[Mapping[str, Any]], name: str, title: str, terms: Mapping[str, str]
) -> str:
    chart = Chart(title)
    axes = chart.axes
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
    chart.is_empty = not shown
    return chart.svg(name, f"{title} over the steps of the optimisation")


def _scale_losses(axes: Axes, shown: Sequence[Float[ndarray, "_"]]) -> None:
    # The term that drives a unit down ends below zero, where a logarithm has nothing to show.
    values = np.concatenate(shown) if shown else np.ones(1)
    if (values > 0).all():
        axes.set_yscale("log")
    else:
        size = np.abs(values[values != 0])
        threshold = 10.0 ** math.floor(math.log10(float(np.quantile(size, 0.1))))
        axes.set_yscale("symlog", linthresh=threshold)


def _series(
    history: Sequence[Mapping[str, Any]], key: str
) -> tuple[Float[ndarray, "n"], Float[ndarray, "n"]]:
    pairs = [(float(row["step"]), _number(row.get(key))) for row in history]
    kept = np.array([pair for pair in pairs if math.isfinite(pair[1])], dtype=np.float64)
    return kept.reshape(-1, 2)[:, 0], kept.reshape(-1, 2)[:, 1]


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)
