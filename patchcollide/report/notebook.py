"""What notebooks show of a polytope: small pieces of HTML that need nothing else."""

import json
from typing import Any, cast

from patchcollide.evaluation.summary import Ending, Summary
from patchcollide.images.pictures import png_bytes
from patchcollide.report.plots import Plotted
from patchcollide.report.templates import embedded, render
from patchcollide.shapes import UInt8, ndarray

__all__ = ["Figures", "Plotted", "polytope_html", "shown"]

_TEMPLATE = "notebook.html.j2"
_SHOWN_PX = 112


class Figures(dict[str, Any]):
    """The entries of ``summary.json``, which show themselves in a notebook."""

    def _repr_html_(self) -> str:
        return render(_TEMPLATE, pictures=[], summary=self)


def shown(summary: Summary) -> Summary:
    """Returns a summary as a file holds it, which shows itself in a notebook."""
    return cast(Summary, Figures(json.loads(json.dumps(summary, allow_nan=False))))


def polytope_html(
    *,
    source: UInt8[ndarray, "height width channels"],
    target: UInt8[ndarray, "height width channels"] | None,
    vertices: UInt8[ndarray, "vertices height width channels"],
    distance: float,
    where: str,
    state: Ending,
    summary: Summary | None,
) -> str:
    """Returns source, target, vertices and the key numbers as a piece of HTML.

    Args:
        source: As the network saw it.
        target: The same; None if it was given as features.
        vertices: 8-bit images.
        distance: The mean of the vertices', L2 in 0..255.
        where: Network, layer, and what varies.
        state: How the descent ended.
        summary: What was measured; None if nothing was.
    """
    pair = [("source", source)] + ([("target", target)] if target is not None else [])
    named = pair + [(f"vertex {number}", vertex) for number, vertex in enumerate(vertices)]
    classes: list[tuple[str, float | None]] = [("", None)] * len(named)
    if summary is not None:
        classes = [(summary["source_class_name"], summary["source_probability"])]
        if target is not None:
            classes.append((summary["target_class_name"], summary["target_probability"]))
        classes += [(each["class_name"], each["probability"]) for each in summary["vertices"]]
    pictures = [
        {
            "name": name,
            "image": embedded(name, png_bytes(image)),
            # Of a class by several names the first will do.
            "class_name": class_name.split(",")[0],
            "probability": probability,
        }
        for (name, image), (class_name, probability) in zip(named, classes, strict=True)
    ]
    return render(
        _TEMPLATE,
        pictures=pictures,
        distance=distance,
        where=where,
        state=state,
        summary=summary,
        shown_px=_SHOWN_PX,
    )
