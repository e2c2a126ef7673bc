"""What the scripts of a run's page are given: a tour, samples to guess from, patches."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from patchcollide.contributions import Contributions
from patchcollide.hull_samples import HullSamples, interpolation_error, joined
from patchcollide.neighbours import Neighbours
from patchcollide.report.origins import Origin, contributions_data, origins_of, sprite_of
from patchcollide.shapes import Float, ndarray
from patchcollide.tours import leg_labels, tour, tour_stops

__all__ = ["Live", "make_live"]

_POINTS_PER_LEG = 16


@dataclass(frozen=True)
class Live:
    """The part of a page that moves.

    Attributes:
        data: What the scripts read.
        tour_points: Points of the tour.
        error: How far guesses are off, and from how many samples they are; None without samples.
        tour: The probability along the tour, as a line in a box of 1000 by 100; None without.
        sprite: The patches, as a data address; None if nothing was composed.
        origins: The images that patches come from.
        has_null: Whether polytopes between random images were measured too.
    """

    data: dict[str, Any]
    tour_points: int
    error: dict[str, float] | None = None
    tour: dict[str, Any] | None = None
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
    summary: Mapping[str, Any],
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
    legs = len(leg_labels(count))
    parts: dict[str, Any] = {}
    data: dict[str, Any] = {
        "tour": _rounded(weights, 6),
        "legs": leg_labels(count),
        "pointsPerLeg": (len(weights) - 1) // max(legs, 1),
        "targetName": summary["target_class_name"],
        "samples": None,
        "contributions": None,
    }
    if samples:
        asked = joined(samples["hull"], samples["tour"])
        names = {str(named["class"]): named["class_name"] for named in summary["sample_classes"]}
        data |= {
            "classNames": names,
            "samples": {
                "weights": _rounded(asked.weights, 4),
                "classes": asked.classes.tolist(),
                "probabilities": _rounded(asked.target_probabilities, 4),
            },
        }
        parts["error"] = {**interpolation_error(asked, samples["check"]), "asked": len(asked)}
        data["error"] = parts["error"]["quantile"]
        parts["has_null"] = "null" in samples
        if count > 1:
            parts["tour"] = _line(samples["tour"], count)
    if composed:
        data["contributions"], chosen = contributions_data(*composed, positions_per_image)
        sprite = base64.b64encode(sprite_of(composed[1], chosen)).decode("ascii")
        parts["sprite"] = f"data:image/jpeg;base64,{sprite}"
        parts["origins"] = origins_of(*composed, positions_per_image)
    return Live(data=data, tour_points=len(weights), **parts)


def _rounded(values: Float[ndarray, "..."], digits: int) -> Any:
    return np.round(values.astype(np.float64), digits).tolist()


def _line(along: HullSamples, num_vertices: int) -> dict[str, Any]:
    """Returns the probability along the tour as a line in a box of 1000 by 100."""
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
