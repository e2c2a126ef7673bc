"""What was reproduced so far, where and how it compares with what is expected: ``results.json``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from patchcollide.config import Section, Texts
from patchcollide.config_files import parse_section
from patchcollide.errors import ConfigError, RunError
from patchcollide.io.encodings import require_encoding
from patchcollide.io.files import is_occupied, read_json, write_json
from patchcollide.reproduction.measures import Measured, Missing
from patchcollide.reproduction.rows import Metric, Row

Status = Literal["OK", "FAIL", "SKIPPED"]

ENCODING = "patchcollide-reproduction"

VERSION = "1"

RESULTS_FILE = "results.json"


class Check(Section):
    """A number beside what is expected of it.

    Attributes:
        metric: Its name.
        paper: What the paper reports, as text; empty if nothing.
        expected: What is expected, with its tolerance, as text.
        status: The verdict.
        obtained: What was found, as text; empty if nothing was.
        why: The reason of a verdict that is not OK.
    """

    metric: str
    paper: str
    expected: str
    status: Status
    obtained: str = ""
    why: str = ""

    @property
    def result(self) -> str:
        """The verdict, and its reason."""
        return f"{self.status} ({self.why})" if self.why else self.status

    @property
    def cells(self) -> tuple[str, ...]:
        """Metric, paper, expected, obtained and result, as texts."""
        return (self.metric, self.paper, self.expected, self.obtained, self.result)


def check_row(row: Row, measured: Measured) -> list[Check]:
    """Compares the numbers of a row, in the order of its file."""
    return [check(metric, measured[metric.name]) for metric in row.variant.metrics]


def unmeasured(row: Row, status: Status, why: str) -> list[Check]:
    """Returns the checks of a row that gave no numbers, all with one verdict."""
    return [
        Check(**_texts(metric), status=status, why=" ".join(why.split()))
        for metric in row.variant.metrics
    ]


def check(metric: Metric, value: float | Missing) -> Check:
    """Compares one number.

    Args:
        metric: What is expected.
        value: What was found, or why nothing was.
    """
    if isinstance(value, Missing):
        return Check(**_texts(metric), status="SKIPPED", why=value.why)
    low, high = bounds(metric)
    if low <= value <= high:
        return Check(**_texts(metric), status="OK", obtained=shown(value))
    why = "too low" if value < low else "too high" if value > high else "not a number"
    obtained = shown(value)
    if obtained in (shown(low), shown(high)):
        # 1.000 that is too low for 1.000 says nothing.
        obtained = f"{value:.8g}"
    return Check(**_texts(metric), status="FAIL", obtained=obtained, why=why)


def bounds(metric: Metric) -> tuple[float, float]:
    """Returns the least and the largest number that is near enough."""
    # One of the two is there: rows are checked when they are read.
    reference = float((metric.paper if metric.expected is None else metric.expected) or 0)
    allowed = metric.tolerance * (abs(reference) if metric.relative else 1.0)
    low = -math.inf if metric.direction == "at most" else reference - allowed
    high = math.inf if metric.direction == "at least" else reference + allowed
    return low, high


def shown(value: float) -> str:
    """Returns a number as tables show it: counts whole, shares with three digits."""
    if not math.isfinite(value):
        return f"{value}"
    if value == int(value) and abs(value) > 1:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines of plain text whose columns stand below each other, a gap of two between."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _texts(metric: Metric) -> dict[str, str]:
    """What is known of a check before the number is."""
    return {
        "metric": metric.name,
        "paper": "" if metric.paper is None else shown(metric.paper),
        "expected": _expected(metric),
    }


def _expected(metric: Metric) -> str:
    low, high = bounds(metric)
    if metric.direction == "at least":
        text = f"≥ {shown(low)}"
    elif metric.direction == "at most":
        text = f"≤ {shown(high)}"
    else:
        text = shown((low + high) / 2)
        if metric.tolerance:
            text += f" ± {metric.tolerance:.0%}" if metric.relative else f" ± {metric.tolerance:g}"
    return text if metric.expected is not None else f"{text} (paper's)"


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
        note: What readers should know of it; empty if nothing.
        verdict: What the collision is called; empty if it was not measured.
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
    note: str = ""
    verdict: str = ""


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
    remedy = "Move it away: runs are kept, and only measured again."
    require_encoding(about, path, (ENCODING, VERSION), RunError, remedy)
    rows = about.get("rows")
    try:
        if not isinstance(rows, dict):
            raise ConfigError(f"'rows' should be an object, but is a {type(rows).__name__}")
        return {key: parse_section(Outcome, value, f"rows.{key}") for key, value in rows.items()}
    except ConfigError as error:
        raise RunError(f"{path} is damaged ({error}). {remedy}") from None


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
