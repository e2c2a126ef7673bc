"""What notebooks show of a polytope: small pieces of HTML that need nothing else."""

from typing import Any

from patchcollide.images.pictures import png_bytes
from patchcollide.report.templates import embedded, render
from patchcollide.shapes import UInt8, ndarray

__all__ = ["Figures", "polytope_html"]

_TEMPLATE = "notebook.html.j2"
_SHOWN_PX = 112


class Figures(dict[str, Any]):
    """The entries of ``summary.json``, which show themselves in a notebook."""

    def _repr_html_(self) -> str:
        return render(_TEMPLATE, pictures=[], summary=self)


def polytope_html(
    *,
    source: UInt8[ndarray, "height width channels"],
    target: UInt8[ndarray, "height width channels"] | None,
    vertices: UInt8[ndarray, "vertices height width channels"],
    distance: float,
    about: dict[str, Any],
    state: dict[str, Any],
    summary: dict[str, Any] | None,
) -> str:
    """Returns source, target, vertices and the key numbers as a piece of HTML.

    Args:
        source: As the network saw it.
        target: The same; None if it was given as features.
        vertices: 8-bit images.
        distance: The mean of the vertices', L2 in 0..255.
        about: What :func:`patchcollide.runs.folder.describe` says of the polytope.
        state: ``steps`` and ``stopped_because``.
        summary: What was measured; None if nothing was.
    """
    pair = [("source", source)] + ([("target", target)] if target is not None else [])
    classes: list[dict[str, Any]] = [{}] * (len(pair) + len(vertices))
    if summary is not None:
        classes = [
            {
                "class_name": summary[f"{name}_class_name"],
                "probability": summary[f"{name}_probability"],
            }
            for name, _ in pair
        ]
        classes += summary["vertices"]
    named = pair + [(f"vertex {number}", vertex) for number, vertex in enumerate(vertices)]
    pictures = [
        {
            "name": name,
            "image": embedded(name, png_bytes(image)),
            # Of a class by several names the first will do.
            "class_name": str(found.get("class_name", "")).split(",")[0],
            "probability": found.get("probability"),
        }
        for (name, image), found in zip(named, classes, strict=True)
    ]
    return render(
        _TEMPLATE,
        pictures=pictures,
        distance=distance,
        about=about,
        state=state,
        summary=summary,
        shown_px=_SHOWN_PX,
    )
