"""What a vertex minimises. Pure functions of pre-activations and images; a loss is minimised.

With ``z`` a pre-activation and ``t`` the target's, units fall into three groups by the target:
active ones, whose value passes on, and those in the activation's lower or upper blind region.
"""

from dataclasses import dataclass

import torch

from patchcollide.activations import BlindRegions
from patchcollide.shapes import Bool, Float, Int64, Tensor


@dataclass(frozen=True)
class TargetFeatures:
    """The features to collide with.

    Attributes:
        pre_activation: Of the target image.
        active: Units whose value must be met: they are in no blind region.
        below: Units in the lower blind region, at most ``blind.low``.
        above: Units in the upper blind region, at least ``blind.high``.
        blind: Where the activation is constant.
    """

    pre_activation: Float[Tensor, "units"]
    active: Bool[Tensor, "units"]
    below: Bool[Tensor, "units"]
    above: Bool[Tensor, "units"]
    blind: BlindRegions

    @classmethod
    def of(cls, pre_activation: Float[Tensor, "units"], blind: BlindRegions) -> "TargetFeatures":
        """Sorts the units of a target's pre-activation into active and blind ones."""
        active, below, above = blind.masks(pre_activation)
        return cls(pre_activation, active, below, above, blind)


def active_loss(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch"]:
    """L+: half the squared distance to the target over the active units."""
    difference = (z - target.pre_activation) * target.active
    return difference.square().sum(dim=1) / 2


def excess(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch units"]:
    """Returns how far each unit leaves its blind region towards the visible: negative inside.

    Zero for active units.
    """
    result = torch.zeros_like(z)
    if target.blind.low is not None:
        result = result + (z - target.blind.low) * target.below
    if target.blind.high is not None:
        result = result + (target.blind.high - z) * target.above
    return result


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


def pairwise_distances(images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "pairs"]:
    """L2 distance of each pair of images, in the 0..255 scale of the paper; empty for one image.

    A constant far below one grey level keeps the gradient finite where two images are equal.
    """
    first, second = torch.triu_indices(len(images), len(images), offset=1, device=images.device)
    difference = 255 * (images[first] - images[second]).flatten(start_dim=1)
    return (difference.square().sum(dim=1) + 1e-12).sqrt()


def total_variation(
    field: Float[Tensor, "*batch height width"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring values, down plus across; 0 for a constant."""
    total = field.new_zeros(())
    for dim in (-1, -2):
        if field.shape[dim] > 1:
            total = total + field.diff(dim=dim).abs().mean()
    return total
