"""What a collision is called, with the numbers that it is called so by.

Images of one class need not have features in common: most of what a layer says of them may differ,
and the class still be the same. So a *feature collision* needs both, a *class collision* only has
the class, and beside its tightness always stands what changes that everybody knows give.
"""

import math
from decimal import ROUND_CEILING, Context
from typing import Literal, TypedDict

from patchcollide.config import Config
from patchcollide.evaluation.controls import Controls
from patchcollide.evaluation.evaluate import Collision, Measured, SourceGaps
from patchcollide.evaluation.known_changes import (
    ANOTHER,
    RANDOM,
    SOURCE,
    measure_known_changes,
    noise_floor,
)
from patchcollide.evaluation.measures import attempt
from patchcollide.evaluation.tightness import Tightness

CLOSE = 0.1
"""What features of a collision may differ by where a run was asked for nothing in particular."""

VerdictName = Literal["feature collision", "class collision", "none"]


class TightnessBlock(TypedDict):
    """What ``summary.json`` says of tightness.

    Attributes:
        verdict: ``feature collision``, ``class collision`` or ``none``.
        sentence: The same with its numbers.
        gamma: What features may differ by.
        asked: Whether the run was asked for that; else it is :data:`CLOSE`.
        hull: Of the samples of the headline.
        active_units: How many units are active at the target, beside which false responders stand.
        floor: Tau of the target with half a grey level of noise; None of one that is no picture.
        yardstick: Tau of what everybody knows, by what it is: of known changes of the target, of
            the source and of other images.
    """

    verdict: VerdictName
    sentence: str
    gamma: float
    asked: bool
    hull: Tightness
    active_units: int
    floor: float | None
    yardstick: dict[str, float | None]


def bound_asked(config: Config) -> float:
    """Returns what features of a run's collision may differ by: what was asked, else CLOSE."""
    return config.objective.tightness or CLOSE


def verdict(max_tau: float | None, success: float, gamma: float) -> VerdictName:
    """Names a collision by its samples.

    Args:
        max_tau: The largest relative distance of their features; None if it is infinite.
        success: The share that is of the target's class, 0..1.
        gamma: What features may differ by.
    """
    if success < 1:
        return "none"
    tau = math.inf if max_tau is None else max_tau
    return "feature collision" if tau <= gamma else "class collision"


def verdict_sentence(
    max_tau: float | None, hits: int, num_samples: int, gamma: float, asked: bool
) -> str:
    """Says :func:`verdict` with its numbers.

    Args:
        max_tau: As there.
        hits: How many samples are of the target's class.
        num_samples: Of so many.
        gamma: As there.
        asked: Whether a run was asked for that.
    """
    name = verdict(max_tau, hits / num_samples, gamma)
    found = "No collision" if name == "none" else name.capitalize()
    features = "without a bound" if max_tau is None else f"by up to {beside(max_tau, gamma)}"
    wanted = f"{gamma:g} asked" if asked else f"at most {gamma:g} is a feature collision"
    return (
        f"{found}: {hits} of {num_samples} samples are of the target's class; features differ "
        f"{features} ({wanted})"
    )


def beside(tau: float, gamma: float) -> str:
    """Returns a number in two digits, or as many as it takes to be on its side of another.

    Rounded up: nothing is said to differ by less than it does.
    """
    for digits in range(2, 18):
        above = Context(prec=digits, rounding=ROUND_CEILING).create_decimal(repr(tau))
        texts = [f"{value:#.{digits}g}" for value in (tau, float(above))]
        if all((float(text) <= gamma) == (tau <= gamma) for text in texts):
            return texts[1]
    return repr(tau)


def describe_tightness(
    collision: Collision, measured: Measured, config: Config, missing: dict[str, str] | None
) -> TightnessBlock:
    """Names a collision, and sets beside it what known changes of the target give.

    Args:
        collision: What was measured.
        measured: What was found.
        config: ``objective.tightness``, and the seed.
        missing: See :func:`patchcollide.evaluation.measures.attempt`.
    """
    network, target, figures = collision.network, collision.target, measured.figures
    gamma, tau = bound_asked(config), measured.tightness["tau_max"]
    asked, count = config.objective.tightness > 0, figures["num_samples"]
    hits = round(figures["success_rate"] * count)
    changes = attempt("yardstick", lambda: measure_known_changes(network, target), missing)
    return {
        "verdict": verdict(tau, figures["success_rate"], gamma),
        "sentence": verdict_sentence(tau, hits, count, gamma, asked),
        "gamma": gamma,
        "asked": asked,
        "hull": measured.tightness,
        "active_units": int(collision.features.active.sum()),
        "floor": attempt("floor", lambda: noise_floor(network, target, config.seed), missing),
        "yardstick": changes or {},
    }


def yardstick_of_others(
    gaps: SourceGaps, others: Controls | None, another: float | None
) -> dict[str, float | None]:
    """Returns tau of images that nobody made collide, by their names; of those measured alone.

    Args:
        gaps: Of the source.
        others: Random images; None if none were measured.
        another: Tau of another image of the target's class; None if there is none.
    """
    found: dict[str, float | None] = {} if another is None else {ANOTHER: another}
    found[SOURCE] = gaps["source"]["feature_distance_relative"]
    if others:
        found[RANDOM] = others["quantiles"]["feature_distance_relative"][1]
    return found
