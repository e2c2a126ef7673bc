"""Losses of a vertex: pure functions of pre-activations.

With ``z`` a pre-activation and ``t`` the target's, each unit has an interval around ``t`` in which
the activation takes ``z`` for the same. Units fall into three groups by it: active ones, whose
interval is bounded (without a tolerance it is ``t`` alone), and blind ones, with no lower end or no
upper one.
"""

import math

import torch

from patchcollide.evaluation.feature_distances import feature_scale
from patchcollide.networks.targets import TargetFeatures, active_residuals, excess
from patchcollide.shapes import Float, Int64, Tensor

_POWER = 4

# Under roots, which have no gradient at zero.
_TINY = 1e-12


def active_loss(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch"]:
    """Half the squared distance to the intervals of the active units: without a tolerance, L+.

    Departs from the paper where there is a tolerance, which it does not have.
    """
    return active_residuals(z, target).square().sum(dim=1) / 2


def inactive_hinge_loss(
    z: Float[Tensor, "batch units"], target: TargetFeatures
) -> Float[Tensor, "batch"]:
    """Sum of what blind units show: exactly what a collision asks of them.

    Departs from the paper, which asks more; see :func:`inactive_absolute_loss`.
    """
    return excess(z, target).clamp(min=0).sum(dim=1)


def inactive_absolute_loss(
    z: Float[Tensor, "batch units"],
    target: TargetFeatures,
    units: Int64[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """The sum over ``j != i`` of ``|z_j|`` in the paper's L-_i: holds all blind units but one at 0.

    Args:
        z: Pre-activations of the vertices.
        target: Decides which units are blind.
        units: Unit ``i`` of each vertex, which is left out.
    """
    magnitudes = excess(z, target).abs()
    return magnitudes.sum(dim=1) - magnitudes.gather(1, units[:, None])[:, 0]


def unit_loss(
    z: Float[Tensor, "batch units"],
    target: TargetFeatures,
    units: Int64[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """``z_i``, the first term of the paper's L-_i: drives unit ``i`` of each vertex deeper."""
    return excess(z, target).gather(1, units[:, None])[:, 0]


def misfits(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch"]:
    """What each image still has to do, as a share of the target's features: ``r``.

    ``r(u)^2 = (sum of active gaps^2 + sum of what blind units show^2) / |phi(t) - phi(low)|^2``. It
    has no unit. Behind an activation of slope at most 1 features are no farther from the target's
    than this; before it, units that are active at the target and dead at the image have a gradient.
    """
    gaps = active_residuals(z, target).square().sum(dim=1)
    shown = excess(z, target).clamp(min=0).square().sum(dim=1)
    return (gaps + shown + _TINY).sqrt() / feature_scale(target)


def log_power_mean(values: Float[Tensor, "values"]) -> Float[Tensor, ""]:
    """The logarithm of ``(mean of v^4)^(1/4)``: near the largest value, and smooth."""
    logs = _POWER * values.log()
    return (torch.logsumexp(logs, 0) - math.log(len(values))) / _POWER


def power_shares(values: Float[Tensor, "values"]) -> Float[Tensor, "values"]:
    """The derivative of :func:`log_power_mean` in each value's logarithm; of sum 1."""
    return (_POWER * values.log()).softmax(0)
