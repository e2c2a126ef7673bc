"""The white sheet that figures of pictures are laid out on, pixel by pixel.

This module owns matplotlib; charts take from here what they need of it.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from patchcollide.io.files import written_beside
from patchcollide.shapes import Float, Int64, UInt8, ndarray

__all__ = [
    "BOX",
    "FORMATS",
    "FULL_SIZE_IN",
    "FULL_SIZE_PX",
    "INK",
    "MARK",
    "MUTED",
    "RULE",
    "SERIES",
    "Axes",
    "Figure",
    "Layout",
    "Normalize",
    "ScalarMappable",
    "Sheet",
    "cut",
    "heat",
    "is_former_drawing",
    "rc_context",
    "two_lines",
    "write_figure",
]

INK, MUTED, RULE, MARK = "#1b1d22", "#5b616c", "#d5d9df", "#d1343f"
BOX = "#8a1fa8"
"""The purple of the paper's boxes, a little brighter."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195")
"""Okabe and Ito's colours, told apart by most colour-blind readers, and one more."""
FULL_SIZE_PX = 224
FULL_SIZE_IN = 1.12
"""Width of a picture, in pixels and in inches: 200 dots an inch."""
FORMATS = (".png", ".pdf", ".svg")
"""Of pictures, by their suffixes: PDF and SVG have letters and lines as vectors."""
_LINE_PT = 2.2
"""Width of an outline, all of which lies beyond its square."""
DRAWING = "2"
"""Which drawing this is: it changes where the same run would be drawn otherwise than before."""
# Fonts as publishers want them: TrueType, whole outlines, no bitmaps.
_FONTS: dict[Any, Any] = {
    "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "patchcollide",
}  # fmt: skip
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None, "Drawing": DRAWING},
    "pdf": dict.fromkeys(("CreationDate", "Creator", "ModDate", "Producer")),
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
}


@dataclass(frozen=True)
class Layout:
    """Where pictures of one size stand: source and target in a column, vertices beside in a row.

    Attributes:
        scale: Pixels of the sheet for one of a picture.
        width: Of a picture on the sheet.
        height: Of a picture on the sheet.
        dpi: Pixels an inch.
        margin: Around everything.
        gap: Between pictures.
        line: Of text.
        lefts: Where the columns begin.
    """

    scale: int
    width: int
    height: int
    dpi: float
    margin: int
    gap: int
    line: int
    lefts: tuple[int, ...]

    @classmethod
    def of(
        cls, vertices: UInt8[ndarray, "vertices height width channels"], captions: Sequence[str]
    ) -> "Layout":
        """Lays a source, a target and vertices out.

        Raises:
            ValueError: If there is not one caption for each of them.
        """
        num_vertices, height, width = vertices.shape[:3]
        if len(captions) != num_vertices + 2:
            raise ValueError(f"Expected {num_vertices + 2} captions, but found {len(captions)}.")
        scale = max(1, round(FULL_SIZE_PX / width))
        width, height = width * scale, height * scale
        dpi = width / FULL_SIZE_IN
        margin, gap, line = (round(inches * dpi) for inches in (0.1, 0.09, 0.125))
        lefts = tuple(margin + place * (width + gap) for place in range(num_vertices + 1))
        return cls(scale, width, height, dpi, margin, gap, line, lefts)


