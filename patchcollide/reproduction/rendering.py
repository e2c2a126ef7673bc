"""The paper's Tables 1 to 6 beside ours, from what was reproduced so far: a page, and Markdown."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcollide.errors import RunError
from patchcollide.io.files import write_text
from patchcollide.report.tables import PAPER_ROWS, Row
from patchcollide.report.tables import Row as Numbers
from patchcollide.report.templates import embedded, render
from patchcollide.reproduction.results import Outcome
from patchcollide.reproduction.rows import QUICK, TABLES
from patchcollide.reproduction.stand_in import WHOLE
from patchcollide.runs.folder import open_run
from patchcollide.runs.report import write_run_polytope

logger = logging.getLogger(__name__)

_CHECK_COLUMNS = ("metric", "paper", "expected", "obtained", "result")

_OWN_COLUMNS = ("metric", "expected", "obtained", "result")

_NUMBER_COLUMNS = (
    "setting", "from", "in class", "p target", "p samples", "data set L2", "vertex L2", "share",
    "in coarse detail", "from the source", "verdict", "tau mean", "tau max", "images in store",
)  # fmt: skip

CHECK = "A check on substitute data"

_SUBSTITUTE = "The paper's settings, on images and networks that come with the libraries"
_ALONE = "numbers are held against those of an earlier run of ours, none against the paper's"
_BESIDE = "the paper's own numbers, where they stand beside, are of other data"

PAGE_FILE, MARKDOWN_FILE, PICTURES_FOLDER = "tables.html", "tables.md", "pictures"


@dataclass(frozen=True)
class Entry:
    """A row of one of the paper's tables.

    Attributes:
        key: Names it.
        title: What it shows, in words.
        origin: The paper's row, such as ``Table 6, row 2``; empty if there is none.
        commands: What makes it, as a person types it.
        checks: Metric, paper, expected, obtained and result of each number, as texts.
        paper: The paper's numbers; None if there are none.
        ours: The numbers found here; None if it was not made.
        picture: A PNG of the polytope; None if it was not made.
        made_on: How long it took, and on what; empty if it was not made.
        note: What readers should know of it; empty if nothing.
    """

    key: str
    title: str
    origin: str
    commands: Sequence[str]
    checks: Sequence[tuple[str, ...]]
    paper: Row | None
    ours: Row | None
    picture: bytes | None
    made_on: str
    note: str = ""

    @property
    def origin_here(self) -> str:
        """Says how it was made here, in a sentence."""
        if self.made_on:
            return f"{self.made_on}."
        return "Not made here." if self.commands else "Counted; no picture was read."


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        heading: Its name.
        entries: Its rows.
        also: Rows of another table whose numbers belong beside these.
        with_mean: Whether the mean of its rows is told too.
    """

    heading: str
    entries: Sequence[Entry]
    also: Sequence[Row] = ()
    with_mean: bool = False

    @property
    def numbers(self) -> list[Row]:
        """The paper's rows, each once, and each of ours after the paper's that it repeats."""
        rows: list[Row] = []
        for entry in self.entries:
            rows += [row for row in (entry.paper,) if row is not None and row not in rows]
            rows += [row for row in (entry.ours,) if row is not None]
        rows += self.also
        ours = [row for row in rows if row.is_ours]
        return [*rows, _mean(ours)] if self.with_mean and len(ours) > 1 else rows


def _mean(rows: Sequence[Row]) -> Row:
    """Returns the mean of rows; of what not every row has, nothing."""

    def mean(name: str) -> float | None:
        values = [getattr(row, name) for row in rows]
        return None if None in values else sum(values) / len(values)

    told = ("success_rate", "target_probability", "sample_probability")
    of_some = ("dataset_distance", "vertex_distance", "coarse_share", "source_distance")
    values: dict[str, Any] = {name: mean(name) for name in (*told, *of_some, "tau_mean", "tau_max")}
    return Row(f"the mean of {len(rows)} pairs", "here", **values, is_ours=True)


def render_tables_page(tables: Sequence[Table]) -> str:
    """Returns the tables as one HTML page, pictures and all; all texts are escaped.

    Raises:
        RunError: If a picture is not a PNG.
    """
    pictures = {
        entry.key: embedded(entry.key, entry.picture)
        for table in tables
        for entry in table.entries
        if entry.picture is not None
    }
    beside, about = _beside_paper(tables), _about_check(tables)
    statuses = [check[-1].split(" ")[0] for t in tables for e in t.entries for check in e.checks]
    counts = {status: statuses.count(status) for status in ("OK", "FAIL", "SKIPPED")}
    return render(
        "paper_tables.html.j2",
        tables=tables,
        pictures=pictures,
        counts=counts,
        check=CHECK if about else None,
        about=about,
        beside=beside,
    )


