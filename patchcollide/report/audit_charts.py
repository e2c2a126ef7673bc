"""The charts of an audit: sizes by class, and sizes against how sure the network is."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from patchcollide.report.sheet import INK, MUTED, RULE, SERIES, Axes, Figure, cut
from patchcollide.report.svg import inline_svg

__all__ = ["MOST_CLASSES", "draw_classes", "draw_trust"]

MOST_CLASSES = 24
"""More classes than this are not drawn, but stand in the table."""
_ROW_IN = 0.24


def draw_classes(rows: Sequence[Mapping[str, Any]], classes: Sequence[Mapping[str, Any]]) -> str:
    """Draws the size of each image in a row for its class, with medians and quartiles.

    Args:
        rows: One an image, with ``label``, ``size`` and ``agrees``.
        classes: As :func:`patchcollide.audit_findings.summarise_classes` gives them; the first
            ones are drawn.

    Returns:
        An ``<svg>`` element; see :func:`patchcollide.report.svg.inline_svg`.
    """
    shown = classes[:MOST_CLASSES]
    figure = Figure((8.4, 0.7 + _ROW_IN * max(len(shown), 3)), layout="constrained")
    axes = _axes(figure)
    for place, group in enumerate(shown):
        own = [row for row in rows if row["label"] == group["label"]]
        quartiles = group["size_quartiles"]
        if quartiles is not None:
            axes.plot(quartiles, [place, place], color=RULE, lw=8, solid_capstyle="butt", zorder=1)
        axes.plot([group["size_median"]] * 2, [place - 0.36, place + 0.36], color=INK, lw=1.4)
        # Equal sizes would hide each other: the same shifts for the same data.
        shifts = np.random.default_rng(place).uniform(-0.18, 0.18, len(own))
        _dots(axes, [row["size"] for row in own], place + shifts, [row["agrees"] for row in own])
    axes.set_yticks(range(len(shown)), [cut(group["label"] or "all", 24) for group in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("size of the polytope, L2 in 0..255", fontsize=8, color=MUTED)
    return _inline(figure, "classes", "Sizes of polytopes by class")


def draw_trust(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draws the probability of the predicted class between vertices against the size.

    Args:
        rows: One an image, with ``size``, ``hull_probability`` and ``agrees``.

    Returns:
        An ``<svg>`` element; see :func:`patchcollide.report.svg.inline_svg`.
    """
    figure = Figure((8.4, 3.2), layout="constrained")
    axes = _axes(figure)
    _dots(
        axes,
        [row["size"] for row in rows],
        [row["hull_probability"] for row in rows],
        [row["agrees"] for row in rows],
    )
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("size of the polytope, L2 in 0..255", fontsize=8, color=MUTED)
    axes.set_ylabel("mean probability in it", fontsize=8, color=MUTED)
    return _inline(figure, "trust", "Sizes of polytopes against the probability in them")


def _axes(figure: Figure) -> Axes:
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(labelsize=8, labelcolor=MUTED, color=RULE, which="both")
    axes.grid(True, axis="x", color=RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    return axes


def _dots(axes: Axes, x: Sequence[float], y: Any, agrees: Sequence[bool | None]) -> None:
    """Draws images, those predicted unlike their label as crosses."""
    wrong = np.array([agreed is False for agreed in agrees])
    places = np.stack([x, y])
    axes.plot(*places[:, ~wrong], "o", color=SERIES[0], ms=3.2, mew=0, alpha=0.75)
    axes.plot(*places[:, wrong], "x", color=SERIES[1], ms=5.5, mew=1.5)


def _inline(figure: Figure, name: str, label: str) -> str:
    with warnings.catch_warnings():
        # A class may be named in a script that the font lacks: the browser has it.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        return inline_svg(figure, name, label)
