"""The HTML page of a run: one file that needs nothing else, now or in ten years."""

import base64
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2

from patchcollide.errors import RunError
from patchcollide.report.tables import Row

__all__ = ["render_page"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NOT_MEASURED = "not measured"
# Keeps a number and its unit on one line.
_SPACE = "\N{NARROW NO-BREAK SPACE}"
_COUNTS = {
    "num_leaked": "patches of the source's or the target's own image, dropped",
    "num_overlapping": "patches overlapping a nearer one of the same image, dropped",
    "num_excluded": "patches of excluded images, dropped",
}


@dataclass(frozen=True)
class _Picture:
    """A PNG within the page."""

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
            None).
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
    vertices = [f"vertex-{number}" for number in range(summary.get("num_vertices", 0))]
    for name in ("source", "target", "figure", *vertices):
        if name not in images:
            raise RunError(f"The page needs the image '{name}', but the run has no such image.")
    try:
        return _template().render(
            summary=summary,
            settings=list(_flatten(config)),
            pictures={name: _picture(name, png) for name, png in images.items()},
            vertex_pictures=vertices,
            history_svg=history_svg,
            comparison=comparison,
            command=command,
        )
    except jinja2.UndefinedError as error:
        raise RunError(
            f"The summary of the run lacks something the page shows ({error}). "
            "Evaluate the run again."
        ) from error


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "bytes": _as_bytes,
        "count_name": _as_count_name,
        "distance": _as_distance,
        "file_name": _as_file_name,
        "gap": _as_gap,
        "percent": _as_percent,
        "probability": _as_probability,
        "seconds": _as_seconds,
    }
    text = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def _picture(name: str, png: bytes) -> _Picture:
    if not png.startswith(_PNG_SIGNATURE) or len(png) < 24:
        raise RunError(f"The image '{name}' of the run is not a PNG file. Make the run again.")
    width, height = struct.unpack(">II", png[16:24])
    uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return _Picture(uri, width, height)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _as_percent(share: float | None) -> str:
    """Two decimals where they matter: 1999 of 2000 are not 100 %."""
    if share is None or not _known(share):
        return _NOT_MEASURED
    digits = f"{100 * share:.2f}".rstrip("0").rstrip(".")
    # Nor is anything else short of one; the share of a large sample may need more digits.
    if share < 1 and digits == "100":
        digits = "> 99.99"
    return f"{digits}{_SPACE}%"


def _as_probability(value: float | None) -> str:
    return f"{value:.3f}" if _known(value) else _NOT_MEASURED


def _as_distance(value: float | None) -> str:
    return f"{value:.2f}" if _known(value) else _NOT_MEASURED


def _as_gap(value: float | None) -> str:
    return f"{value:.3g}" if _known(value) else _NOT_MEASURED


def _as_seconds(value: float | None) -> str:
    if value is None or not _known(value):
        return _NOT_MEASURED
    return f"{value:.1f}{_SPACE}s" if value < 100 else f"{value:.0f}{_SPACE}s"


def _as_bytes(value: float | None) -> str:
    if value is None or not _known(value):
        return _NOT_MEASURED
    return f"{value / 1e9:.2f}{_SPACE}GB" if value >= 1e9 else f"{value / 1e6:.0f}{_SPACE}MB"


def _as_file_name(path: str) -> str:
    return PurePath(path).name or path


def _as_count_name(key: str) -> str:
    return _COUNTS.get(key, key.removeprefix("num_").replace("_", " "))