class Sheet:
    """A white sheet on which things are placed in pixels from its top left corner."""

    def __init__(self, width: int, height: int, dpi: float) -> None:
        # A hair more than the width: matplotlib cuts the product back to whole pixels.
        self.figure = Figure(((width + 0.01) / dpi, (height + 0.01) / dpi), dpi, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.width, self.height, self.dpi = width, height, dpi
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

    def picture(
        self, image: np.ndarray, left: int, top: int, width: int, height: int, **options: Any
    ) -> None:
        """Places ``image``, resampled only if its size is not a divisor of the one asked for."""
        extent = (left, left + width, top + height, top)
        if image.ndim == 3 and image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        is_whole = width % image.shape[1] == 0 and height % image.shape[0] == 0
        interpolation = "nearest" if is_whole else "antialiased"
        self.axes.imshow(
            image, extent=extent, aspect="auto", interpolation=interpolation, **options
        )

    def blank(self, words: str, left: int, top: int, width: int, height: int) -> None:
        """Places words in an empty frame, where there is no picture."""
        self.axes.add_patch(Rectangle((left, top), width, height, fill=False, ec=RULE, lw=0.8))
        x, y = left + width / 2, top + height / 2
        self.text(words, x, y, color=MUTED, ha="center", va="center")

    def text(self, text: str, left: float, top: float, points: float = 7, **options: Any) -> None:
        """Writes ``text`` below and to the right of a point; dollars are not mathematics."""
        options = {"color": INK, "va": "top", **options}
        self.axes.text(left, top, text, fontsize=points, parse_math=False, **options)

    def frames(
        self,
        corners: Int64[ndarray, "n 2"],
        left: float,
        top: float,
        scale: float,
        size: int,
        colour: str,
    ) -> None:
        """Outlines squares of a picture around what is in them, white beside the colour.

        So they show on anything, and hide nothing of their content.

        Args:
            corners: Their top left corners (row, column), in pixels of the picture.
            left: Where the picture is.
            top: Where the picture is.
            scale: How many pixels of the sheet one of the picture takes.
            size: Side of a square, in pixels of the picture.
            colour: Of the lines.
        """
        edge = _LINE_PT / 2 * self.dpi / 72
        side = size * scale + 2 * edge
        for row, col in corners:
            place = (left + col * scale - edge, top + row * scale - edge)
            for line, width in (("white", _LINE_PT), (colour, _LINE_PT / 2)):
                self.axes.add_patch(Rectangle(place, side, side, fill=False, ec=line, lw=width))

    @staticmethod
    def outline_px(dpi: float, scale: float) -> int:
        """Returns how many pixels of a picture outlines take outside of their squares."""
        return math.ceil(_LINE_PT * dpi / 72 / scale)

    def numbers(self, places: Sequence[tuple[float, float]], **options: Any) -> None:
        """Writes 1, 2 ... on white at the places given, as (left, top)."""
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        options = {"points": 5.5, "color": BOX, "weight": "bold", "bbox": ground, **options}
        for number, (left, top) in enumerate(places, start=1):
            self.text(f"{number}", left, top, **options)

    def write(self, path: Path) -> None:
        """Writes the sheet, as :func:`write_figure` does."""
        write_figure(self.figure, path)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG or, by the suffix, as PDF or SVG, whole or not at all.

    Equal figures give equal files: no dates, no names of versions.
    """
    kind = path.suffix.lower().removeprefix(".")
    metadata = _METADATA[kind]
    with written_beside(path) as partial, warnings.catch_warnings(), rc_context(_FONTS):
        # A class or file may be named in a script that the font lacks; boxes are shown.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(partial, format=kind, dpi=figure.dpi, metadata=metadata)


def heat(values: Float[ndarray, "height width"]) -> UInt8[ndarray, "height width 3"]:
    """Returns values of 0..1 as colours, from black to a pale yellow; what is above is as 1."""
    return np.asarray(colormaps["magma"](values, bytes=True)[..., :3])


def is_former_drawing(path: Path) -> bool:
    """Says whether a PNG is a figure of another :data:`DRAWING` than today's."""
    png = path.read_bytes()
    # Matplotlib writes a size in dots an inch, which our other pictures lack.
    return b"pHYs" in png[:256] and b"Drawing\0" + DRAWING.encode() not in png


def two_lines(text: str) -> str:
    """Returns the first two lines of a caption, short enough for a picture's width."""
    return "\n".join(cut(line, 20) for line in text.splitlines()[:2])


def cut(text: str, length: int) -> str:
    """Returns ``text``, at most ``length`` characters of it."""
    return text if len(text) <= length else text[: length - 1] + "…"
