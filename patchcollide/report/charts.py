"""Charts for the page: small drawings that take its colours, light or dark."""

from patchcollide.report.sheet import INK, MUTED, RULE, SERIES, Axes, Figure
from patchcollide.report.svg import inline_svg

__all__ = ["INK", "MUTED", "SERIES", "Chart", "style"]


class Chart:
    """A drawing in the page's colours.

    Attributes:
        axes: What to draw on.
        is_empty: Whether nothing was drawn, which is then said.
        xlabel: What the horizontal axis is.
    """

    def __init__(self, title: str) -> None:
        self.axes: Axes
        self.is_empty = False
        self.xlabel = "step"
        self._title = title
        self._figure = Figure((4.2, 3.1), layout="constrained")
        self._figure.patch.set_alpha(0)
        self.axes = self._figure.add_subplot()
        self.axes.patch.set_alpha(0)

    def svg(self, name: str, label: str) -> str:
        """Returns the drawing as an ``<svg>`` element.

        Args:
            name: Tells its parts from those of other drawings of the page.
            label: What is drawn, for those who cannot see it.
        """
        style(self._figure, self.axes, self._title, self.xlabel, is_empty=self.is_empty)
        return inline_svg(self._figure, name, label)


def style(figure: Figure, axes: Axes, title: str, xlabel: str, *, is_empty: bool) -> None:
    """Gives axes a title, a grid, a label and a legend, or says that nothing was recorded."""
    axes.set_title(title, fontsize=9, color=INK, loc="left", weight="bold")
    axes.set_xlabel(xlabel, fontsize=8, color=MUTED)
    axes.tick_params(labelsize=8, labelcolor=MUTED, color=RULE, which="both")
    axes.grid(True, color=RULE, lw=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    if is_empty:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=MUTED)
    else:
        figure.legend(
            loc="outside lower left",
            ncols=3,
            fontsize=7.5,
            frameon=False,
            labelcolor=INK,
            handlelength=1.2,
        )
