"""The HTML page of an audit: images ranked by their polytopes, and what that says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchcollide.errors import RunError
from patchcollide.files import write_text
from patchcollide.report.audit_charts import MOST_CLASSES, draw_classes, draw_trust
from patchcollide.report.formats import as_number, as_percent, as_probability
from patchcollide.report.page import flatten
from patchcollide.report.templates import Picture, embedded, render
from patchcollide.runs import Run

__all__ = ["audit_lines", "write_audit_page"]

MOST_LARGEST, MOST_SMALLEST, MOST_SUSPECTS = 60, 12, 40
"""How many images the page shows; all are in ``audit.csv``."""


def write_audit_page(run: Run, audit: Mapping[str, Any]) -> Path:
    """Writes ``report.html`` of an audit, which needs nothing outside itself.

    Args:
        run: The audit's folder, with the pictures of the images.
        audit: What ``audit.json`` holds.

    Returns:
        The path of the page.

    Raises:
        RunError: If a picture is missing or none.
        DiskFullError: If there is no room left.
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
        settings=list(flatten(audit["settings"])),
    )
    write_text(run / "report.html", page)
    return run / "report.html"


def audit_lines(audit: Mapping[str, Any]) -> list[str]:
    """Returns an audit's main figures, as the command line prints them."""
    classes, found = audit["classes"], audit["adequacy"]
    low, high = found["interval"]
    agreement = audit["agreement"]
    lines = [
        ("images", f"{len(audit['images'])} of {len(classes)} classes, by {audit['method']}"),
        ("left out, cannot be read or measured", str(len(audit["skipped"]))),
        ("distance of random images", as_number(audit["data_distance"])),
        ("largest polytope", _named(audit["images"][0])),
        ("smallest polytope", _named(audit["images"][-1])),
        ("class with the largest", _classed(classes[0])),
        ("class with the smallest", _classed(classes[-1])),
        ("suspect images", str(len(audit["suspects"]))),
        (agreement_name(audit), "unknown" if agreement is None else as_percent(agreement)),
        ("adequacy", f"{found['score']:.4f} ({as_probability(low)} to {as_probability(high)})"),
    ]
    return [f"{name:<34}{value}" for name, value in lines]


def agreement_name(audit: Mapping[str, Any]) -> str:
    """Says what the agreement is with: folders' names, or only what most of them are taken for."""
    named = len(audit["named_labels"]) == len(audit["classes"])
    return "predicted as their class" if named else "predicted like most of theirs"


def _named(row: Mapping[str, Any]) -> str:
    return f"{as_number(row['size'])}, {row['name']}"


def _classed(group: Mapping[str, Any]) -> str:
    return f"{group['label'] or 'all'}, median {as_number(group['size_median'])}"


def _ranked(rows: list[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields the images that the ranking shows, with their ranks: the largest and the smallest."""
    for rank, row in enumerate(rows, start=1):
        if rank <= MOST_LARGEST or rank > len(rows) - MOST_SMALLEST:
            yield rank, row


def _pictures(run: Run, row: Mapping[str, Any]) -> list[Picture]:
    try:
        return [embedded(name, (run / name).read_bytes()) for name in row["pictures"]]
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} is missing. Make the audit again.") from error
