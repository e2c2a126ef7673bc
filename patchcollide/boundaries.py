"""How far pre-activations are from the boundary of a target's polytope.

The polytope ends where a blind unit begins to respond. Its slack is how far it is from there:
``-z`` for a ReLU, negative where it responds. Slack is measured before the activation, behind which
all of it is one feature: how far features are is in :mod:`patchcollide.feature_distances`. Pure
functions of pre-activations.
"""

from dataclasses import asdict, dataclass

from patchcollide.losses import TargetFeatures, excess
from patchcollide.residuals import active_level
from patchcollide.shapes import Bool, Float, Tensor

NEAR = 0.01
"""Units are on the boundary within this share of the target's mean activity."""


@dataclass(frozen=True)
class Boundary:
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


def measure_boundary(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> list[dict[str, float]]:
    """Measures how far each image is from the boundary of a target's polytope.

    Args:
        z: Pre-activations of the images.
        target: Whose polytope; for its mean activity, see
            :func:`patchcollide.residuals.active_level`.

    Returns:
        The figures of :class:`Boundary` of each image, by their names.
    """
    blind, level = target.below | target.above, float(active_level(target))
    return [asdict(_measure(row, target, blind, level)) for row in z]


def _measure(
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
        on_boundary_share=_share(slack.abs() <= NEAR * level),
        dead_share=_share((low | high)[target.active]),
    )


def _share(which: Bool[Tensor, "units"]) -> float:
    return float(which.double().mean()) if len(which) else 0.0
