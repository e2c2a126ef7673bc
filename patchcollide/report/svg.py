"""Charts as parts of an HTML page, in the page's colours."""

import re
from io import StringIO
from typing import Any

from patchcollide.report.sheet import INK, MUTED, RULE, SERIES, Figure, rc_context

__all__ = ["inline_svg"]

# Inline in the page, a chart takes the page's colours; elsewhere it keeps its own.
_STYLE_NAMES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {
    colour: f"--series-{place}" for place, colour in enumerate(SERIES, start=1)
}
_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "patchcollide"}


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """Returns a figure as an ``<svg>`` element that refers to nothing outside.

    Its colours follow the page's ``--ink``, ``--muted``, ``--rule`` and ``--series-1`` to
    ``--series-7`` where it has them.

    Args:
        figure: Equal ones give equal texts.
        name: Tells its parts from those of other charts on the page.
        label: What it shows, for those who do not see it; a plain text of ours.
    """
    text = StringIO()
    with rc_context(_SETTINGS):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=metadata)
    return _for_html(text.getvalue(), name, label)


def _for_html(svg: str, name: str, label: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    # A style element would hold for the whole page, a namespace is only for files.
    svg = re.sub(r'<style.*?</style>| xmlns(:xlink)?="[^"]*"', "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    # Several drawings share one page, and matplotlib numbers its elements anew in each.
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, variable in _STYLE_NAMES.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
