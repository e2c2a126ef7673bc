"""What an optimiser has left to do, before the activation: how far units are from their intervals.

A residual pulls a unit that is dead back to where it responds, so it may be large where features
are equal: figures about features are those of :mod:`patchcollide.evaluation.feature_distances`.
Pure functions of pre-activations; see :mod:`patchcollide.networks.targets` for active and blind
units.
"""

import math

import torch

from patchcollide.networks.targets import TargetFeatures, active_residuals
from patchcollide.shapes import Bool, Float, Tensor

# Early layers have millions of units, and every figure takes copies of them.
VALUES_AT_ONCE = 2**22


def collides(z: Float[Tensor, "images units"], target: TargetFeatures) -> Bool[Tensor, "images"]:
    """Says which images collide with a target: every unit lies in its interval.

    To the last digit, so only of use with a tolerance, or for pre-activations that were solved for.

    Args:
        z: Pre-activations of the images.
        target: The features to collide with.
    """
    return target.contains(z).all(dim=1)


def mean_residuals(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> Float[Tensor, "images"]:
    """Returns the mean distance of active units from their intervals, for each image.

    Args:
        z: Pre-activations of the images; at least one.
        target: The features to collide with.

    Returns:
        As a share of :func:`active_level`; 0 without active units.
    """
    together = max(1, VALUES_AT_ONCE // max(z.shape[1], 1))
    count, level = target.active.sum(), active_level(target)
    found = []
    for part in torch.split(z, together):
        mean = _share(active_residuals(part, target).abs().sum(dim=1), count)
        found.append(_share(mean, level))
    return torch.cat(found)


def active_level(target: TargetFeatures) -> Float[Tensor, ""]:
    """Returns the target's mean over its active units, measured from where these begin to show."""
    low = target.blind.low
    # A tolerance above the activation's whole range has it blind everywhere.
    origin = low if low is not None and math.isfinite(low) else 0.0
    total = ((target.pre_activation - origin).abs() * target.active).sum()
    return _share(total, target.active.sum())


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, torch.zeros_like(part))
