"""One scale of features: the target, its known changes, a polytope, and images of other things.

Layers differ in how far features go when nobody sees a change, so a distance says little alone.
Labels stand in lanes beside the scale, so that none covers another or a line to another.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from patchcollide.evaluation.known_changes import ANOTHER, RANDOM, SOURCE
from patchcollide.evaluation.summary import Summary
from patchcollide.evaluation.verdicts import TightnessBlock, beside

__all__ = ["Label", "Mark", "Yardstick", "make_yardstick", "place_labels"]

_WIDTH_PX = 1060.0
"""Of a scale in a window of 1200 pixels. In narrower ones the labels are a list below it."""
_LETTER_PX, _GAP_PX = 7.7, 10.0
"""An upper bound of a letter's mean width on the page, and what is left free beside a label."""
_Kind = Literal["ours", "asked", "known"]
_NAMES = {
    ANOTHER: "another image of its class",
    SOURCE: "the source",
    RANDOM: "random images",
}


@dataclass(frozen=True)
class Mark:
    """A place on the scale.

    Attributes:
        label: What it is, and its distance.
        place: In percent of the scale.
        lane: Which one its label is in, from 0 next to the scale.
        is_left: Whether the label ends at its mark.
        kind: ``ours`` and ``asked`` stand above the scale, ``known`` below.
    """

    label: str
    place: float
    lane: int
    is_left: bool
    kind: _Kind


@dataclass(frozen=True)
class Yardstick:
    """The scale, from the target at its left.

    Attributes:
        low: Where the polytope begins, in percent.
        high: Where it ends.
        marks: What stands at it, from the left.
        missing: What does not, though there were images to measure; empty if nothing.
    """

    low: float
    high: float
    marks: tuple[Mark, ...]
    missing: str

    @property
    def lanes_above(self) -> int:
        """How many lanes of labels there are above the scale."""
        return _lanes(mark for mark in self.marks if mark.kind != "known")

    @property
    def lanes_below(self) -> int:
        """The same below."""
        return _lanes(mark for mark in self.marks if mark.kind == "known")


def _lanes(marks: Iterable[Mark]) -> int:
    return 1 + max((mark.lane for mark in marks), default=-1)


def make_yardstick(summary: Summary) -> Yardstick | None:
    """Sets a polytope's features beside what everybody knows; None where none were measured."""
    block = summary.get("tightness")
    if block is None or block["hull"]["tau_max"] is None:
        return None
    taus = [vertex["feature_distance_relative"] for vertex in summary["vertices"]]
    known = [tau for tau in (*taus, block["hull"]["tau_mean"]) if tau is not None]
    low, high = min(known), max(*known, block["hull"]["tau_max"])
    named = {"the target": 0.0, **_known(block)}
    asked = {f"asked for: {block['gamma']:g}": block["gamma"]} if block["asked"] else {}
    end = 1.02 * max(1.0, high, *named.values(), *asked.values())
    words = "the vertex" if summary["num_vertices"] == 1 else "vertices and all samples between"
    ours = {f"{words}: {low:.2g} to {beside(high, block['gamma'])}": (low + high) / 2}
    above: dict[str, _Kind] = {**dict.fromkeys(ours, "ours"), **dict.fromkeys(asked, "asked")}
    below = {f"{name}: {tau:.2g}": tau for name, tau in named.items()}
    marks = _marks(ours | asked, end, above) + _marks(below, end, dict.fromkeys(below, "known"))
    # Without any images nobody expects one of the class.
    is_missing = RANDOM in block["yardstick"] and ANOTHER not in block["yardstick"]
    return Yardstick(
        missing=_NAMES[ANOTHER] if is_missing else "",
        low=100 * low / end,
        high=100 * high / end,
        marks=tuple(sorted(marks, key=lambda mark: mark.place)),
    )


