"""One file a table row: what to run, what the paper found, what we expect, and how near is near.

After Pyserini's two-click reproductions and detectron2's tolerances and quick variants.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from patchcollide.config import Number, Position, Section, Texts, TextsByName, Weight
from patchcollide.config_files import builtin_config, parse_section, read_toml
from patchcollide.errors import ConfigError

#: Tables 1, 3 and 5 of the paper are the pictures of what Tables 2, 4 and 6 measure.
TABLES = {
    "index": "Index statistics",
    "table2": "Tables 1 and 2: digits",
    "table4": "Tables 3 and 4: pixels",
    "table6": "Tables 5 and 6: patches",
    "photographs": "Tables 5 and 6 on given photographs, a stand-in for the paper's",
    "sizes": "The same pair from smaller stores",
    "mechanics": "Mechanics",
}
#: What keys of quick variants end with.
QUICK = "-quick"
#: What each kind of row can be asked for.
MEASURES = {
    "run": (
        "success_rate",
        "target_probability",
        "sample_probability",
        "sample_probability_share",
        "vertex_distance",
        "vertex_distance_share",
        "dataset_distance",
        "steps",
        "loss_drop",
        "test_accuracy",
        "exact_violation",
        "exact_seconds",
        "tau_mean",
        "tau_max",
        "coarse_share",
        "source_distance",
    ),
    "index": ("images", "positions", "positions_authors", "patches"),
}
NEEDS = ("imagenet", "mnist", "vgg16-weights")
PLACEHOLDERS = frozenset(
    {
        *("configs", "imagenet", "mnist", "out", "photographs"),
        *("shared", "store", "subset", "weights"),
    }
)


class Metric(Section):
    """A number to reproduce.

    Attributes:
        name: One of :data:`MEASURES`.
        paper: What the paper reports.
        expected: What we found; without it the paper's number is the measure.
        tolerance: How far off is still near, in the number's own unit.
        relative: Whether ``tolerance`` is a share of the expected number instead.
        direction: Whether more, less, or neither is as good.
    """

    name: str
    paper: Number | None = None
    expected: Number | None = None
    tolerance: Weight = 0.0
    relative: bool = False
    direction: Literal["within", "at least", "at most"] = "within"


class Variant(Section):
    """One way to make a row: in full, or quickly on what is everywhere.

    Attributes:
        measure: ``run`` reads the summary of the run that the commands leave in ``{out}``;
            ``index`` counts images and positions and needs no command.
        commands: Arguments of ``patchcollide``, with ``PLACEHOLDERS`` and the names of ``images``
            in braces.
        images: Name of a picture to its path below the ImageNet folder; ``*`` stands for the
            first by name.
        needs: What of :data:`NEEDS` must be there; without it the row is skipped.
        minutes: How long it takes on ``hardware``.
        hardware: What the minutes were measured or estimated on.
        metrics: What is compared.
        subset: Of so many of the images, drawn by seed, the store is made; 0 for all of them.
    """

    measure: Literal["run", "index"] = "run"
    commands: Texts = ()
    images: TextsByName
    needs: Texts = ()
    minutes: Weight
    hardware: str
    metrics: list[Metric]
    subset: Position = 0


class RowFile(Section):
    """A file of a row; see ``configs/reproduce/``.

    Attributes:
        table: A key of :data:`TABLES`.
        title: What it shows, in words.
        quick_title: The same for the quick variant, where that differs.
        origin: The paper's row, as :data:`patchcollide.report.tables.PAPER_ROWS` names it.
        full: As the paper has it.
        quick: On what is everywhere.
    """

    table: Literal["index", "table2", "table4", "table6", "mechanics"]
    title: str
    quick_title: str = ""
    origin: str = ""
    full: Variant | None = None
    quick: Variant | None = None


@dataclass(frozen=True)
class Row:
    """A row to reproduce, in the variant wanted.

    Attributes:
        name: Its file's name without the suffix.
        table: A key of :data:`TABLES`.
        title: What it shows, in words.
        origin: The paper's row, such as ``Table 6, row 2``; empty if there is none.
        quick: Which variant it is.
        variant: How.
        note: What readers should know of it; empty if nothing.
    """

    name: str
    table: str
    title: str
    origin: str
    quick: bool
    variant: Variant
    note: str = ""

    @property
    def key(self) -> str:
        """Names its folder and its results."""
        return f"{self.name}{QUICK}" if self.quick else self.name


def builtin_rows() -> Path:
    """Returns the folder of the rows that ship."""
    return builtin_config("reproduce/table6_row1").parent


def load_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Reads all rows of a folder that have the variant wanted, in the order of their file names.

    Args:
        folder: Of TOML files.
        quick: Which variant.

    Raises:
        ConfigError: If there are none, or one is malformed.
    """
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise ConfigError(
            f"Expected rows to reproduce (*.toml) in {folder}, but found none. Check --rows."
        )
    rows = []
    for path in paths:
        file = parse_section(RowFile, read_toml(path), str(path))
        for name, variant in (("full", file.full), ("quick", file.quick)):
            if variant is not None:
                _check_variant(variant, f"{path}: {name}")
        variant = file.quick if quick else file.full
        title = (quick and file.quick_title) or file.title
        if file.full is None and file.quick is None:
            raise ConfigError(f"{path}: expected a section [full] or [quick], but found neither.")
        if variant is not None:
            rows.append(Row(path.stem, file.table, title, file.origin, quick, variant))
    return rows


