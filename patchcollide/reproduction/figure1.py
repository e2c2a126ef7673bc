"""Figure 1 of the paper, of a real layer: half-planes, their polygon, a unit pushed down in it.

The unit is one of a layer with two inputs; it is pushed down below a bound that decreases.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from patchcollide.errors import InputError, ProgramError
from patchcollide.polyhedra.exact_polytope import ExactPolytope, Vertex
from patchcollide.polyhedra.polygons import HalfPlanes, box, find_corners, find_edges, nearest_point
from patchcollide.report.sheet import (
    FORMATS,
    INK,
    MARK,
    MUTED,
    RULE,
    SERIES,
    Axes,
    Figure,
    rc_context,
    write_figure,
)
from patchcollide.reproduction.figure1_layer import PlanarLayer
from patchcollide.shapes import Float64, ndarray

_SIZE_IN = (5.5, 2.95)

_POINTS = 7

_NUM_MARKED = 6

_FILL, _PATH = "#dcebf7", MARK

# Numerals tell classes apart; colours only help.
_CLASS_COLOURS = (*SERIES, INK, "#8c7a00", MUTED)

_SETTINGS: Any = {"mathtext.fontset": "dejavusans"}


@dataclass(frozen=True, eq=False)
class LoweredUnit:
    """Where the optimum moves as a unit's bound decreases.

    Attributes:
        unit: The unit.
        bounds: What its pre-activation may be at most: from that of the start down to the smallest
            one in the polytope, in equal steps.
        points: The point of the polytope nearest to the start, under each bound; the last one is
            the vertex.
        vertex: Where the unit is smallest, by linear programming.
    """

    unit: int
    bounds: Float64[ndarray, "steps"]
    points: Float64[ndarray, "steps 2"]
    vertex: Vertex


def half_planes(polytope: ExactPolytope) -> HalfPlanes:
    """Returns the sides of a polytope in a plane of points.

    Those of upper bounds come first, in the order of the units if all have one.

    Raises:
        ProgramError: If the points are not two numbers without sums to keep.
    """
    rows = polytope.constraints
    if rows.matrix.shape[1] != 2 or polytope.space.sums is not None:
        raise ProgramError(
            f"A polygon needs a space of two free variables, but found {rows.matrix.shape[1]}. "
            "Choose a layer with two inputs."
        )
    normals = np.vstack([rows.matrix, np.eye(2)])
    offsets = np.concatenate([rows.offset, np.zeros(2)])
    upper = np.concatenate([rows.upper, rows.variable_upper])
    lower = np.concatenate([rows.lower, rows.variable_lower])
    below, above = np.isfinite(upper), np.isfinite(lower)
    return HalfPlanes(
        np.vstack([normals[below], -normals[above]]),
        np.concatenate([(offsets - upper)[below], (lower - offsets)[above]]),
    )


def lower_unit(
    polytope: ExactPolytope, unit: int, start: Float64[ndarray, "2"], steps: int = 101
) -> LoweredUnit:
    """Pushes a unit down below a decreasing bound, as far as the polytope allows.

    Under each bound ``z_unit <= c`` the optimum is what is nearest to the start. It goes straight
    at first; once on a side it follows the sides, down to the vertex. If the unit is smallest on a
    whole side, the last step goes along it.

    Args:
        polytope: Of two free variables.
        unit: Any of its units.
        start: Where to begin, such as the target; a point of the polytope.
        steps: How many bounds, at least 2.

    Raises:
        InfeasibleError: If the polytope is empty.
        UnboundedError: If the unit has no smallest value there.
        ProgramError: If there is no such unit, or the start lies outside.

    Source:
        Li, Zhang and Malik 2019, Section 2 and Figure 1. The distance to the start, in place of the
        paper's loss, makes the optimum under a bound unique.
    """
    units = len(polytope.offset)
    if not 0 <= unit < units:
        raise ProgramError(f"There is no unit {unit}: the layer has {units}, counted from 0.")
    planes, normal = half_planes(polytope), polytope.matrix[unit]
    vertex = polytope.minimise(normal)
    membership = polytope.contains(start)
    if not membership.inside:
        raise ProgramError(
            f"The start should lie in the polytope, but {membership.constraint} is missed by "
            f"{membership.violation:.3g}. Begin at the target."
        )
    first = normal @ start + polytope.offset[unit]
    bounds = np.linspace(first, vertex.pre_activation[unit], steps)
    points = np.tile(vertex.point, (steps, 1))
    for step, bound in enumerate(bounds[:-1]):
        below = HalfPlanes(normal[None], polytope.offset[unit, None] - bound)
        nearest = nearest_point(planes.joined(below), start)
        # Of a polytope that is flat but for rounding, the vertex alone may be left.
        points[step] = vertex.point if nearest is None else nearest
    return LoweredUnit(unit, bounds, points, vertex)


class View(NamedTuple):
    """The square part of the plane that a panel shows."""

    low: Float64[ndarray, "2"]
    high: Float64[ndarray, "2"]

    @classmethod
    def around(cls, points: Float64[ndarray, "points 2"], margin: float) -> "View":
        """Returns the smallest square around points, with a margin as a share of its side."""
        low, high = points.min(axis=0), points.max(axis=0)
        half = (high - low).max() * (0.5 + margin)
        return cls((low + high) / 2 - half, (low + high) / 2 + half)

    @property
    def side(self) -> float:
        """The length of its side."""
        return float(self.high[0] - self.low[0])

    def cut(self, planes: HalfPlanes) -> Float64[ndarray, "corners 2"]:
        """Returns the corners of what the view shows of an intersection of half-planes."""
        return find_corners(planes.joined(box(self.low, self.high)))


def require_format(path: Path) -> None:
    """Refuses a figure's path by its suffix.

    Raises:
        InputError: If it is none of :data:`FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"--out {path} should end in {' or '.join(FORMATS)}.")


def write_half_planes(path: Path, layer: PlanarLayer, lowered: LoweredUnit) -> None:
    """Draws a layer over its plane of inputs, and beside it the polytope with a unit pushed down.

    Left: every test digit as its numeral, the line of each unit, ticks and a shade on the side
    where it is active. Right: the polytope of the inactive units close by; dashed, the decreasing
    bounds on one of them, and where the optimum moves, from the target to the vertex. Lines that
    bound nothing of the polytope are dotted there. The target activates no unit, so the polytope is
    all that collides.

    Args:
        path: The file to write, PNG, PDF or SVG by its suffix.
        layer: The layer.
        lowered: One of its units, pushed down, from its target.

    Raises:
        InputError: If the suffix is another one.
        DiskFullError: If the disk is full.
    """
    require_format(path)
    with rc_context(_SETTINGS):
        figure = Figure(_SIZE_IN, dpi=200, facecolor="white")
        _draw_plane(_panel(figure, 0.03), layer)
        _draw_lowering(_panel(figure, 0.53), layer, lowered)
        write_figure(figure, path)


def _panel(figure: Figure, left: float) -> Axes:
    width, height = figure.get_size_inches()
    share = 0.44
    axes = figure.add_axes((left, 0.07, share, share * width / height))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(RULE)
    return axes


def _draw_plane(axes: Axes, layer: PlanarLayer) -> None:
    view = View.around(layer.points, 0.04)
    planes = HalfPlanes(layer.matrix, layer.offset)
    _draw_units(axes, view, planes, np.ones(len(planes.offsets), dtype=bool))
    _draw_digits(axes, layer, 11, 1.0)
    _draw_target(axes, layer)
    _finish(axes, view, "a", "what the layer sees of test digits")


def _draw_lowering(axes: Axes, layer: PlanarLayer, lowered: LoweredUnit) -> None:
    planes = half_planes(layer.polytope)
    start = layer.points[layer.target]
    view = View.around(np.vstack([find_corners(planes), lowered.points, start]), 0.16)
    _draw_units(axes, view, planes, find_edges(planes))
    _draw_digits(axes, layer, 13, 0.45)
    normal, offset = layer.matrix[lowered.unit], layer.offset[lowered.unit]
    marked = np.linspace(0, len(lowered.bounds) - 1, _NUM_MARKED).astype(int)
    for place, step in enumerate(marked):
        ends = view.cut(_line(normal, offset - lowered.bounds[step]))
        axes.plot(*ends.T, "--", color=_PATH, lw=0.8, alpha=_fade(place), zorder=4)
    axes.plot(*lowered.points.T, color=_PATH, lw=1.4, zorder=5)
    for step in marked[1:-1]:
        axes.plot(*lowered.points[step], "o", color=_PATH, ms=3, mec="white", mew=0.5, zorder=6)
    axes.plot(*lowered.vertex.point, "s", color=_PATH, ms=5, mec="white", mew=0.6, zorder=7)
    _draw_target(axes, layer)
    _finish(axes, view, "b", f"unit {lowered.unit} pushed down within the polytope")


def _draw_units(axes: Axes, view: View, planes: HalfPlanes, bounding: ndarray) -> None:
    """Draws the polygon, and each unit's line with ticks and a shade where it is active."""
    polygon = view.cut(planes)
    axes.fill(*polygon.T, color=_FILL, lw=0, zorder=1)
    segments = []
    for normal, offset, bounds in zip(*planes, bounding, strict=True):
        forbidden = view.cut(HalfPlanes(-normal[None], -offset[None]))
        axes.fill(*forbidden.T, color=MUTED, alpha=0.06, lw=0)
        ends = view.cut(_line(normal, offset))
        segments.append(ends)
        if len(ends) < 2:
            continue
        axes.plot(*ends.T, color=INK, lw=0.9, ls="-" if bounds else ":", zorder=3)
        if bounds:
            axes.plot(*_ticks(ends, normal, view.side).T, color=INK, lw=0.45, zorder=3)
    _label_lines(axes, view, segments)


def _line(normal: Float64[ndarray, "2"], offset: float) -> HalfPlanes:
    """Returns a line as two half-planes that face each other."""
    return HalfPlanes(np.vstack([normal, -normal]), np.array([offset, -offset]))


def _ticks(
    ends: Float64[ndarray, "2 2"], normal: Float64[ndarray, "2"], side: float
) -> Float64[ndarray, "points 2"]:
    """Returns short strokes from a line towards its normal, a gap of NaN after each."""
    along = ends[1] - ends[0]
    length = np.linalg.norm(along)
    stroke = 0.016 * side * (normal / np.linalg.norm(normal) + along / length)
    shares = np.arange(0.5, length / (0.022 * side))[:, None] * (0.022 * side / length)
    feet = ends[0] + shares * along
    strokes = np.stack([feet, feet + stroke, np.full_like(feet, np.nan)], axis=1)
    return strokes.reshape(-1, 2)


def _label_lines(axes: Axes, view: View, segments: list[ndarray]) -> None:
    """Writes each unit's number outside the frame, at the end of its line that is freest."""
    shown = [(unit, ends) for unit, ends in enumerate(segments) if len(ends) == 2]
    choices = itertools.product((0, 1), repeat=len(shown))
    places = [
        np.array([ends[end] for end, (_, ends) in zip(choice, shown, strict=True)])
        for choice in choices
    ]
    best = max(places, key=_least_gap)
    for (unit, _), place in zip(shown, best, strict=True):
        out = (place - (view.low + view.high) / 2) / (view.side / 2)
        out = np.where(abs(out) == abs(out).max(), np.sign(out), 0.0)
        axes.annotate(
            f"{unit}",
            place,
            xytext=tuple(5 * out),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_POINTS,
            color=INK,
            annotation_clip=False,
        )


def _least_gap(places: Float64[ndarray, "places 2"]) -> float:
    gaps = np.linalg.norm(places[:, None] - places, axis=2)
    return float(gaps[np.triu_indices(len(places), 1)].min(initial=np.inf))


def _draw_digits(axes: Axes, layer: PlanarLayer, size: float, alpha: float) -> None:
    for label, colour in enumerate(_CLASS_COLOURS):
        x, y = layer.points[layer.labels == label].T
        axes.scatter(x, y, s=size, marker=f"${label}$", color=colour, lw=0, alpha=alpha, zorder=2)


def _draw_target(axes: Axes, layer: PlanarLayer) -> None:
    axes.plot(*layer.points[layer.target], "*", color="#ffd23f", ms=8, mec=INK, mew=0.6, zorder=8)


def _fade(place: int) -> float:
    """Bounds show more, the lower they are."""
    return 0.25 + 0.75 * place / (_NUM_MARKED - 1)


def _finish(axes: Axes, view: View, letter: str, title: str) -> None:
    axes.set(xlim=(view.low[0], view.high[0]), ylim=(view.low[1], view.high[1]))
    axes.set_title(f"({letter}) {title}", fontsize=_POINTS + 0.5, color=INK, pad=11)
