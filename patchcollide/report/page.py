"""The HTML page of a run: one file that needs nothing else, now or in ten years."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchcollide.errors import RunError
from patchcollide.report.certificates import (
    EDGE_HEADER,
    HEADER,
    edge_row,
    gap_rows,
    others_sentence,
    walk_sentence,
)
from patchcollide.report.live import Live
from patchcollide.report.scripts import page_script
from patchcollide.report.tables import Row
from patchcollide.report.templates import embedded, lacking, render

__all__ = ["flatten", "render_page"]


def render_page(
    *,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    images: Mapping[str, bytes],
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
        summary: What was made and found. Texts: ``source`` and ``target`` (paths), ``network``,
            ``layer``, ``target_class_name``, ``source_class_name``, ``parameterisation``
            (``patches`` or ``pixels``), ``stopped_because``. Probabilities and shares in 0..1:
            ``target_probability``, ``source_probability``, ``success_rate``,
            ``success_interval`` (two), ``sample_probability_mean``,
            ``sample_class_probability_mean``, ``success_rate_stick_breaking``. Distances, L2 in
            the 0..255 scale: ``vertex_distance_mean``, ``vertex_distance_min``,
            ``dataset_distance_mean``; None where not measured. Counts: ``num_vertices``,
            ``num_samples``, ``steps``, ``seed``, ``target_class``, ``peak_memory_bytes``.
            Groups: ``unrounded``, ``vertices``, ``seconds``, ``versions``, ``neighbours`` (or
            None); ``certificate``, ``visibility`` and ``exact``, which older runs lack.
        config: The settings, nested.
        images: PNG files by name: ``source``, ``target`` (unless the summary's
            ``target_given_as`` is ``features``), ``vertex-0`` and so on, ``figure``, and
            ``neighbours`` if patches were composed.
        history_svg: What :func:`patchcollide.report.history.draw_history` returned; inserted as
            it is.
        samples_svg: Charts of :mod:`patchcollide.report.sample_charts`, inserted as they are; empty
            for runs whose samples were not kept.
        live: What moves.
        comparison: The rows of the table of results, the paper's and the run's.
        command: The command line that makes the run again.

    Raises:
        RunError: If the summary or the images lack something the page shows, or an image is not
            a PNG.
    """
    missing = {"num_vertices", "vertices", "seconds"} - summary.keys()
    if missing:
        raise RunError(lacking(f"no {', '.join(sorted(missing))}"))
    vertex_names = [f"vertex-{number}" for number in range(summary["num_vertices"])]
    given = ["source"] if summary.get("target_given_as") == "features" else ["source", "target"]
    for name in (*given, "figure", *vertex_names):
        if name not in images:
            raise RunError(f"The page needs the image '{name}', but the run has no such image.")
    pictures = {name: embedded(name, png) for name, png in images.items()}
    return render(
        "page.html.j2",
        # Runs of before there were exact ones lack it.
        summary={"exact": None, **summary},
        settings=list(flatten(config)),
        pictures=pictures,
        vertices=[
            {**vertex, "picture": pictures[name]}
            for name, vertex in zip(vertex_names, summary["vertices"], strict=True)
        ],
        # A page cannot know how long its own drawing takes, and must not change when redrawn.
        stages=[pair for pair in summary["seconds"].items() if pair[0] != "report"],
        history_svg=history_svg,
        samples_svg=samples_svg,
        live=live,
        script=page_script(),
        comparison=comparison,
        **_certificate(summary),
        command=command,
    )


def _certificate(summary: Mapping[str, Any]) -> dict[str, Any]:
    walk = (summary.get("certificate") or {}).get("walk") or {"edges": []}
    return {
        "gap_header": HEADER,
        "gap_rows": gap_rows(summary),
        "others_sentence": others_sentence(summary),
        "edge_header": EDGE_HEADER,
        "edge_rows": [edge_row(edge) for edge in walk["edges"]],
        "walk_sentence": walk_sentence(walk) if walk["edges"] else "",
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields nested settings as ``section.key`` and the value as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)
