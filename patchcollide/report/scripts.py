"""The scripts of a page, as one that it can hold and name to the browser."""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["REPORT_SCRIPTS", "PageScript", "page_script"]

REPORT_SCRIPTS = ("simplex.js", "predictions.js", "pixels.js", "report.js")


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
