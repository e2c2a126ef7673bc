"""``results.json``: what was reproduced so far, where, and how it compared."""

from pathlib import Path
from typing import Any

from patchcollide.config import Section, Texts, parse_section
from patchcollide.errors import ConfigError, RunError
from patchcollide.files import is_occupied, read_json, write_json
from patchcollide.reproduction.checks import Check

ENCODING = "patchcollide-reproduction"
VERSION = "1"
RESULTS_FILE = "results.json"


class Outcome(Section):
    """What became of a row.

    Attributes:
        table: A key of :data:`patchcollide.reproduction.rows.TABLES`.
        title: What it shows, in words.
        origin: The paper's row it repeats.
        commands: What was run, as a person types it.
        checks: The numbers.
        values: The same and others, as they were measured.
        fingerprint: Of the run; empty if there is none.
        seconds: How long the run took.
        machine: What it ran on; empty if it did not.
        versions: With which libraries.
    """

    table: str
    title: str
    origin: str
    commands: Texts
    checks: list[Check]
    values: dict[str, float]
    fingerprint: str
    seconds: float
    machine: dict[str, str | int | None]
    versions: dict[str, str]


def read_results(out: Path) -> dict[str, Outcome]:
    """Reads what was reproduced so far, by the rows' keys; nothing in a new folder.

    Raises:
        RunError: If the folder holds something else, or the file is damaged or of another version.
    """
    path = out / RESULTS_FILE
    if not path.exists():
        if is_occupied(out) and not any(out.glob("*/config.json")):
            raise RunError(
                f"{out} holds something else than reproduced rows. Choose another --out."
            )
        return {}
    about = read_json(path, error=RunError)
    found = (about.get("encoding-type"), about.get("encoding-version"))
    if found != (ENCODING, VERSION):
        raise RunError(
            f"{path} should be '{ENCODING}' version {VERSION}, but is '{found[0]}' version "
            f"{found[1]}. Move it away: runs are kept, and only measured again."
        )
    rows = about.get("rows")
    try:
        return {
            key: parse_section(Outcome, value, f"rows.{key}") for key, value in _items(rows).items()
        }
    except ConfigError as error:
        raise RunError(
            f"{path} is damaged ({error}). Move it away: runs are kept, and only measured again."
        ) from None


def write_results(out: Path, rows: dict[str, Outcome]) -> None:
    """Writes ``results.json``, whole or not at all."""
    write_json(
        out / RESULTS_FILE,
        {
            "encoding-type": ENCODING,
            "encoding-version": VERSION,
            "rows": {key: rows[key].model_dump(mode="json") for key in sorted(rows)},
        },
    )


def _items(rows: Any) -> dict[str, Any]:
    if not isinstance(rows, dict):
        raise ConfigError(f"'rows' should be an object, but is a {type(rows).__name__}")
    return rows
