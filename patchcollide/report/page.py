"""The HTML page of a run: one file that needs nothing else, now or in ten years."""

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2

from patchcollide.errors import RunError
from patchcollide.report.certificates import (
    EDGE_HEADER,
    HEADER,
    edge_row,
    gap_rows,
    walk_sentence,
)
from patchcollide.report.formats import as_gap, as_number, as_percent, as_probability
from patchcollide.report.tables import Row

__all__ = ["render_page"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# What a run left out when it looked for neighbours, in words.
_OMISSIONS = {
    "leaked_images": "images of the store that are the source or the target, or nearly",
    "excluded_images": "images excluded by name",
    "overlapping_patches": "patches that overlap a nearer one of the same image",
}


@dataclass(frozen=True)
class _Picture:
    """A PNG as it stands in the page."""

    uri: str
    width: int
    height: int


def render_page(
    *,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    images: Mapping[str, bytes],
    history_svg: str,
    comparison: Sequence[Row],
    command: str,
) -> str:
    """Returns the page of a run as HTML.

    The page refers to nothing outside itself and forbids the browser to fetch anything; all texts
    are escaped.

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
            None); ``certificate`` and ``visibility``, which older runs lack.
        config: The settings, nested.
        images: PNG files by name: ``source``, ``target``, ``vertex-0`` and so on, ``figure``, and
            ``neighbours`` if patches were composed.
        history_svg: What :func:`patchcollide.report.figures.draw_history` returned; inserted as
            it is.
        comparison: The rows of the table of results, the paper's and the run's.
        command: The command line that makes the run again.

    Raises:
        RunError: If the summary or the images lack something the page shows, or an image is not
            a PNG.
    """
    missing = {"num_vertices", "vertices", "seconds"} - summary.keys()
    if missing:
        raise RunError(_lacking(f"no {', '.join(sorted(missing))}"))
    vertex_names = [f"vertex-{number}" for number in range(summary["num_vertices"])]
    for name in ("source", "target", "figure", *vertex_names):
        if name not in images:
            raise RunError(f"The page needs the image '{name}', but the run has no such image.")
    pictures = {name: _picture(name, png) for name, png in images.items()}
    try:
        return _template().render(
            summary=summary,
            settings=list(_flatten(config)),
            pictures=pictures,
            vertices=[
                {**vertex, "picture": pictures[name]}
                for name, vertex in zip(vertex_names, summary["vertices"], strict=True)
            ],
            # A page cannot know how long its own drawing takes, and must not change when redrawn.
            stages=[pair for pair in summary["seconds"].items() if pair[0] != "report"],
            history_svg=history_svg,
            comparison=comparison,
            **_certificate(summary),
            command=command,
        )
    except jinja2.UndefinedError as error:
        raise RunError(_lacking(str(error))) from error


def _certificate(summary: Mapping[str, Any]) -> dict[str, Any]:
    walk = (summary.get("certificate") or {}).get("walk") or {"edges": []}
    return {
        "gap_header": HEADER,
        "gap_rows": gap_rows(summary),
        "edge_header": EDGE_HEADER,
        "edge_rows": [edge_row(edge) for edge in walk["edges"]],
        "walk_sentence": walk_sentence(walk) if walk["edges"] else "",
    }


def _lacking(what: str) -> str:
    return (
        f"The summary of the run lacks something the page shows ({what}). Evaluate the run again."
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count_name": _as_count_name,
        "file_name": _as_file_name,
        "gap": as_gap,
        "number": as_number,
        "percent": as_percent,
        "probability": as_probability,
    }
    text = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def _picture(name: str, png: bytes) -> _Picture:
    # The first chunk of a PNG is its header, which begins with the size.
    if not png.startswith(_PNG_SIGNATURE) or len(png) < 24:
        raise RunError(f"The image '{name}' of the run is not a PNG file. Make the run again.")
    width, height = struct.unpack(">II", png[16:24])
    return _Picture("data:image/png;base64," + base64.b64encode(png).decode("ascii"), width, height)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _as_count_name(key: str) -> str:
    return _OMISSIONS.get(key, key.removeprefix("num_").replace("_", " "))


def _as_file_name(path: str) -> str:
    return PurePath(path).name or path