def select_rows(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """Returns the rows whose name or table one of ``patterns`` names; all without patterns.

    Args:
        rows: What there is.
        patterns: Names with ``*`` and ``?``, as of files.

    Raises:
        ConfigError: If a pattern names none.
    """
    for pattern in patterns:
        if not any(_is_named(row, pattern) for row in rows):
            names = ", ".join(dict.fromkeys([row.table for row in rows] + [r.name for r in rows]))
            raise ConfigError(
                f"--only {pattern}: there is no such table or row. There are {names}."
            )
    wanted = [row for row in rows if any(_is_named(row, pattern) for pattern in patterns)]
    return wanted if patterns else list(rows)


def _is_named(row: Row, pattern: str) -> bool:
    return fnmatchcase(row.name, pattern) or fnmatchcase(row.table, pattern)


def _check_variant(variant: Variant, where: str) -> None:
    """Raises :class:`ConfigError` for what the types of a row's settings cannot say."""
    known = MEASURES[variant.measure]
    for metric in variant.metrics:
        if metric.name not in known:
            raise ConfigError(
                f"{where}: unknown metric '{metric.name}'; measure = \"{variant.measure}\" knows "
                f"{', '.join(known)}."
            )
        if metric.expected is None and metric.paper is None:
            raise ConfigError(f"{where}: the metric '{metric.name}' needs paper or expected.")
    if strange := sorted(set(variant.needs) - set(NEEDS)):
        raise ConfigError(f"{where}: unknown need '{strange[0]}'; known are {', '.join(NEEDS)}.")
    if bool(variant.commands) != (variant.measure == "run"):
        raise ConfigError(
            f"{where}: found {len(variant.commands)} commands with measure = "
            f'"{variant.measure}"; a run needs some, the index none.'
        )
    if variant.commands and "{out}" not in variant.commands[-1]:
        raise ConfigError(f"{where}: the last command should make the run --out {{out}}.")
    allowed = PLACEHOLDERS | variant.images.keys()
    for text in variant.commands:
        unknown = _placeholders(text, where) - allowed
        if unknown:
            raise ConfigError(
                f"{where}: unknown placeholder {{{min(unknown)}}}; known are "
                f"{', '.join(sorted(allowed))}."
            )


def _placeholders(text: str, where: str) -> set[Any]:
    try:
        shlex.split(text)
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ConfigError(f"{where}: the command '{text}' cannot be read: {error}.") from None
