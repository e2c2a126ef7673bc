"""Writes what pages say of measurements: from the JSON beside them in ``data/results``.

Texts of pages are people's. Between two comments, ``results: NAME, table 1`` and ``end``, stands
what this writes from ``data/results/NAME.json``: how it was measured, and tables. A test compares.
The shape of these files is that of :func:`content_of`; ``scripts/README.md`` has it as a table.

    python scripts/results.py                                    # writes all pages again
    python scripts/bench_explorer.py runs/demo > /tmp/found.json
    python scripts/results.py explorer /tmp/found.json           # takes over what was measured
    patchcollide transfer runs/two --out /tmp/found.md
    python scripts/results.py transfer /tmp/found.md --command 'patchcollide transfer runs/two'
"""

import argparse
import datetime
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "data" / "results"
_MARKED = re.compile(
    r"(<!-- results: ([\w-]+), (measured|table (\d+)) -->\n).*?(<!-- end -->)", re.DOTALL
)


def describe_measurement(command: list[str]) -> dict[str, str | None]:
    """Returns by which command, when and at which commit something is measured now."""
    words = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    return {
        "command": shlex.join(command),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": found.stdout.strip() or None,
    }


def content_of(document: dict[str, Any]) -> dict[str, Any]:
    """Returns what is kept of a document that a benchmark printed.

    Args:
        document: With ``measured``, ``machine`` and, of Markdown, ``table``: lines of one or more.

    Returns:
        ``measured``, lines of the page by their names; ``tables``, each with ``columns`` and
        ``rows`` of cells; and the whole ``document``.
    """
    machine, measured = document["machine"], document["measured"]
    versions = dict(machine["versions"])
    commit = f"commit `{measured['commit']}`, " if measured["commit"] else ""
    memory = f"{machine['memory_bytes'] / 1e9:.0f} GB"
    lines = {
        "Measured": f"at {commit}version {versions.pop('patchcollide')}, on {measured['date']}.",
        "Command": f"`{measured['command']}`",
        "Seed": f"{document.get('seed', 'the one of the settings')}.",
        "Machine": f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} "
        f"threads, {memory}, {machine['gpu'] or 'no GPU'}.",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    }
    return {
        "measured": lines,
        "tables": read_tables(document.get("table", [])),
        "document": document,
    }


def read_tables(lines: list[str]) -> list[dict[str, Any]]:
    """Returns the columns and rows of each table that is among lines of Markdown."""
    tables: list[dict[str, Any]] = []
    inside = False
    for line in lines:
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            if not inside:
                tables.append({"columns": cells, "rows": []})
            elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                tables[-1]["rows"].append(cells)
        inside = line.startswith("|")
    return tables


def table_lines(table: dict[str, Any]) -> list[str]:
    """Returns a table as lines of Markdown.

    Raises:
        ValueError: If a row has another number of cells than there are columns.
    """
    columns = table["columns"]
    for row in table["rows"]:
        if len(row) != len(columns):
            raise ValueError(f"{len(columns)} columns, but {len(row)} cells: {row}.")
    lines = [f"| {' | '.join(cells)} |" for cells in [columns, *table["rows"]]]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]


def written(text: str, folder: Path | None = None) -> str:
    """Returns the text of a page with all parts between its markers written again.

    Args:
        text: The page's, as it was.
        folder: Where the JSON files are; by default ``data/results``.

    Raises:
        ValueError: If a marker names a file or a table that is not there.
    """

    def part(found: re.Match[str]) -> str:
        head, name, what, number, end = found.groups()
        path = (folder or RESULTS) / f"{name}.json"
        if not path.is_file():
            raise ValueError(f"A marker names {name}, but there is no {path}.")
        content = json.loads(path.read_text(encoding="utf-8"))
        if what == "measured":
            lines = [f"- **{label}:** {told}" for label, told in content["measured"].items()]
        elif 1 <= int(number) <= len(content["tables"]):
            lines = table_lines(content["tables"][int(number) - 1])
        else:
            raise ValueError(f"A marker names {what}, but {path} has {len(content['tables'])}.")
        return head + "\n".join(["", *lines, "", end])

    return _MARKED.sub(part, text)


def pages() -> list[Path]:
    """Returns the pages that may have such parts."""
    return [ROOT / "README.md", *sorted(RESULTS.glob("*.md"))]


def main() -> None:
    """Takes over a result, if one is given, and writes all pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", help="the page, without .md")
    parser.add_argument("found", nargs="?", type=Path, help="a benchmark's JSON, or tables in .md")
    parser.add_argument("--command", help="that wrote the tables in .md")
    arguments = parser.parse_args()
    if arguments.name and not arguments.found:
        parser.error("expected NAME and FILE, or neither; found NAME alone")
    if arguments.found:
        path = RESULTS / f"{arguments.name}.json"
        path.write_text(dumped(content_of(_read(arguments))), encoding="utf-8")
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            page.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{page.relative_to(ROOT)}\n")


def dumped(content: dict[str, Any]) -> str:
    """Returns what is kept as text: JSON, a row of a table a line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # Rows are read, and compared between two versions, as lines.
    return (
        re.sub(
            r'\[\n\s+("(?:[^"\\]|\\.)*"(?:,\n\s+"(?:[^"\\]|\\.)*")*)\n\s+\]',
            lambda found: "[" + re.sub(r",\n\s+", ", ", found[1]) + "]",
            text,
        )
        + "\n"
    )


def _read(arguments: argparse.Namespace) -> dict[str, Any]:
    text = arguments.found.read_text(encoding="utf-8")
    if arguments.found.suffix == ".json":
        return dict(json.loads(text))
    # PyTorch takes seconds to import, and writing pages needs none of it.
    from bench_machine import describe_machine

    command = shlex.split(arguments.command or "")
    return {
        "machine": describe_machine(),
        "measured": describe_measurement(command),
        "table": text.splitlines(),
    }


if __name__ == "__main__":
    main()
