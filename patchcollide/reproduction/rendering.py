"""Tables 1 to 6 again, as a page and as Markdown, from what was reproduced so far."""

import logging
from collections.abc import Mapping
from pathlib import Path

from patchcollide.errors import RunError
from patchcollide.files import write_text
from patchcollide.report.paper_tables import (
    Entry,
    Table,
    render_tables_markdown,
    render_tables_page,
)
from patchcollide.report.pictures import write_run_polytope
from patchcollide.report.tables import PAPER_ROWS
from patchcollide.report.tables import Row as Numbers
from patchcollide.reproduction.results import Outcome
from patchcollide.reproduction.rows import TABLES
from patchcollide.runs import open_run

logger = logging.getLogger(__name__)

PAGE_FILE, MARKDOWN_FILE, PICTURES_FOLDER = "tables.html", "tables.md", "pictures"


def render_tables(out: Path, results: Mapping[str, Outcome]) -> None:
    """Writes ``tables.html``, ``tables.md`` and the pictures they show.

    Args:
        out: The folder of the reproduction.
        results: What was reproduced so far, by the rows' keys.

    Raises:
        DiskFullError: If there is no room left.
    """
    tables = [
        Table(heading, [_entry(out, key, results[key]) for key in keys])
        for name, heading in TABLES.items()
        if (keys := [key for key in sorted(results) if results[key].table == name])
    ]
    write_text(out / PAGE_FILE, render_tables_page(tables))
    write_text(out / MARKDOWN_FILE, render_tables_markdown(tables, PICTURES_FOLDER))


def _entry(out: Path, key: str, outcome: Outcome) -> Entry:
    return Entry(
        key=key,
        title=outcome.title,
        origin=outcome.origin,
        commands=outcome.commands,
        checks=[check.cells for check in outcome.checks],
        paper=next((row for row in PAPER_ROWS if row.origin == outcome.origin), None),
        ours=_numbers(outcome),
        picture=_picture(out, key, outcome),
        made_on=_made_on(outcome),
    )


def _numbers(outcome: Outcome) -> Numbers | None:
    """Returns the row's numbers as Tables 4 and 6 have them; None if it was not made."""
    if "success_rate" not in outcome.values:
        return None
    return Numbers(
        setting=outcome.title,
        origin="here",
        success_rate=outcome.values["success_rate"],
        target_probability=outcome.values["target_probability"],
        sample_probability=outcome.values["sample_probability"],
        dataset_distance=outcome.values.get("dataset_distance"),
        vertex_distance=outcome.values["vertex_distance"],
        is_ours=True,
    )


def _made_on(outcome: Outcome) -> str:
    if not outcome.machine:
        return ""
    machine, libraries = outcome.machine, outcome.versions
    place = machine.get("gpu") or f"{machine.get('cores')} cores of {machine.get('processor')}"
    named = " ".join(f"{name} {libraries.get(name, '')}" for name in ("patchcollide", "torch"))
    return f"{outcome.seconds / 60:.1f} minutes on {place}, {named}"


def _picture(out: Path, key: str, outcome: Outcome) -> bytes | None:
    """Draws a row's picture again; None if its run is not there or no longer whole."""
    if not outcome.fingerprint:
        return None
    path = out / PICTURES_FOLDER / f"{key}.png"
    try:
        run = open_run(out / key)
        write_run_polytope(path, run, outcome.title)
    except (RunError, KeyError, TypeError) as error:
        logger.warning("%s has no picture: %s", key, error)
        return None
    return path.read_bytes()
