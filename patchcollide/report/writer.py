"""Draws a run's figure and writes its page."""

from pathlib import Path
from typing import Any

from patchcollide.errors import RunError
from patchcollide.files import write_text
from patchcollide.report.figures import draw_history
from patchcollide.report.page import render_page
from patchcollide.report.pictures import write_run_differences
from patchcollide.report.tables import comparison_rows
from patchcollide.runs import SUMMARY_FILE, Run, load_history
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
    page = render_page(
        summary=summary,
        config=run.about["config"],
        images={n: (run / f"{n}.png").read_bytes() for n in names if (run / f"{n}.png").exists()},
        history_svg=draw_history(load_history(run)),
        comparison=comparison_rows(summary),
        command=str(run.inputs["command"]),
    )
    write_text(run / "report.html", page)
    return run / "report.html"
