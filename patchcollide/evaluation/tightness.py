"""How tightly features agree with a target's, and what that is called.

Images of one class need not have features in common: most of what a layer says of them may differ,
behind the activation, and the class still be the same. So a collision is named by both.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch

from patchcollide.evaluation.feature_distances import target_features
from patchcollide.evaluation.gaps import Gaps, finite
from patchcollide.evaluation.residuals import VALUES_AT_ONCE
from patchcollide.networks.targets import TargetFeatures
from patchcollide.shapes import Float, Tensor

CLOSE = 0.1
"""What features of a collision may differ by where a search was asked for none in particular."""

_QUANTILE = 0.95

VerdictName = Literal["feature collision", "class collision", "none"]


class Tightness(TypedDict):
    """How tightly images agree with a target; None where a distance is infinite.

    Attributes:
        tau_mean: Of the relative distance of features behind the activation, see
            :mod:`patchcollide.evaluation.feature_distances`.
        tau_quantile: The same, at 95 %.
        tau_max: The same, the largest.
        cosine_mean: Of the angle between an image's features and the target's, both from the floor
            of the activation; 0 of an image without any.
        cosine_min: The smallest.
        dead_share_mean: Of the target's active units, the share that the activation is blind to.
        dead_share_max: The largest of an image.
        false_responders_mean: How many units respond that are inactive at the target.
        false_responders_max: The most of an image.
    """

    tau_mean: float | None
    tau_quantile: float | None
    tau_max: float | None
    cosine_mean: float
    cosine_min: float
    dead_share_mean: float
    dead_share_max: float
    false_responders_mean: float
    false_responders_max: float


class TightnessBlock(TypedDict):
    """What ``summary.json`` says of tightness.

    Attributes:
        verdict: ``feature collision``, ``class collision`` or ``none``.
        sentence: The same with its numbers.
        gamma: What features may differ by.
        asked: Whether the search was asked for that; else it is :data:`CLOSE`.
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


@dataclass(frozen=True)
class Likeness:
    """How alike images are to a target: one value an image, as :class:`Tightness` explains them."""

    tau: Float[Tensor, "images"]
    cosine: Float[Tensor, "images"]
    dead_share: Float[Tensor, "images"]
    false_responders: Float[Tensor, "images"]

    @classmethod
    def joined(cls, parts: Iterable["Likeness"]) -> "Likeness":
        """Returns the values of several batches as those of one."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def tightness(self) -> Tightness:
        """Returns what summarises the images; of at least one."""
        tau, cosine, dead, false = (values.double().cpu() for values in vars(self).values())
        return {
            "tau_mean": finite(float(tau.mean())),
            "tau_quantile": _quantile(tau),
            "tau_max": finite(float(tau.max())),
            "cosine_mean": float(cosine.mean()),
            "cosine_min": float(cosine.min()),
            "dead_share_mean": float(dead.mean()),
            "dead_share_max": float(dead.max()),
            "false_responders_mean": float(false.mean()),
            "false_responders_max": float(false.max()),
        }


def measure_likeness(
    z: Float[Tensor, "images units"], target: TargetFeatures, gaps: Gaps
) -> Likeness:
    """Measures how alike each image is to a target.

    Args:
        z: Pre-activations of the images; at least one.
        target: What they are compared with.
        gaps: Their gaps, which say some of it.
    """
    together = max(1, VALUES_AT_ONCE // max(z.shape[1], 1))
    parts = [_cosine_and_dead(part, target) for part in torch.split(z, together)]
    cosine, dead = (torch.cat(column) for column in zip(*parts, strict=True))
    inactive = (~target.active).sum()
    return Likeness(
        tau=gaps.feature_distance_relative,
        cosine=cosine,
        dead_share=dead,
        false_responders=(gaps.inactive_response_share * inactive).round(),
    )


def _cosine_and_dead(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> tuple[Float[Tensor, "images"], Float[Tensor, "images"]]:
    floor = target.blind.floor
    features, own = target.blind.respond(z) - floor, target_features(target) - floor
    lengths = torch.linalg.vector_norm(features, dim=1) * torch.linalg.vector_norm(own)
    products = features @ own
    cosine = torch.where(lengths > 0, products / lengths, torch.zeros_like(products))
    _, below, above = target.blind.masks(z)
    dead = ((below | above) & target.active).sum(dim=1).to(z.dtype)
    return cosine, dead / target.active.sum().clamp(min=1)


def _quantile(values: Float[Tensor, "images"]) -> float | None:
    if not values.isfinite().all():
        return None
    return float(torch.quantile(values, _QUANTILE))


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
        asked: Whether a search was asked for that.
    """
    name = verdict(max_tau, hits / num_samples, gamma)
    found = "No collision" if name == "none" else name.capitalize()
    features = "without a bound" if max_tau is None else f"by up to {_beside(max_tau, gamma)}"
    wanted = f"{gamma:g} asked" if asked else f"at most {gamma:g} is a feature collision"
    return (
        f"{found}: {hits} of {num_samples} samples are of the target's class; features differ "
        f"{features} ({wanted})"
    )


def _beside(tau: float, gamma: float) -> str:
    """Returns a number with two digits, or as many as it takes to be on its side of another."""
    texts = (f"{tau:#.{digits}g}" for digits in range(2, 18))
    return next(text for text in texts if (float(text) <= gamma) == (tau <= gamma))