def _known(block: TightnessBlock) -> dict[str, float]:
    """What stands below the scale, by its names there, without what is infinitely far."""
    found = {"rounding to 8 bits": block["floor"], **block["yardstick"], "no response at all": 1.0}
    return {
        _NAMES.get(name, name.removeprefix("target ")): tau
        for name, tau in found.items()
        if tau is not None
    }


def _marks(labels: Mapping[str, float], end: float, kinds: Mapping[str, _Kind]) -> list[Mark]:
    texts = sorted(labels, key=lambda label: labels[label])
    places = [labels[label] / end for label in texts]
    placed = place_labels([p * _WIDTH_PX for p in places], [_label_px(t) for t in texts], _WIDTH_PX)
    return [
        Mark(text, 100 * place, label.lane, label.is_left, kinds[text])
        for text, place, label in zip(texts, places, placed, strict=True)
    ]


def _label_px(text: str) -> float:
    return _LETTER_PX * len(text) + _GAP_PX


@dataclass(frozen=True)
class Label:
    """Where a label is beside a scale: it begins or ends at the line from its mark.

    Attributes:
        left: Its left end.
        right: Its right end.
        line: The line's place.
        lane: From 0 next to the scale; the line crosses all lanes before it.
        is_left: Whether the label ends at its line.
    """

    left: float
    right: float
    line: float
    lane: int
    is_left: bool

    def covers(self, other: "Label") -> bool:
        """Whether it stands on another label."""
        return self.lane == other.lane and self.left < other.right and other.left < self.right

    def crosses(self, other: "Label") -> bool:
        """Whether its line runs behind another label, or the other's behind it."""
        near, far = (self, other) if self.lane < other.lane else (other, self)
        return near.lane < far.lane and near.left < far.line < near.right


def place_labels(lines: Sequence[float], widths: Sequence[float], total: float) -> Sequence[Label]:
    """Places labels beside a scale so that none covers another.

    No line runs behind a label either, unless there is no other way.

    Args:
        lines: Where the marks are, in ascending order.
        widths: Of the labels.
        total: Of the scale, in the same unit.

    Returns:
        The labels, in the order given.
    """
    # No rule is best for all, so some are tried.
    upwards = range(len(lines))
    # Where labels have to end at their lines, the next one up is clear of the line before.
    bound = [number for number in upwards if lines[number] + widths[number] > total]
    ends_first = [*bound, *(number for number in reversed(upwards) if number not in bound)]
    tried = [
        _placed(lines, widths, total, order, has_choice)
        for order in (upwards, upwards[::-1], ends_first)
        for has_choice in (False, True)
    ]
    return min(tried, key=_cost)


def _cost(labels: Sequence[Label]) -> tuple[int, int]:
    pairs = itertools.combinations(labels, 2)
    return sum(a.crosses(b) for a, b in pairs), max((label.lane for label in labels), default=0)


def _placed(
    lines: Sequence[float],
    widths: Sequence[float],
    total: float,
    order: Iterable[int],
    has_choice: bool,
) -> list[Label]:
    """Places labels one by one, each in the lane next to the scale that those before leave clear.

    A label ends at its line where it would else stick out, and where there is a choice also where
    that lane is nearer.
    """
    placed: dict[int, Label] = {}
    for number in order:
        line, width = lines[number], widths[number]
        sides = [True] if line + width > total else [False]
        if has_choice and not sides[0] and line >= width:
            sides.append(True)
        tried = (
            Label(*((line - width, line) if left else (line, line + width)), line, lane, left)
            for lane in range(len(lines))
            for left in sides
        )
        placed[number] = _nearest(tried, placed.values())
    return [placed[number] for number in range(len(lines))]


def _nearest(tried: Iterable[Label], placed: Collection[Label]) -> Label:
    """Returns the first label that is clear of all others and their lines, else of all others."""
    free = []
    for label in tried:
        if not any(map(label.covers, placed)):
            if not any(map(label.crosses, placed)):
                return label
            free.append(label)
    return free[0]