def _beside_paper(tables: Sequence[Table]) -> bool:
    """Whether any number stands beside one of the paper's."""
    return any(check[1] for table in tables for entry in table.entries for check in entry.checks)


def _about_check(tables: Sequence[Table]) -> str:
    """Says of what data tables are, if it is not the paper's; empty if any row is of its own."""
    if not _beside_paper(tables):
        return f"{_SUBSTITUTE}: {_ALONE}."
    is_quick = all(entry.key.endswith(QUICK) for table in tables for entry in table.entries)
    return f"{_SUBSTITUTE}: {_BESIDE}." if is_quick else ""


def render_tables_markdown(tables: Sequence[Table], pictures: str) -> str:
    """Returns the tables as Markdown.

    Args:
        tables: The paper's tables.
        pictures: The folder beside it that holds a PNG named after each entry with a picture.
    """
    beside, about = _beside_paper(tables), _about_check(tables)
    lines = [f"# {CHECK}", "", about, ""] if about else ["# The paper's tables, reproduced", ""]
    for table in tables:
        lines += [f"## {table.heading}", ""]
        if table.numbers:
            lines += [*_grid(_NUMBER_COLUMNS, [_number_cells(row) for row in table.numbers]), ""]
        for entry in table.entries:
            lines += [f"### {_escaped(entry.title)}", ""]
            if entry.picture is not None:
                lines += [f"![Polytope of {entry.key}]({pictures}/{entry.key}.png)", ""]
            shown = [row if beside else (row[0], *row[2:]) for row in entry.checks]
            lines += [*_grid(_CHECK_COLUMNS if beside else _OWN_COLUMNS, shown), ""]
            lines += [_escaped(text) for text in (entry.note, entry.origin_here) if text]
            lines.append("")
            if entry.commands:
                lines += ["```sh", *entry.commands, "```", ""]
    return "\n".join(lines)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruled = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(_escaped, cells)) + " |" for cells in ruled]


def _escaped(text: str) -> str:
    """Returns text that Markdown shows as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|")
    return " ".join(text.replace("`", r"\`").replace("*", r"\*").replace("_", r"\_").split())


def _number_cells(row: Row) -> list[str]:
    return [
        row.setting,
        row.origin,
        # Only all are 100 %: a mean of 99.996 % is none.
        f"{row.success_rate if row.success_rate == 1 else min(row.success_rate, 0.9999):.2%}",
        f"{row.target_probability:.3f}",
        f"{row.sample_probability:.3f}",
        _or_dash(row.dataset_distance, ".2f"),
        _or_dash(row.vertex_distance, ".2f"),
        _or_dash(row.distance_share, ".1%"),
        _or_dash(row.coarse_share, ".0%"),
        _or_dash(row.source_share, ".1%"),
        row.verdict or "-",
        _or_dash(row.tau_mean, ".3f"),
        _or_dash(row.tau_max, ".3f"),
        _or_dash(row.store_images, ",.0f"),
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def render_tables(out: Path, results: Mapping[str, Outcome]) -> None:
    """Writes ``tables.html``, ``tables.md`` and the pictures they show.

    Args:
        out: The folder of the reproduction.
        results: What was reproduced so far, by the rows' keys.

    Raises:
        DiskFullError: If the disk is full.
    """
    whole = _numbers(results[WHOLE]) if WHOLE in results else None
    tables = [
        Table(
            heading,
            [_entry(out, key, results[key]) for key in keys],
            also=[whole] if name == "sizes" and whole is not None else [],
            with_mean=name == "photographs",
        )
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
        note=outcome.note,
    )


def _numbers(outcome: Outcome) -> Numbers | None:
    """Returns the row's numbers as Tables 4 and 6 have them; None if it was not made."""
    if "success_rate" not in outcome.values:
        return None
    images = outcome.values.get("store_images")
    return Numbers(
        setting=outcome.title,
        origin="here",
        success_rate=outcome.values["success_rate"],
        target_probability=outcome.values["target_probability"],
        sample_probability=outcome.values["sample_probability"],
        dataset_distance=outcome.values.get("dataset_distance"),
        vertex_distance=outcome.values["vertex_distance"],
        is_ours=True,
        verdict=outcome.verdict,
        tau_mean=outcome.values.get("tau_mean"),
        tau_max=outcome.values.get("tau_max"),
        coarse_share=outcome.values.get("coarse_share"),
        source_distance=outcome.values.get("source_distance"),
        store_images=None if images is None else int(images),
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
