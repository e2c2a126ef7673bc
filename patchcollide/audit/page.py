"""The HTML page of an audit: images ranked by their polytopes, what that says, and its charts."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.audit.documents import Audit, ClassSummary, Row
from patchcollide.audit.findings import FEWEST_OF_CLASS, judged_classes
from patchcollide.errors import RunError
from patchcollide.formats import as_number, as_percent, as_probability
from patchcollide.io.files import write_text
from patchcollide.report.charts import inline_svg
from patchcollide.report.page import flatten
from patchcollide.report.sheet import INK, MUTED, RULE, SERIES, Axes, Figure, cut
from patchcollide.report.templates import Picture, embedded, render
from patchcollide.runs.folder import Run

__all__ = ["MOST_CLASSES", "audit_lines", "draw_classes", "draw_trust", "write_audit_page"]

MOST_LARGEST, MOST_SMALLEST, MOST_SUSPECTS = 60, 12, 40
"""How many images the page shows; all are in ``audit.csv``."""

SHOWN_LARGEST, SHOWN_SMALLEST = 8, 3
"""How many of them stand open; the others unfold."""

MOST_CLASSES = 24
"""More classes than this are not drawn, but stand in the table."""

_ROW_IN = 0.24


def write_audit_page(run: Run, audit: Audit) -> Path:
    """Writes ``report.html`` of an audit, which needs nothing outside itself.

    Args:
        run: The audit's folder, with the pictures of the images.
        audit: What ``audit.json`` holds.

    Returns:
        The path of the page.

    Raises:
        RunError: If a picture is missing or none.
        DiskFullError: If the disk is full.
    """
    rows = {row["name"]: row for row in audit["images"]}
    ranked = list(_ranked(audit["images"]))
    wanted = [row for _, row in ranked] + [rows[each["name"]] for each in audit["suspects"]]
    page = render(
        "audit.html.j2",
        audit=audit,
        agreement_name=agreement_name(audit),
        rows=rows,
        ranked=ranked,
        num_left_out=len(rows) - len(ranked),
        suspects=audit["suspects"][:MOST_SUSPECTS],
        pictures={row["name"]: _pictures(run, row) for row in wanted},
        classes_svg=draw_classes(audit["images"], audit["classes"]),
        trust_svg=draw_trust(audit["images"]),
        most_classes=MOST_CLASSES,
        judged=judged_classes(audit["classes"]),
        fewest=FEWEST_OF_CLASS,
        shown_first=SHOWN_LARGEST,
        shown_last=SHOWN_SMALLEST,
        settings=list(flatten(audit["settings"])),
    )
    write_text(run / "report.html", page)
    return run / "report.html"


def audit_lines(audit: Audit) -> list[str]:
    """Returns an audit's main figures, as the command line prints them."""
    classes, found = audit["classes"], audit["adequacy"]
    agreement, interval = audit["agreement"], "no interval"
    if found["interval"]:
        interval = " to ".join(map(as_probability, found["interval"]))
    lines = [
        ("images", f"{len(audit['images'])} of {len(classes)} classes, by {audit['method']}"),
        ("left out, cannot be read or measured", str(len(audit["skipped"]))),
        ("distance of random images", as_number(audit["data_distance"])),
        ("largest polytope", _named(audit["images"][0])),
        ("smallest polytope", _named(audit["images"][-1])),
        *_judged_lines(judged_classes(classes)),
        ("suspect images", str(len(audit["suspects"]))),
        (agreement_name(audit), "unknown" if agreement is None else as_percent(agreement)),
        ("adequacy", f"{found['score']:.4f} ({interval})"),
    ]
    return [f"{name:<33} {value}" for name, value in lines]


def agreement_name(audit: Audit) -> str:
    """Says what the agreement is with: folders' names, or only what most of them are taken for."""
    named = len(audit["named_labels"]) == len(audit["classes"])
    return "predicted as their class" if named else "predicted like most of theirs"


def _judged_lines(judged: Sequence[ClassSummary]) -> list[tuple[str, str]]:
    if not judged:
        few = f"none has {FEWEST_OF_CLASS} images, which a judgement takes"
        return [("classes by size", few)]
    return [
        ("class with the largest", _classed(judged[0])),
        ("class with the smallest", _classed(judged[-1])),
    ]


def _named(row: Row) -> str:
    return f"{as_number(row['size'])}, {row['name']}"


def _classed(group: ClassSummary) -> str:
    return f"{group['label'] or 'all'}, median {as_number(group['size_median'])}"


def _ranked(rows: list[Row]) -> Iterator[tuple[int, Row]]:
    """Yields the images that the ranking shows, with their ranks: the largest and the smallest."""
    for rank, row in enumerate(rows, start=1):
        if rank <= MOST_LARGEST or rank > len(rows) - MOST_SMALLEST:
            yield rank, row


def _pictures(run: Run, row: Row) -> list[Picture]:
    try:
        return [embedded(name, (run / name).read_bytes()) for name in row["pictures"]]
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} is missing. Make the audit again.") from error


def draw_classes(rows: Sequence[Row], classes: Sequence[ClassSummary]) -> str:
    """Draws the size of each image in a row for its class, with medians and quartiles.

    Args:
        rows: One an image, with ``label``, ``size`` and ``agrees``.
        classes: As :func:`patchcollide.audit.findings.summarise_classes` gives them; the first
            ones are drawn.

    Returns:
        An ``<svg>`` element; see :func:`patchcollide.report.charts.inline_svg`.
    """
    shown = classes[:MOST_CLASSES]
    figure = Figure((8.4, 0.7 + _ROW_IN * max(len(shown), 3)), layout="constrained")
    axes = _axes(figure)
    for place, group in enumerate(shown):
        own = [row for row in rows if row["label"] == group["label"]]
        quartiles = group["size_quartiles"]
        if quartiles is not None and group["num_images"] >= FEWEST_OF_CLASS:
            axes.plot(quartiles, [place, place], color=RULE, lw=8, solid_capstyle="butt", zorder=1)
        if group["num_images"] >= FEWEST_OF_CLASS:
            axes.plot([group["size_median"]] * 2, [place - 0.36, place + 0.36], color=INK, lw=1.4)
        # Equal sizes would hide each other: the same shifts for the same data.
        shifts = np.random.default_rng(place).uniform(-0.18, 0.18, len(own))
        _dots(axes, [row["size"] for row in own], place + shifts, [row["agrees"] for row in own])
    axes.set_yticks(range(len(shown)), [cut(group["label"] or "all", 24) for group in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("size of the polytope, L2 in 0..255", fontsize=8, color=MUTED)
    return _inline(figure, "classes", "Sizes of polytopes by class")


def draw_trust(rows: Sequence[Row]) -> str:
    """Draws the probability of the predicted class between vertices against the size.

    Args:
        rows: One an image, with ``size``, ``hull_probability`` and ``agrees``.

    Returns:
        An ``<svg>`` element; see :func:`patchcollide.report.charts.inline_svg`.
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
