"""A transfer matrix as tables in Markdown, as lines, and as a picture of coloured cells."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from patchcollide.errors import InputError
from patchcollide.evaluation.transfer import Cell, Figures, TransferMatrix
from patchcollide.formats import as_gap, as_percent
from patchcollide.io.files import write_json, write_text
from patchcollide.report.sheet import FORMATS as PICTURES
from patchcollide.report.sheet import INK, MARK, MUTED, Axes, Figure, Normalize, cut, write_figure
from patchcollide.report.tables import markdown

__all__ = ["FORMATS", "require_format", "transfer_lines", "transfer_tables", "write_transfer"]

FORMATS = (".md", ".json", *PICTURES)
HEADER = (
    "run",
    "network",
    "layer",
    "target there",
    "in its class",
    "distance of features",
    "source's",
    "blind that respond",
    "source's",
)
_PAIRS = "random pairs"
_UNIT = (
    "Distances of features are behind the activation, as shares of how far the target's are from a "
    "layer's that says nothing: 0 is a collision, and a layer that says nothing is at 1, so random "
    "pairs may be farther than that."
)
_MOST_COLUMNS = 8
_Column = tuple[str, str]


class _Figure(NamedTuple):
    """One of the three figures of a cell: what it is called, its value, its text, its scale."""

    title: str
    value: Callable[[Figures], float]
    text: Callable[[float], str]
    largest: float

    def of(self, found: Figures | None) -> str:
        """Returns its text; a dash for nothing."""
        return "-" if found is None else self.text(self.value(found))


_FIGURES = (
    _Figure("in the target's class", lambda found: found.in_class, as_percent, 1.0),
    _Figure("distance of features", lambda found: found.feature_distance, as_gap, 1.0),
    _Figure("blind units that respond", lambda found: found.inactive_response, as_percent, 0.5),
)


def require_format(path: Path) -> None:
    """Refuses an output's path by its suffix.

    Raises:
        InputError: If it is none of :data:`FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"--out {path} should end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")


def write_transfer(path: Path, matrix: TransferMatrix) -> None:
    """Writes a matrix as Markdown, JSON or a picture, by the path's suffix.

    Raises:
        InputError: If the suffix is another one.
        DiskFullError: If the disk is full.
    """
    require_format(path)
    if path.suffix == ".md":
        write_text(path, transfer_tables(matrix))
    elif path.suffix == ".json":
        write_json(path, matrix.as_json())
    else:
        _write_picture(path, matrix)


def transfer_lines(matrix: TransferMatrix) -> Iterator[tuple[str, ...]]:
    """Yields the cells of a table of :data:`HEADER`: a line a run, network and layer.

    The last lines are of random pairs, if these were measured; a star marks the network and layer
    that a run was made for.
    """
    in_class, gap, shown = _FIGURES
    for cell in sorted(matrix.cells, key=lambda cell: matrix.runs.index(cell.run)):
        yield (
            cell.run,
            cell.network,
            cell.layer + ("*" if cell.own else ""),
            cell.target_class,
            in_class.of(cell.hull),
            gap.of(cell.hull),
            gap.of(cell.source),
            shown.of(cell.hull),
            shown.of(cell.source),
        )
    for (network, layer), null in matrix.null.items():
        figures = in_class.of(null), gap.of(null), "-", shown.of(null), "-"
        yield _PAIRS, network, layer, "-", *figures


def transfer_tables(matrix: TransferMatrix) -> str:
    """Returns a matrix in Markdown: a table for each figure, runs by networks and layers.

    Many layers go down instead of across. Bold is what a run was made for; sources, and random
    pairs if they were measured, say what is seen where nothing was made to collide.
    """
    parts = []
    for figure in _FIGURES:
        rows = dict(_rows(matrix, figure))
        header = ["", *(f"{network} {layer}" for network, layer in matrix.columns)]
        table = [header, *([name, *texts] for name, texts in rows.items())]
        if len(matrix.columns) > _MOST_COLUMNS:
            table = [list(line) for line in zip(*table, strict=True)]
        parts.append(f"{figure.title.capitalize()}:\n\n{markdown(table)}")
    counts = sorted(set(matrix.num_samples.values()))
    points = f"Of {' or '.join(map(str, counts))} points between vertices. {_UNIT}\n"
    return "\n".join([*parts, points])


def _rows(matrix: TransferMatrix, figure: _Figure) -> Iterator[tuple[str, list[str]]]:
    def text(cell: Cell) -> str:
        found = figure.of(cell.hull)
        return f"**{found}**" if cell.own else found

    for run in matrix.runs:
        cells = [matrix.at(run, column) for column in matrix.columns]
        yield run, [text(cell) for cell in cells]
        if cells[0].source is not None:
            yield f"{run}, its source", [figure.of(cell.source) for cell in cells]
    if matrix.null:
        yield _PAIRS, [figure.of(matrix.null[column]) for column in matrix.columns]


def _write_picture(path: Path, matrix: TransferMatrix) -> None:
    """Draws a panel a figure: runs down, networks and layers across; what is own is framed."""
    rows = [*matrix.runs, *([_PAIRS] if matrix.null else [])]
    width, height = 1.6 + 0.42 * len(matrix.columns), 0.45 + 0.26 * len(rows)
    below = 1.1
    size = max(width, 3.6), 3 * height + below
    figure = Figure(size, dpi=200, facecolor="white")
    for place, each in enumerate(_FIGURES):
        bottom = below + (2 - place) * height
        left, right = 1.3 / size[0], 1 - 0.15 / size[0]
        box = (left, bottom / size[1], right - left, (height - 0.42) / size[1])
        _draw_panel(figure.add_axes(box), matrix, each, rows, last=place == 2)
    write_figure(figure, path)


def _draw_panel(
    axes: Axes, matrix: TransferMatrix, figure: _Figure, rows: Sequence[str], *, last: bool
) -> None:
    columns = matrix.columns
    values = np.array([[_value(matrix, figure, row, column) for column in columns] for row in rows])
    axes.imshow(values, cmap="YlGnBu", norm=Normalize(0, figure.largest), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 * figure.largest else INK
        words = figure.text(value).replace("\N{NARROW NO-BREAK SPACE}%", "")
        axes.text(column, row, words, ha="center", va="center", fontsize=5.5, color=colour)
    for cell in matrix.cells:
        if cell.own:
            place = columns.index((cell.network, cell.layer)), rows.index(cell.run)
            axes.plot(*_frame(*place), color=MARK, lw=1.2, clip_on=False)
    unit = ", %" if figure.text is as_percent else ""
    axes.set_title(f"{figure.title}{unit}", fontsize=7, color=INK, loc="left", pad=3)
    axes.set_yticks(range(len(rows)), [cut(row, 22) for row in rows], fontsize=6)
    names = [cut(f"{network} {layer}", 30) for network, layer in columns] if last else []
    axes.set_xticks(range(len(names)), names, fontsize=6, rotation=40, ha="right")
    axes.tick_params(length=0, colors=MUTED)
    axes.spines[:].set_visible(False)


def _value(matrix: TransferMatrix, figure: _Figure, row: str, column: _Column) -> float:
    found = matrix.null[column] if row == _PAIRS else matrix.at(row, column).hull
    return figure.value(found)


def _frame(column: int, row: int) -> tuple[list[float], list[float]]:
    x, y = (0, 1, 1, 0, 0), (0, 0, 1, 1, 0)
    return [column - 0.5 + step for step in x], [row - 0.5 + step for step in y]
