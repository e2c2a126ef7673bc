"""How nearly pre-activations collide with a target's: gaps of active units, shows of blind ones.

Pure functions of pre-activations; see :mod:`patchcollide.losses` for active and blind units.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import torch

from patchcollide.activations import BlindRegions
from patchcollide.losses import TargetFeatures, active_gaps, excess
from patchcollide.shapes import Bool, Float, Int64, Tensor, ndarray

QUANTILES = (0.05, 0.5, 0.95)
# Early layers have millions of units, and every figure takes copies of them.
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Gaps:
    """How far images are from a collision: one value an image, in units of the pre-activation.

    Figures of no units are zero. Where the activation has a tolerance, differences are to the
    interval that it allows a unit, and blind units are those whose interval has no end.

    Attributes:
        active_gap_mean: Mean absolute difference to the target over its active units.
        active_gap_max: The largest one.
        active_gap_mean_relative: The mean as a share of the target's own mean over these units,
            measured from where its activation is blind.
        active_gap_max_relative: The largest as a share of the same.
        inactive_violation_share: The share of the target's blind units that show: that leave the
            blind region, be it the lower or the upper one.
        inactive_violation_mean: How far those that show leave it, on average.
        inactive_violation_max: How far the worst one leaves it.
    """

    active_gap_mean: Float[Tensor, "images"]
    active_gap_max: Float[Tensor, "images"]
    active_gap_mean_relative: Float[Tensor, "images"]
    active_gap_max_relative: Float[Tensor, "images"]
    inactive_violation_share: Float[Tensor, "images"]
    inactive_violation_mean: Float[Tensor, "images"]
    inactive_violation_max: Float[Tensor, "images"]

    @classmethod
    def joined(cls, parts: Iterable["Gaps"]) -> "Gaps":
        """Returns the figures of several batches as those of one."""
        columns = zip(*map(astuple, parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def columns(self) -> dict[str, Float[ndarray, "images"]]:
        """Returns each figure's values by its name."""
        return {
            field.name: getattr(self, field.name).double().cpu().numpy() for field in fields(self)
        }

    def rows(self) -> list[dict[str, float]]:
        """Returns the figures of each image by their names."""
        columns = {name: values.tolist() for name, values in self.columns().items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns the mean and the largest value of each figure over all images."""
        return {
            name: {"mean": float(values.mean()), "max": float(values.max())}
            for name, values in self.columns().items()
        }


def collides(z: Float[Tensor, "images units"], target: TargetFeatures) -> Bool[Tensor, "images"]:
    """Says which images collide with a target: every unit lies in its interval.

    Exact, so only of use with a tolerance, or for pre-activations that were solved for.

    Args:
        z: Pre-activations of the images.
        target: The features to collide with.
    """
    return target.contains(z).all(dim=1)


def measure_gaps(z: Float[Tensor, "images units"], target: TargetFeatures) -> Gaps:
    """Measures how nearly each image collides with a target.

    Args:
        z: Pre-activations of the images; at least one.
        target: The features to collide with.
    """
    together = max(1, _VALUES_AT_ONCE // max(z.shape[1], 1))
    return Gaps.joined(_measure(part, target) for part in torch.split(z, together))


def feature_differences(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> Float[Tensor, "images"]:
    """Returns how far each image's features are from a target's, as a share of the target's own.

    The absolute differences of active units and what blind ones show, over the sum of the target's
    features, measured from where the activation is blind: 0 for a collision. For a target without
    features, over the sum of its absolute pre-activations.

    Args:
        z: Pre-activations of the images.
        target: The features to collide with.
    """
    differing = active_gaps(z, target).abs().sum(dim=1)
    differing = differing + excess(z, target).clamp(min=0).sum(dim=1)
    level = _level(target)
    return _share(differing, level if level > 0 else target.pre_activation.abs().sum())


def _level(target: TargetFeatures) -> Float[Tensor, ""]:
    """Returns the sum of what the active units respond to the target."""
    low = target.blind.low
    # A tolerance above the activation's whole range has it blind everywhere.
    origin = low if low is not None and math.isfinite(low) else 0.0
    return ((target.pre_activation - origin).abs() * target.active).sum()


def _measure(z: Float[Tensor, "images units"], target: TargetFeatures) -> Gaps:
    difference = active_gaps(z, target).abs()
    mean = _share(difference.sum(dim=1), target.active.sum())
    largest = _largest(difference)
    level = active_level(target)
    shown = excess(z, target).clamp(min=0)
    num_shown = (shown > 0).sum(dim=1)
    return Gaps(
        active_gap_mean=mean,
        active_gap_max=largest,
        active_gap_mean_relative=_share(mean, level),
        active_gap_max_relative=_share(largest, level),
        inactive_violation_share=_share(num_shown.to(z.dtype), (~target.active).sum()),
        inactive_violation_mean=_share(shown.sum(dim=1), num_shown),
        inactive_violation_max=_largest(shown),
    )


def active_level(target: TargetFeatures) -> Float[Tensor, ""]:
    """Returns the target's mean over its active units, measured from where these begin to show."""
    return _share(_level(target), target.active.sum())


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, torch.zeros_like(part))


def _largest(values: Tensor) -> Tensor:
    return values.amax(dim=1) if values.shape[1] else values.new_zeros(len(values))


def random_pairs(
    num_images: int, num_pairs: int | None, rng: np.random.Generator
) -> Int64[ndarray, "pairs 2"]:
    """Draws pairs of two different numbers, in both orders, no pair twice.

    Args:
        num_images: The numbers are 0 to ``num_images - 1``.
        num_pairs: At most how many; None for all.
        rng: Decides which.
    """
    first, second = np.nonzero(~np.eye(num_images, dtype=bool))
    pairs = np.stack([first, second], axis=1).astype(np.int64)
    if num_pairs is None or num_pairs >= len(pairs):
        return pairs
    return pairs[np.sort(rng.choice(len(pairs), size=num_pairs, replace=False))]


def gaps_of_pairs(
    z: Float[Tensor, "images units"], blind: BlindRegions, pairs: Int64[ndarray, "pairs 2"]
) -> Gaps:
    """Measures each pair as if the first image's features were to collide with the second's.

    This is how far two images are that nobody made collide.

    Args:
        z: Pre-activations of the images.
        blind: Where the activation is constant.
        pairs: Numbers of images, sorted in no particular way; at least one pair.
    """
    parts = []
    for second in np.unique(pairs[:, 1]):
        target = TargetFeatures.of(z[second], blind)
        first = pairs[pairs[:, 1] == second, 0]
        parts.append(measure_gaps(z[torch.from_numpy(first).to(z.device)], target))
    return Gaps.joined(parts)


def describe_null(null: Gaps, found: Mapping[str, float]) -> dict[str, Any]:
    """Sets figures beside those of pairs that nobody made collide.

    Args:
        null: Of random pairs.
        found: The same figures of the images to be judged.

    Returns:
        ``quantiles``: of each figure over the pairs, at :data:`QUANTILES`; ``share_below``: the
        share of the pairs whose figure is below the one found, 0 when every pair is farther apart.
    """
    columns = null.columns()
    return {
        "num_pairs": len(null.active_gap_mean),
        "quantiles": {
            name: np.quantile(values, QUANTILES).tolist() for name, values in columns.items()
        },
        "share_below": {
            name: float((values < found[name]).mean()) for name, values in columns.items()
        },
    }
