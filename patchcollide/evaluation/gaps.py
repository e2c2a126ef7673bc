"""How nearly features collide with a target's: gaps behind the activation, slack before it.

Pure functions of pre-activations; see :mod:`patchcollide.networks.targets` for active and blind
units. The target's polytope ends where a blind unit begins to respond; its slack is how far it is
from there: ``-z`` for a ReLU, negative where it responds. Behind the activation all slack is one
feature: how far features are is in :mod:`patchcollide.evaluation.feature_distances`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Generic, TypedDict, TypeVar, cast

import numpy as np
import torch

from patchcollide.evaluation.feature_distances import (
    as_share,
    feature_differences,
    feature_scale,
    target_features,
)
from patchcollide.evaluation.residuals import VALUES_AT_ONCE, active_level
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.targets import TargetFeatures, excess
from patchcollide.shapes import Bool, Float, Int64, Tensor, ndarray

Figure = TypeVar("Figure")

_AT_AN_END = 1e-3
"""Solutions rest at the ends of intervals, which are rounded: so much beyond counts as inside."""

NEAR = 0.01
"""Units are on the boundary within this share of the target's mean activity."""


class MeanAndMax(TypedDict):
    """A figure over all images; None where one is infinite."""

    mean: float | None
    max: float | None


class GapFigures(TypedDict, Generic[Figure]):
    """Something for each figure of :class:`Gaps`, by its name, as JSON holds it."""

    feature_distance: Figure
    feature_distance_relative: Figure
    active_feature_gap_mean: Figure
    active_feature_gap_max: Figure
    active_feature_gap_mean_relative: Figure
    active_feature_gap_max_relative: Figure
    inactive_response_share: Figure
    inactive_response_mean: Figure
    inactive_response_max: Figure


def by_name(figures: GapFigures[Figure]) -> dict[str, Figure]:
    """Returns the same by any name: files of the first version hold figures of other names."""
    return cast(dict[str, Figure], figures)


@dataclass(frozen=True)
class Gaps:
    """How far images are from a collision: one value an image, in units of the features.

    Figures of no units are zero. What is relative to a target that says nothing is infinite, where
    it is not zero.

    Attributes:
        feature_distance: L2 distance to the target's features over the whole layer.
        feature_distance_relative: The same as a share of how far the target's are from a layer's
            that says nothing: tau of :mod:`patchcollide.evaluation.feature_distances`.
        active_feature_gap_mean: Mean absolute difference over the target's active units.
        active_feature_gap_max: The largest one.
        active_feature_gap_mean_relative: The mean as a share of the target's own mean over these
            units, measured from the activation's floor.
        active_feature_gap_max_relative: The largest as a share of the same.
        inactive_response_share: The share of the target's blind units that respond: whose feature
            differs from the target's, by more than the activation's tolerance.
        inactive_response_mean: By how much those that respond differ, on average.
        inactive_response_max: By how much the worst one does.
    """

    feature_distance: Float[Tensor, "images"]
    feature_distance_relative: Float[Tensor, "images"]
    active_feature_gap_mean: Float[Tensor, "images"]
    active_feature_gap_max: Float[Tensor, "images"]
    active_feature_gap_mean_relative: Float[Tensor, "images"]
    active_feature_gap_max_relative: Float[Tensor, "images"]
    inactive_response_share: Float[Tensor, "images"]
    inactive_response_mean: Float[Tensor, "images"]
    inactive_response_max: Float[Tensor, "images"]

    @classmethod
    def joined(cls, parts: Iterable["Gaps"]) -> "Gaps":
        """Returns the figures of several batches as those of one."""
        # `astuple` would copy each tensor.
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def columns(self) -> dict[str, Float[ndarray, "images"]]:
        """Returns each figure's values by its name."""
        return {
            field.name: getattr(self, field.name).double().cpu().numpy() for field in fields(self)
        }

    def rows(self) -> list[GapFigures[float | None]]:
        """Returns the figures of each image; None for those that are infinite."""
        columns = self.each(lambda values: [finite(value) for value in values.tolist()])
        rows = zip(*by_name(columns).values(), strict=True)
        return [
            cast(GapFigures[float | None], dict(zip(columns, row, strict=True))) for row in rows
        ]

    def summary(self) -> GapFigures[MeanAndMax]:
        """Returns the mean and the largest value of each figure over all images."""
        return self.each(
            lambda values: {
                "mean": finite(float(values.mean())),
                "max": finite(float(values.max())),
            }
        )

    def each(self, measure: Callable[[Float[ndarray, "images"]], Figure]) -> GapFigures[Figure]:
        """Returns what a measure says of each figure's values."""
        measured = {name: measure(values) for name, values in self.columns().items()}
        return cast(GapFigures[Figure], measured)


def finite(value: float) -> float | None:
    """Returns a number that JSON can hold, or None."""
    return value if math.isfinite(value) else None


