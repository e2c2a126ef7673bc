"""The paper's Tables 1 to 6 beside ours: a page that needs nothing else, and Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from patchcollide.report.tables import Row
from patchcollide.report.templates import embedded, render

__all__ = ["Entry", "Table", "render_tables_markdown", "render_tables_page"]

_CHECK_COLUMNS = ("metric", "paper", "expected", "obtained", "result")
_NUMBER_COLUMNS = (
    "setting", "from", "collide", "p target", "p samples", "data set L2", "vertex L2", "share",
)  # fmt: skip


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
    """

    heading: str
    entries: Sequence[Entry]

    @property
    def numbers(self) -> list[Row]:
        """The paper's rows, each once, and each of ours after the paper's that it repeats."""
        rows: list[Row] = []
        for entry in self.entries:
            rows += [row for row in (entry.paper,) if row is not None and row not in rows]
            rows += [row for row in (entry.ours,) if row is not None]
        return rows


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
    statuses = [check[-1].split(" ")[0] for t in tables for e in t.entries for check in e.checks]
    counts = {status: statuses.count(status) for status in ("OK", "FAIL", "SKIPPED")}
    return render("paper_tables.html.j2", tables=tables, pictures=pictures, counts=counts)


def render_tables_markdown(tables: Sequence[Table], pictures: str) -> str:
    """Returns the tables as Markdown.

    Args:
        tables: The paper's tables.
        pictures: The folder beside it that holds a PNG named after each entry with a picture.
    """
    lines = ["# The paper's tables, reproduced", ""]
    for table in tables:
        lines += [f"## {table.heading}", ""]
        if table.numbers:
            lines += [*_grid(_NUMBER_COLUMNS, [_number_cells(row) for row in table.numbers]), ""]
        for entry in table.entries:
            lines += [f"### {_escaped(entry.title)}", ""]
            if entry.picture is not None:
                lines += [f"![Polytope of {entry.key}]({pictures}/{entry.key}.png)", ""]
            lines += [*_grid(_CHECK_COLUMNS, entry.checks), ""]
            lines += [_escaped(entry.origin_here), ""]
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
        f"{row.success_rate:.2%}",
        f"{row.target_probability:.3f}",
        f"{row.sample_probability:.3f}",
        _or_dash(row.dataset_distance, ".2f"),
        _or_dash(row.vertex_distance, ".2f"),
        _or_dash(row.distance_share, ".1%"),
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)
