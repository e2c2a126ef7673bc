"""The templates of the pages: how they are filled, and how numbers and pictures stand in them.

The scripts of a page are joined into one that it can hold and name to the browser.
"""

import base64
import functools
import hashlib
import struct
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Any

import jinja2

from patchcollide.errors import RunError
from patchcollide.formats import as_amount, as_gap, as_number, as_percent, as_probability, as_share

__all__ = [
    "REPORT_SCRIPTS",
    "PageScript",
    "Picture",
    "embedded",
    "lacking",
    "page_script",
    "render",
]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_FOLDERS = ("report", "explorer", "audit", "reproduction")

# What a run left out when it looked for neighbours, in words.
_OMISSIONS = {
    "leaked_images": "images of the store that are the source or the target, or nearly",
    "excluded_images": "images excluded by name",
    "overlapping_patches": "patches that overlap a nearer one of the same image",
}

REPORT_SCRIPTS = ("simplex.js", "predictions.js", "pixels.js", "report.js")


@dataclass(frozen=True)
class Picture:
    """A PNG as it stands in a page."""

    uri: str
    width: int
    height: int


def render(name: str, **values: Any) -> str:
    """Fills a template of this folder or of the explorer's; all texts are escaped.

    Args:
        name: The template's file.
        values: What it shows.

    Raises:
        RunError: If something that it shows is not there.
    """
    try:
        return _environment().get_template(name).render(**values)
    except jinja2.UndefinedError as error:
        raise RunError(lacking(str(error))) from error


@functools.cache
def _environment() -> jinja2.Environment:
    # It keeps what it compiled: to compile the templates of a page takes longer than to fill them.
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("patchcollide", folder) for folder in _FOLDERS]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": as_amount,
        "count_name": _as_count_name,
        "file_name": _as_file_name,
        "gap": as_gap,
        "number": as_number,
        "percent": as_percent,
        "probability": as_probability,
        "share": as_share,
    }
    return environment


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


@dataclass(frozen=True)
class PageScript:
    """A script inside a page.

    Attributes:
        text: What it does.
        digest: Its SHA-256 in base64, by which the page's policy allows it and no other.
    """

    text: str
    digest: str


def page_script(names: tuple[str, ...] = REPORT_SCRIPTS) -> PageScript:
    """Returns scripts of this folder one after the other, as one."""
    folder = files("patchcollide.report")
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
    digest = hashlib.sha256(text.encode()).digest()
    return PageScript(text, base64.b64encode(digest).decode("ascii"))
