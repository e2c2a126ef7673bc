"""A frontier as a table and as a figure: distances, features and class against the bound."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from patchcollide.evaluation.frontier import Frontier, FrontierPoint, farthest_within
from patchcollide.formats import as_gap, as_number, as_percent, as_probability
from patchcollide.report.charts import LEGEND, style_axes
from patchcollide.report.sheet import INK, SERIES, Axes, Figure, rc_context, write_figure
from patchcollide.report.tables import markdown

_HEADINGS = (
    "tightness asked",
    "tau mean",
    "tau max",
    "holds",
    "in class",
    "p",
    "vertex L2",
    "of data set",
    "farthest held",
    "source L2",
    "of data set",
    "kept by blocks",
    "SSIM of vertices",
    "SSIM to source",
    "steps",
    "s",
)


_Panel: TypeAlias = tuple[str, Mapping[str, Sequence[float | None]]]
"""A title, and lines by their names: a value at each bound."""


def frontier_lines(frontier: Frontier) -> list[str]:
    """Returns the table in Markdown, loosest bound first, and what its columns are."""
    of_data = frontier["dataset_distance"]
    rows = [_HEADINGS, *(_cells(point, frontier) for point in frontier["points"])]
    bound = frontier["source_bound"]
    asked = f" (asked: at most {as_number(bound)})" if bound else ""
    title = ", ".join((frontier["network"], frontier["layer"], frontier["parameterisation"]))
    meaning = (
        "tau is how far the features of samples between the vertices are from the target's, behind "
        "the activation, as a share of theirs; p the mean probability of the target's class, "
        f"{as_probability(frontier['target_probability'])} for the target itself; vertex L2 the "
        "mean distance of two vertices in 0..255, farthest held the largest in this table whose "
        "tau max is within the row's tightness; source L2 the distance of a vertex from the source"
        f"{asked}; the data set's is {as_number(of_data)}. Kept by blocks is the share of the "
        "vertices' squared difference in detail of a 28th of a side and more, SSIM structural "
        "similarity, 1 for equal images. Seconds are of the descent."
    )
    return [f"{title}, seed {frontier['seed']}:", "", *markdown(rows).splitlines(), "", meaning]


def _cells(point: FrontierPoint, frontier: Frontier) -> list[str]:
    of_data = frontier["dataset_distance"]
    farthest = farthest_within(frontier["points"], point["tightness"])
    largest = point["tau"]["max"]
    holds = largest is not None and largest <= point["tightness"]
    vertex, source = point["vertex_distance"], point["source_distance"]
    return [
        f"{point['tightness']:g}",
        as_gap(point["tau"]["mean"]),
        as_gap(largest),
        "yes" if holds else "no",
        as_percent(point["success_rate"]),
        as_probability(point["probability"]),
        as_number(vertex),
        as_percent(vertex / of_data if of_data else None),
        as_number(farthest["vertex_distance"]) if farthest else "none",
        as_number(source),
        as_percent(source / of_data if of_data else None),
        as_percent(point.get("block_share")),
        as_probability(point.get("vertex_ssim")),
        as_probability(point.get("source_ssim")),
        str(point["steps"]),
        as_number(point["seconds"], 1),
    ]


def write_frontier_chart(path: Path, frontier: Frontier) -> None:
    """Draws distances, features and class against the bound, side by side.

    Args:
        path: The PNG or PDF file to write.
        frontier: Equal ones give equal files.

    Raises:
        DiskFullError: If the disk is full.
    """
    panels = _panels(frontier)
    bounds = np.array([point["tightness"] for point in frontier["points"]])
    with rc_context({"pdf.fonttype": 42}):
        figure = Figure((3.2 * len(panels), 3.1), dpi=160, layout="constrained", facecolor="white")
        parts = [figure.add_subplot(1, len(panels), place) for place in range(1, len(panels) + 1)]
        for axes, (title, series) in zip(parts, panels, strict=True):
            _draw(axes, bounds, series)
            style_axes(axes, title, "tightness asked")
        if (bound := frontier["source_bound"]) is not None:
            most = bound / (frontier["dataset_distance"] or 1)
            parts[0].axhline(most, color=INK, lw=0.9, ls=":", label="its bound")
        parts[1].plot(bounds, bounds, color=INK, lw=0.9, ls=":", label="the bound")
        parts[2].axhline(
            frontier["target_probability"], color=INK, lw=0.9, ls=":", label="the target"
        )
        for axes in parts:
            axes.legend(loc="upper left", bbox_to_anchor=(-0.14, -0.2), columnspacing=0.9, **LEGEND)
        write_figure(figure, path)


def _panels(frontier: Frontier) -> list[_Panel]:
    """Returns what is drawn side by side; the last panel only of runs that measured it."""
    points, of_data = frontier["points"], frontier["dataset_distance"]
    unit = "of the data set's" if of_data else "L2, 0..255"
    panels: list[_Panel] = [
        (
            f"Mean distance, {unit}",
            {
                "between vertices": [p["vertex_distance"] / (of_data or 1) for p in points],
                "to the source": [p["source_distance"] / (of_data or 1) for p in points],
            },
        ),
        (
            "Distance of features, tau",
            {
                "largest": [p["tau"]["max"] for p in points],
                "mean": [p["tau"]["mean"] for p in points],
            },
        ),
        (
            "Samples in the target's class",
            {
                "share": [p["success_rate"] for p in points],
                "mean probability": [p["probability"] for p in points],
            },
        ),
    ]
    if any(point.get("block_share") is not None for point in points):
        panels.append(
            (
                "Difference to the eye",
                {
                    "kept by blocks": [p.get("block_share") for p in points],
                    "SSIM, vertices": [p.get("vertex_ssim") for p in points],
                    "SSIM, source": [p.get("source_ssim") for p in points],
                },
            )
        )
    return panels


def _draw(axes: Axes, bounds: np.ndarray, series: Mapping[str, Sequence[float | None]]) -> None:
    for (label, values), colour in zip(series.items(), SERIES, strict=False):
        heights = np.array(values, dtype=np.float64)
        axes.plot(bounds, heights, color=colour, label=label, lw=1.3, marker="o", ms=3.5)
    axes.set_xscale("log")
    axes.set_xticks(bounds, [f"{bound:g}" for bound in bounds])
    axes.minorticks_off()
    axes.set_ylim(0, 1.04 * axes.get_ylim()[1])
