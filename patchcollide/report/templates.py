"""The templates of the pages: how they are filled, and how numbers and pictures stand in them."""

import base64
import math
import struct
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import jinja2

from patchcollide.errors import RunError

__all__ = ["Picture", "embedded", "lacking", "render"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NOT_MEASURED = "not measured"
# Keeps a number and its unit on one line.
_SPACE = "\N{NARROW NO-BREAK SPACE}"


# What a run left out when it looked for neighbours, in words.
_OMISSIONS = {
    "leaked_images": "images of the store that are the source or the target, or nearly",
    "excluded_images": "images excluded by name",
    "overlapping_patches": "patches that overlap a nearer one of the same image",
}


@dataclass(frozen=True)
class Picture:
    """A PNG as it stands in a page."""

    uri: str
    width: int
    height: int


def render(name: str, **values: Any) -> str:
    """Fills a template of this folder; all texts are escaped.

    Args:
        name: The template's file.
        values: What it shows.

    Raises:
        RunError: If something that it shows is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("patchcollide", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count_name": _as_count_name,
        "file_name": _as_file_name,
        "gap": _as_gap,
        "number": _as_number,
        "percent": _as_percent,
        "probability": _as_probability,
    }
    try:
        return environment.get_template(name).render(**values)
    except jinja2.UndefinedError as error:
        raise RunError(lacking(str(error))) from error


def lacking(what: str) -> str:
    """Returns the sentence about a summary that cannot be shown."""
    return (
        f"The summary of the run lacks something the page shows ({what}). Evaluate the run again."
    )


def embedded(name: str, png: bytes) -> Picture:
    """Returns a PNG file as a page holds it; RunError, naming it, if it is none."""
    # The first chunk of a PNG is its header, which begins with the size.
    if not png.startswith(_PNG_SIGNATURE) or len(png) < 24:
        raise RunError(f"The image '{name}' of the run is not a PNG file. Make the run again.")
    width, height = struct.unpack(">II", png[16:24])
    return Picture("data:image/png;base64," + base64.b64encode(png).decode("ascii"), width, height)


def _as_count_name(key: str) -> str:
    return _OMISSIONS.get(key, key.removeprefix("num_").replace("_", " "))


def _as_file_name(path: str) -> str:
    return PurePath(path).name or path


def _formatted(value: float | None, form: str) -> str:
    return _NOT_MEASURED if value is None or not math.isfinite(value) else format(value, form)


def _as_number(value: float | None, digits: int = 0) -> str:
    return _formatted(value, f".{digits}f")


def _as_gap(value: float | None) -> str:
    return _formatted(value, "#.3g").rstrip(".")


def _as_probability(value: float | None) -> str:
    return _formatted(value, ".3f")


def _as_percent(share: float | None, digits: int = 1) -> str:
    """Formats a share; one short of all is never shown as 100 %, nor one above none as 0 %."""
    if share is None or not math.isfinite(share):
        return _NOT_MEASURED
    text = f"{100 * share:.{digits}f}"
    least = 10.0**-digits
    if share < 1 and float(text) == 100:
        text = f"> {100 - least:.{digits}f}"
    elif share > 0 and float(text) == 0:
        text = f"< {least:.{digits}f}"
    elif share in (0, 1):
        text = f"{100 * share:.0f}"
    return f"{text}{_SPACE}%"
