"""What a polytope draws of itself: its features beside what everybody knows, on one scale."""

from abc import ABC
from io import BytesIO
from pathlib import Path
from typing import Any

from patchcollide.errors import InputError, RunError
from patchcollide.evaluation.summary import Summary
from patchcollide.io.files import output_path
from patchcollide.report.frames import frame_of
from patchcollide.report.sheet import FORMATS, INK, MUTED, RULE, SERIES, Axes, Figure, write_figure
from patchcollide.report.yardstick import Mark, Yardstick, make_yardstick

__all__ = ["Plotted", "draw_yardstick"]

_WIDTH_IN, _LANE_IN, _DPI = 9.0, 0.2, 150
_BAR = 0.7
"""Height of the scale, in lanes."""


class Plotted(ABC):
    """What is measured, and shows it.

    Attributes:
        summary: What was measured; None before it is.
    """

    summary: Summary | None

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draws how far features are from the target's, beside what everybody knows.

        Args:
            path: Where to write it as well: NAME.png, NAME.pdf or NAME.svg.

        Returns:
            A figure of matplotlib, which notebooks show.

        Raises:
            InputError: If the suffix is another one.
            RunError: If nothing was measured yet: call ``evaluate`` first.
            DiskFullError: If the disk is full.
        """
        figure = draw_yardstick(self._measured())
        if path is not None:
            if Path(path).suffix.lower() not in FORMATS:
                raise InputError(f"{path} should end in {' or '.join(FORMATS)}.")
            write_figure(figure, output_path(Path(path)))
        return figure

    def to_frame(self) -> Any:
        """Returns the figures as a ``pandas.DataFrame`` of one row.

        Raises:
            MissingLibraryError: If pandas is not installed.
            RunError: If nothing was measured yet: call ``evaluate`` first.
        """
        return frame_of(self._measured())

    def _measured(self) -> Summary:
        if self.summary is None:
            raise RunError("Nothing was measured of this polytope yet. Call its evaluate() first.")
        return self.summary


class ShownFigure(Figure):
    """A figure that notebooks show by themselves."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()


def draw_yardstick(summary: Summary) -> Figure:
    """Draws the page's yardstick of a run as a figure.

    Raises:
        RunError: If how near features are was not measured.
    """
    scale = make_yardstick(summary)
    if scale is None:
        raise RunError("How near features are was not measured of this run. Evaluate it again.")
    above, below = scale.lanes_above, scale.lanes_below
    height = (above + below + _BAR + 1.6) * _LANE_IN
    figure = ShownFigure((_WIDTH_IN, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0.01, 0, 0.98, 1))
    axes.set(xlim=(0, 100), ylim=(-below - 0.2, above + _BAR + 1.4))
    axes.set_axis_off()
    title = f"{summary['network']}, {summary['layer']}: tau, features from the target's"
    axes.text(0, above + _BAR + 1.2, title, va="top", fontsize=8, color=MUTED, parse_math=False)
    axes.fill_between((0, 100), 0, _BAR, color=RULE, lw=0)
    _draw_band(axes, scale)
    for mark in scale.marks:
        _draw_mark(axes, mark)
    return figure


def _draw_band(axes: Axes, scale: Yardstick) -> None:
    high = max(scale.high, scale.low + 0.3)
    axes.fill_between((scale.low, high), 0, _BAR, color=SERIES[0], lw=0)


def _draw_mark(axes: Axes, mark: Mark) -> None:
    is_known = mark.kind == "known"
    end = -mark.lane - 1 if is_known else _BAR + mark.lane + 1
    colour = SERIES[0] if mark.kind == "ours" else INK
    axes.plot((mark.place, mark.place), (_BAR if is_known else 0, end), color=colour, lw=0.8)
    axes.text(
        mark.place + (-0.3 if mark.is_left else 0.3),
        end + (0.1 if is_known else -0.1),
        mark.label,
        ha="right" if mark.is_left else "left",
        va="bottom" if is_known else "top",
        fontsize=7.5,
        color=colour,
        weight="bold" if mark.kind == "ours" else "normal",
        parse_math=False,
    )