def measure_gaps(z: Float[Tensor, "images units"], target: TargetFeatures) -> Gaps:
    """Measures how nearly each image collides with a target.

    Args:
        z: Pre-activations of the images; at least one.
        target: The features to collide with.
    """
    together = max(1, VALUES_AT_ONCE // max(z.shape[1], 1))
    return Gaps.joined(_measure(part, target) for part in torch.split(z, together))


def _measure(z: Float[Tensor, "images units"], target: TargetFeatures) -> Gaps:
    difference = feature_differences(z, target)
    distance = torch.linalg.vector_norm(difference, dim=1)
    difference = difference.abs_()
    mean, largest = _mean_and_largest(difference * target.active, target.active.sum())
    level = _mean_feature(target)
    difference *= ~target.active & (difference > (1 + _AT_AN_END) * target.blind.tolerance)
    num_responding = (difference > 0).sum(dim=1)
    response, worst = _mean_and_largest(difference, num_responding)
    return Gaps(
        feature_distance=distance,
        feature_distance_relative=as_share(distance, feature_scale(target)),
        active_feature_gap_mean=mean,
        active_feature_gap_max=largest,
        active_feature_gap_mean_relative=as_share(mean, level),
        active_feature_gap_max_relative=as_share(largest, level),
        inactive_response_share=_mean(num_responding.to(z.dtype), (~target.active).sum()),
        inactive_response_mean=response,
        inactive_response_max=worst,
    )


def _mean_feature(target: TargetFeatures) -> Float[Tensor, ""]:
    """Returns the mean of a target's features over its active units, from the floor."""
    own = (target_features(target) - target.blind.floor).abs() * target.active
    return _mean(own.sum(), target.active.sum())


def _mean_and_largest(
    values: Float[Tensor, "images units"], counts: Tensor
) -> tuple[Float[Tensor, "images"], Float[Tensor, "images"]]:
    largest = values.amax(dim=1) if values.shape[1] else values.new_zeros(len(values))
    return _mean(values.sum(dim=1), counts), largest


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return torch.where(count > 0, total / count, torch.zeros_like(total))


def random_pairs(
    num_images: int, num_pairs: int | None, rng: np.random.Generator
) -> Int64[ndarray, "pairs 2"]:
    """Draws pairs of two different numbers, none twice, not in the other order either.

    Args:
        num_images: The numbers are 0 to ``num_images - 1``.
        num_pairs: At most how many; None for all.
        rng: Decides which, and which of the two is first.
    """
    pairs = np.stack(np.triu_indices(num_images, 1), axis=1).astype(np.int64)
    if num_pairs is not None and num_pairs < len(pairs):
        pairs = pairs[np.sort(rng.choice(len(pairs), size=num_pairs, replace=False))]
    turned = rng.random(len(pairs)) < 0.5
    return np.where(turned[:, None], pairs[:, ::-1], pairs)


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


class Boundary(TypedDict):
    """Where one image lies, over the units that are blind at the target; zeros without any.

    Attributes:
        slack_min: The smallest slack, in units of the pre-activation; negative where a unit
            responds.
        slack_median: The median; the lower one of an even number.
        slack_median_relative: The same as a share of the target's mean activity.
        on_boundary_share: The share of blind units whose slack is within :data:`NEAR` of the
            target's mean activity of zero, on either side.
        dead_share: Of the units that are active at the target, the share that this image's
            activation is blind to: matching features gives these no gradient.
    """

    slack_min: float
    slack_median: float
    slack_median_relative: float
    on_boundary_share: float
    dead_share: float


def measure_boundary(z: Float[Tensor, "images units"], target: TargetFeatures) -> list[Boundary]:
    """Measures how far each image is from the boundary of a target's polytope, one by one.

    Args:
        z: Pre-activations of the images.
        target: Whose polytope; for its mean activity, see
            :func:`patchcollide.evaluation.residuals.active_level`.
    """
    blind, level = target.below | target.above, float(active_level(target))
    return [_nearness(row, target, blind, level) for row in z]


def _nearness(
    z: Float[Tensor, "units"],
    target: TargetFeatures,
    blind: Bool[Tensor, "units"],
    level: float,
) -> Boundary:
    slack = 0.0 - excess(z[None], target)[0][blind]
    _, low, high = target.blind.masks(z)
    # torch.quantile refuses the sixteen million units of early layers.
    median = float(slack.median()) if len(slack) else 0.0
    return Boundary(
        slack_min=float(slack.min()) if len(slack) else 0.0,
        slack_median=median,
        slack_median_relative=median / level if level else 0.0,
        on_boundary_share=_share_of(slack.abs() <= NEAR * level),
        dead_share=_share_of((low | high)[target.active]),
    )


def _share_of(which: Bool[Tensor, "units"]) -> float:
    return float(which.double().mean()) if len(which) else 0.0
