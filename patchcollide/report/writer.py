"""Draws a run's figure and writes its page."""

from pathlib import Path
from typing import Any

from patchcollide.contributions import Contributions
from patchcollide.errors import RunError
from patchcollide.evaluation import as_batch
from patchcollide.files import write_text
from patchcollide.hull_samples import HullSamples, load_samples
from patchcollide.losses import pairwise_distances
from patchcollide.neighbours import Neighbours
from patchcollide.provenance import array_digest
from patchcollide.report.history import draw_history
from patchcollide.report.live import make_live
from patchcollide.report.page import render_page
from patchcollide.report.pictures import write_run_differences
from patchcollide.report.sample_charts import draw_distances, draw_samples
from patchcollide.report.tables import comparison_rows
from patchcollide.runs import (
    CONTRIBUTIONS_FILE,
    SAMPLES_FILE,
    SUMMARY_FILE,
    Run,
    load_history,
    load_vertex_pngs,
)
from patchcollide.shapes import UInt8, ndarray
from patchcollide.summaries import read_summary

_IMAGES = ("source", "target", "figure", "neighbours")


def write_report(run: Run) -> Path:
    """Writes ``figure.png`` and ``report.html`` from the other files of a run.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file is missing or damaged.
        DiskFullError: If there is no room left.
    """
    summary = read_summary(run)
    try:
        return _write(run, summary)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run / SUMMARY_FILE} is damaged ({type(error).__name__}: {error}). Measure the run "
            f"again with `patchcollide evaluate {run.folder}`."
        ) from error


def _write(run: Run, summary: dict[str, Any]) -> Path:
    title = f"{summary['network']}, {summary['layer']}: features of the target, not its look"
    write_run_differences(run / "figure.png", run, title)
    names = [*_IMAGES, *(f"vertex-{number}" for number in range(summary["num_vertices"]))]
    vertices = load_vertex_pngs(run)
    samples = _samples(run, vertices)
    page = render_page(
        summary=summary,
        config=run.about["config"],
        images={n: (run / f"{n}.png").read_bytes() for n in names if (run / f"{n}.png").exists()},
        history_svg=draw_history(load_history(run)),
        samples_svg=_draw_samples(summary, samples, vertices),
        live=make_live(summary, samples, _composed(run), run.config.grid.num_positions),
        comparison=comparison_rows(summary),
        command=str(run.inputs["command"]),
    )
    write_text(run / "report.html", page)
    return run / "report.html"


def _samples(
    run: Run, vertices: UInt8[ndarray, "vertices height width channels"]
) -> dict[str, HullSamples] | None:
    """Returns a run's samples; None for runs of before they were kept."""
    path = run / SAMPLES_FILE
    return load_samples(path, array_digest(vertices)) if path.exists() else None


def _composed(run: Run) -> tuple[Contributions, Neighbours] | None:
    """Returns what vertices are composed of, if they are and it was kept."""
    path = run / CONTRIBUTIONS_FILE
    if not path.exists():
        return None
    return Contributions.load(path, run.fingerprint), Neighbours.load(run / "neighbours.h5")


def _draw_samples(
    summary: dict[str, Any],
    samples: dict[str, HullSamples] | None,
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> str:
    if samples is None:
        return ""
    charts = draw_samples(samples["hull"], samples.get("null"), summary["target_probability"])
    if len(vertices) > 1:
        distances = pairwise_distances(as_batch(vertices)).tolist()
        charts.append(draw_distances(distances, summary["dataset_distance_mean"]))
    return "\n".join(charts)
