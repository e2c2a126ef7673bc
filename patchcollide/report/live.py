"""What the scripts of a run's page are given: a tour, samples to guess from, patches.

Of compositions that is where pixels come from: patches, the images they are of, and their shares.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NotRequired, TypedDict

import numpy as np

from patchcollide.composition.contributions import Contributions
from patchcollide.evaluation.samples import (
    HullSamples,
    InterpolationError,
    interpolation_error,
    joined,
)
from patchcollide.evaluation.simplex import leg_labels, tour, tour_stops
from patchcollide.evaluation.summary import Summary
from patchcollide.images.pictures import jpeg_bytes, resize_square
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.shapes import Float, Int64, UInt8, ndarray

__all__ = ["Live", "Origin", "contributions_data", "make_live", "origins_of", "sprite_of"]

THUMB_PX = 32

_UNKNOWN = "an image without a name"

_POINTS_PER_LEG = 16


class PixelOrigins(TypedDict):
    """What ``pixels.js`` reads.

    Attributes:
        blocks: Along a side of a vertex.
        most: How many patches are known of a block.
        patches: Their numbers, for each block of each vertex, flat.
        parts: Their shares of the block in thousandths, as flat.
        images: Of each patch, the number of the image it is of.
        names: Of the images.
        thumb: Side of a patch on the sheet, in pixels.
        columns: Of that sheet.
    """

    blocks: int
    most: int
    patches: list[int]
    parts: list[int]
    images: list[int]
    names: list[str]
    thumb: int
    columns: int


class SampleData(TypedDict):
    """Samples as ``predictions.js`` guesses from them."""

    weights: list[list[float]]
    classes: list[int]
    probabilities: list[float]


class PageData(TypedDict):
    """What the scripts of a page read; ``error`` is what 95 % of the guesses are within."""

    tour: list[list[float]]
    legs: list[str]
    pointsPerLeg: int
    targetName: str
    samples: SampleData | None
    contributions: PixelOrigins | None
    classNames: NotRequired[dict[str, str]]
    error: NotRequired[float]


class TourLine(TypedDict):
    """The probability along a tour, as a line in a box of 1000 by 100, and where vertices are."""

    points: str
    stops: list[str]
    low: float
    high: float
    count: int


class GuessError(InterpolationError):
    """How far guesses are off, and from how many samples they are."""

    asked: int


@dataclass(frozen=True)
class Origin:
    """An image that patches come from.

    Attributes:
        name: Its name in the store.
        share: Part of all vertices' pixels that comes from it, 0..1.
        num_patches: How many of its patches are among the neighbours composed.
    """

    name: str
    share: float
    num_patches: int


def origins_of(
    contributions: Contributions, neighbours: Neighbours, positions_per_image: int
) -> list[Origin]:
    """Lists the images that vertices are composed of, those with the largest share first.

    Args:
        contributions: Of the run's vertices.
        neighbours: What they are composed of.
        positions_per_image: Patches of each image of the store, which their identifiers count by.
    """
    shares = contributions.shares.mean(axis=0, dtype=np.float64)
    ids = neighbours.ids[:, : shares.shape[1]]
    there = ids >= 0
    numbers, places = np.unique(ids[there] // positions_per_image, return_inverse=True)
    total = np.bincount(places, weights=shares[there], minlength=len(numbers))
    counts = np.bincount(places, minlength=len(numbers))
    found = [
        Origin(neighbours.image_names.get(int(number), _UNKNOWN), float(share), int(count))
        for number, share, count in zip(numbers, total, counts, strict=True)
    ]
    return sorted(found, key=lambda origin: (-origin.share, origin.name))


def contributions_data(
    contributions: Contributions, neighbours: Neighbours, positions_per_image: int
) -> tuple[PixelOrigins, Int64[ndarray, "patches 2"]]:
    """Returns what ``pixels.js`` needs to say where a pixel comes from.

    Returns:
        The data, in which patches are numbered anew; and location and rank of each of these.
    """
    k = neighbours.ids.shape[1]
    numbers = contributions.locations * k + contributions.ranks
    used, patches = np.unique(numbers, return_inverse=True)
    chosen = np.stack([used // k, used % k], axis=1)
    images = neighbours.ids[chosen[:, 0], chosen[:, 1]] // positions_per_image
    shown, places = np.unique(images, return_inverse=True)
    data: PixelOrigins = {
        "blocks": contributions.parts.shape[1],
        "most": contributions.parts.shape[3],
        "patches": patches.ravel().tolist(),
        "parts": np.rint(1000 * contributions.parts).astype(int).ravel().tolist(),
        "images": places.tolist(),
        "names": [neighbours.image_names.get(int(number), _UNKNOWN) for number in shown],
        "thumb": THUMB_PX,
        "columns": _columns(len(used)),
    }
    return data, chosen


def sprite_of(neighbours: Neighbours, chosen: Int64[ndarray, "patches 2"]) -> bytes:
    """Returns one JPEG with the windows of neighbours, row by row at :data:`THUMB_PX` pixels.

    Args:
        neighbours: Where they are.
        chosen: Their locations and ranks; at least one.
    """
    columns = _columns(len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = np.zeros((rows * THUMB_PX, columns * THUMB_PX, 3), np.uint8)
    for place, (location, rank) in enumerate(chosen):
        top, left = (THUMB_PX * part for part in divmod(place, columns))
        sheet[top : top + THUMB_PX, left : left + THUMB_PX] = _thumb(
            neighbours.windows[location, rank]
        )
    return jpeg_bytes(sheet)


def _thumb(window: UInt8[ndarray, "side side 3"]) -> UInt8[ndarray, "thumb thumb 3"]:
    side = len(window)
    if side == THUMB_PX:
        return window
    return resize_square(np.ascontiguousarray(window), left=0, top=0, side=side, size=THUMB_PX)


def _columns(num_patches: int) -> int:
    return max(1, math.isqrt(num_patches))


@dataclass(frozen=True)
class Live:
    """The part of a page that moves.

    Attributes:
        data: What the scripts read.
        tour_points: Points of the tour.
        error: How far guesses are off; None without samples.
        tour: The probability along the tour; None without samples, or of one vertex.
        sprite: The patches, as a data address; None if nothing was composed.
        origins: The images that patches come from.
        has_null: Whether polytopes between random images were measured too.
    """

    data: PageData
    tour_points: int
    error: GuessError | None = None
    tour: TourLine | None = None
    sprite: str | None = None
    origins: list[Origin] = field(default_factory=list)
    has_null: bool = False

    @property
    def json(self) -> str:
        """The data as JSON that may stand inside a script element."""
        text = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        # The only ways out of such an element, and a comment, begin so.
        return text.replace("<", "\\u003c")


def make_live(
    summary: Summary,
    samples: Mapping[str, HullSamples] | None,
    composed: tuple[Contributions, Neighbours] | None,
    positions_per_image: int,
) -> Live:
    """Gathers what a page needs to move.

    Args:
        summary: Of the run.
        samples: Of the run, by kind; None for runs of before they were kept.
        composed: What the vertices are composed of, and where from; None of free pixels.
        positions_per_image: Patches of each image of the store.
    """
    count = summary["num_vertices"]
    weights = samples["tour"].weights if samples else tour(count, _POINTS_PER_LEG)
    legs = leg_labels(count)
    data: PageData = {
        "tour": _rounded(weights, 6),
        "legs": legs,
        "pointsPerLeg": (len(weights) - 1) // max(len(legs), 1),
        "targetName": summary["target_class_name"],
        "samples": None,
        "contributions": None,
    }
    live = Live(data, len(weights))
    if samples:
        live = _with_samples(live, summary, samples)
    if composed:
        data["contributions"], chosen = contributions_data(*composed, positions_per_image)
        sprite = base64.b64encode(sprite_of(composed[1], chosen)).decode("ascii")
        origins = origins_of(*composed, positions_per_image)
        live = replace(live, sprite=f"data:image/jpeg;base64,{sprite}", origins=origins)
    return live


def _with_samples(live: Live, summary: Summary, samples: Mapping[str, HullSamples]) -> Live:
    """Adds what is guessed from samples, to the data as well."""
    asked, count = joined(samples["hull"], samples["tour"]), summary["num_vertices"]
    error: GuessError = {**interpolation_error(asked, samples["check"]), "asked": len(asked)}
    live.data["samples"] = {
        "weights": _rounded(asked.weights, 4),
        "classes": asked.classes.tolist(),
        "probabilities": _rounded(asked.target_probabilities, 4),
    }
    named = summary["sample_classes"]
    live.data["classNames"] = {str(each["class"]): each["class_name"] for each in named}
    live.data["error"] = error["quantile"]
    line = _line(samples["tour"], count) if count > 1 else None
    return replace(live, error=error, tour=line, has_null="null" in samples)


def _rounded(values: Float[ndarray, "..."], digits: int) -> Any:
    return np.round(values.astype(np.float64), digits).tolist()


def _line(along: HullSamples, num_vertices: int) -> TourLine:
    chances = along.target_probabilities
    places = np.linspace(0, 1000, len(chances))
    stops = np.linspace(0, 1000, len(tour_stops(num_vertices)))
    return {
        "points": " ".join(
            f"{place:.1f},{100 - 100 * chance:.2f}"
            for place, chance in zip(places, chances, strict=True)
        ),
        "stops": [f"{place:.1f}" for place in stops],
        "low": float(chances.min()),
        "high": float(chances.max()),
        "count": len(chances),
    }
