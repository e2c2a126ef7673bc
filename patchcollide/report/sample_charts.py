"""The samples of a polytope as charts, beside those between images that nobody made collide."""

from collections.abc import Sequence

import numpy as np

from patchcollide.hull_samples import HullSamples
from patchcollide.report.charts import INK, MUTED, SERIES, Chart
from patchcollide.shapes import Float, ndarray

__all__ = ["draw_distances", "draw_samples"]

_NUM_BINS = 40
_HULL = "between the vertices"
_NULL = "between random images"


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


def draw_distances(distances: Sequence[float], dataset_mean: float | None) -> str:
    """Draws the distances between vertices, and the mean distance of images of the data set.

    Args:
        distances: L2 in 0..255, of each pair of vertices.
        dataset_mean: The same between random images, on average; None if it was not measured.
    """
    chart = Chart("Distances between vertices (L2)")
    chart.xlabel = "pairs of vertices, nearest first"
    found = np.sort(np.asarray(distances, dtype=np.float64))
    places = np.arange(1, len(found) + 1)
    chart.is_empty = not len(found)
    if len(found):
        chart.axes.bar(places, found, color=SERIES[0], width=0.7, label="two vertices")
        chart.axes.set_xticks(places if len(places) <= 10 else [1, len(places)])
        if dataset_mean is not None:
            label = "two random images, mean"
            chart.axes.axhline(dataset_mean, color=SERIES[1], lw=1.3, ls="--", label=label)
    return chart.svg("pairs", "Distance of each pair of vertices beside that of random images")


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
