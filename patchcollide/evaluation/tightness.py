"""How tightly features agree with a target's, behind the activation.

Of images, or of samples batch by batch: pure functions of pre-activations. What that is called is
in :mod:`patchcollide.evaluation.verdicts`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import torch

from patchcollide.evaluation.feature_distances import target_features
from patchcollide.evaluation.gaps import Gaps, finite
from patchcollide.evaluation.residuals import VALUES_AT_ONCE
from patchcollide.networks.targets import TargetFeatures
from patchcollide.shapes import Float, Tensor

_QUANTILE = 0.95


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
