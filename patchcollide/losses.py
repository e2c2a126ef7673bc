"""What a vertex minimises. Pure functions of pre-activations and images; a loss is minimised.

With ``z`` a pre-activation and ``t`` the target's, each unit has an interval around ``t`` in which
the activation takes ``z`` for the same. Units fall into three groups by it: active ones, whose
interval is bounded (without a tolerance it is ``t`` alone), and blind ones, with no lower end or no
upper one.
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
        active: Units whose value must be met: their interval is bounded.
        below: Units in the lower blind region: they only have to stay at most ``upper``.
        above: Units in the upper blind region: they only have to stay at least ``lower``.
        blind: Where the activation is constant, and to what tolerance.
        lower: The lower end of each unit's interval; minus infinity for units below.
        upper: The upper end; plus infinity for units above. Units with neither end are free: they
            are in none of the three groups.
    """

    pre_activation: Float[Tensor, "units"]
    active: Bool[Tensor, "units"]
    below: Bool[Tensor, "units"]
    above: Bool[Tensor, "units"]
    blind: BlindRegions
    lower: Float[Tensor, "units"]
    upper: Float[Tensor, "units"]

    @classmethod
    def of(cls, pre_activation: Float[Tensor, "units"], blind: BlindRegions) -> "TargetFeatures":
        """Sorts the units of a target's pre-activation into active and blind ones."""
        lower, upper = blind.intervals(pre_activation)
        return cls(
            pre_activation, *blind.masks(pre_activation), blind=blind, lower=lower, upper=upper
        )

    def contains(self, z: Float[Tensor, "batch units"]) -> Bool[Tensor, "batch units"]:
        """Says which units are as the target's to the activation: which lie in their interval."""
        return (z >= self.lower) & (z <= self.upper)


def active_residuals(
    z: Float[Tensor, "batch units"], target: TargetFeatures
) -> Float[Tensor, "batch units"]:
    """Returns how far each active unit is from its interval, signed; zero for blind units.

    Without a tolerance this is the difference to the target.
    """
    # The nearest point of the interval stays where it is while z moves outside, so its gradient is
    # left out.
    nearest = z.detach().clamp(target.lower, target.upper)
    return (z - nearest) * target.active


def active_loss(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch"]:
    """Half the squared distance to the intervals of the active units: without a tolerance, L+.

    Departs from the paper where there is a tolerance, which it does not have.
    """
    return active_residuals(z, target).square().sum(dim=1) / 2


def excess(z: Float[Tensor, "batch units"], target: TargetFeatures) -> Float[Tensor, "batch units"]:
    """Returns how far each unit leaves its blind region towards the visible: negative inside.

    Zero for active units and for free ones.
    """
    nowhere = torch.zeros_like(target.lower)
    end = torch.where(target.below, target.upper, nowhere)
    end = torch.where(target.above, target.lower, end)
    outwards = target.below.to(z.dtype) - target.above.to(z.dtype)
    # Adding zero makes a negative zero a plain one, which files show.
    return (z - end) * outwards + 0.0


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
    # Not images[first]: threads add up its gradient in any order, so that no run is like another.
    pairs = images.index_select(0, first) - images.index_select(0, second)
    difference = 255 * pairs.flatten(start_dim=1)
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
