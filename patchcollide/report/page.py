"""The HTML page of a run: one file that needs nothing else, now or in ten years."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchcollide.errors import RunError
from patchcollide.evaluation.summary import Summary
from patchcollide.report.claims import claim_parts
from patchcollide.report.closeups import Closeups
from patchcollide.report.front import make_front
from patchcollide.report.headlines import called, closeness_lines, tightness_lines
from patchcollide.report.live import Live
from patchcollide.report.proofs import proof_lines
from patchcollide.report.tables import Row
from patchcollide.report.templates import Picture, embedded, lacking, page_script, render
from patchcollide.report.yardstick import make_yardstick


def render_page(
    *,
    summary: Summary,
    config: Mapping[str, Any],
    images: Mapping[str, bytes],
    closeups: Closeups,
    history_svg: str,
    samples_svg: str,
    live: Live,
    comparison: Sequence[Row],
    command: str,
) -> str:
    """Returns the page of a run as HTML.

    The page refers to nothing outside itself and forbids the browser to fetch anything, or to run
    any script but its own; all texts are escaped.

    Args:
        summary: What was made and found.
        config: The settings, nested.
        images: PNG files by name: ``source``, ``target`` (unless the summary's
            ``target_given_as`` is ``features``), ``vertex-0`` and so on, and ``neighbours`` if
            patches were composed.
        closeups: What of the vertices is shown large.
        history_svg: What :func:`patchcollide.report.charts.draw_history` returned; inserted as
            it is.
        samples_svg: Charts of :mod:`patchcollide.report.charts`, inserted as they are; empty
            for runs whose samples were not kept.
        live: What moves.
        comparison: The rows of the table of results, the paper's and the run's.
        command: The command line that makes the run again.

    Raises:
        RunError: If the summary or the images lack something the page shows, or an image is not
            a PNG.
    """
    pictures = _pictures(summary, images)
    return render(
        "page.html.j2",
        settings=list(flatten(config)),
        pictures=pictures,
        vertices=_vertices(summary, pictures),
        closeups=closeups,
        history_svg=history_svg,
        samples_svg=samples_svg,
        live=live,
        script=page_script(),
        comparison=comparison,
        command=command,
        **_said(summary),
    )


def _said(summary: Summary) -> dict[str, Any]:
    """Returns what the templates take of the summary alone."""
    return {
        # Runs of before there were exact ones, or verdicts, lack these.
        "summary": {"exact": None, "tightness": None, "driven_units": None, **summary},
        "front": make_front(summary),
        "yardstick": make_yardstick(summary),
        # A page cannot know how long its own drawing takes, and must not change when redrawn.
        "stages": [pair for pair in summary["seconds"].items() if pair[0] != "report"],
        "called": called(summary),
        # The first line, the verdict, stands above the others.
        "tightness": [*tightness_lines(summary)[1:], *closeness_lines(summary)],
        **claim_parts(summary),
        "proofs": list(proof_lines(summary)),
    }


def _vertices(summary: Summary, pictures: Mapping[str, Picture]) -> list[dict[str, Any]]:
    numbers = range(summary["num_vertices"])
    return [
        {**vertex, "picture": pictures[f"vertex-{number}"]}
        for number, vertex in zip(numbers, summary["vertices"], strict=True)
    ]


def _pictures(summary: Summary, images: Mapping[str, bytes]) -> dict[str, Picture]:
    missing = {"num_vertices", "vertices", "seconds", "success_interval"} - summary.keys()
    if missing:
        raise RunError(lacking(f"no {', '.join(sorted(missing))}"))
    given = ["source"] if summary.get("target_given_as") == "features" else ["source", "target"]
    vertices = [f"vertex-{number}" for number in range(summary["num_vertices"])]
    for name in (*given, *vertices):
        if name not in images:
            raise RunError(f"The page needs the image '{name}', but the run has no such image.")
    return {name: embedded(name, png) for name, png in images.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields nested settings as ``section.key`` and the value as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)
