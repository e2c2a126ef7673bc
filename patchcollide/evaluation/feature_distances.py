"""How far features are from a target's, behind the activation: what the layers after it see.

With ``phi`` the activation, ``t`` the target and ``low`` an input that it says nothing about, the
relative distance of an image ``u`` is ``tau(u) = |phi(u) - phi(t)| / |phi(t) - phi(low)|``, in L2
over the layer: 0 is a collision, 1 as far as a layer that says nothing. Two inputs on the blind
side are no distance apart, however far they are before the activation; what an optimiser still has
to do *before* it is in :mod:`patchcollide.evaluation.residuals`. All but the last are pure
functions of pre-activations.
"""

import torch

from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.shapes import Bool, Float, Tensor

_BATCH_SIZE = 8


def target_features(target: TargetFeatures) -> Float[Tensor, "units"]:
    """Returns a target's features: what comes out of the activation."""
    return target.blind.respond(target.pre_activation)


def feature_differences(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> Float[Tensor, "images units"]:
    """Returns by how much each feature exceeds the target's, signed.

    Args:
        z: Pre-activations of the images.
        target: What they are compared with.
    """
    return target.blind.respond(z) - target_features(target)


def feature_distances(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> Float[Tensor, "images"]:
    """Returns the L2 distance of each image's features to a target's, in units of the features."""
    distances: Tensor = torch.linalg.vector_norm(feature_differences(z, target), dim=1)
    return distances


def feature_scale(target: TargetFeatures) -> Float[Tensor, ""]:
    """Returns how far a target's features are from a layer's that says nothing, in L2."""
    scale: Tensor = torch.linalg.vector_norm(target_features(target) - target.blind.floor)
    return scale


def relative_feature_distances(
    z: Float[Tensor, "images units"], target: TargetFeatures
) -> Float[Tensor, "images"]:
    """Returns tau of each image; see the module.

    Of a target that says nothing itself it is 0 for the same features, and infinite for others.

    Args:
        z: Pre-activations of the images.
        target: What they are compared with.
    """
    return as_share(feature_distances(z, target), feature_scale(target))


def distances_of_features(
    features: Float[Tensor, "vectors units"], target: TargetFeatures
) -> Float[Tensor, "vectors"]:
    """Returns tau of features that need not be any image's, such as a mean over images."""
    distances = torch.linalg.vector_norm(features - target_features(target), dim=1)
    return as_share(distances, feature_scale(target))


def as_share(part: Float[Tensor, "*shape"], whole: Float[Tensor, ""]) -> Float[Tensor, "*shape"]:
    """Returns parts as shares of a whole; of nothing, nothing is 0 and anything else infinite."""
    return torch.where(part == 0, torch.zeros_like(part), part / whole)


@torch.no_grad()
def which_collide(
    network: CollisionNetwork,
    images: Float[Tensor, "batch channels height width"],
    target: Target,
    *,
    tightness: float | None = None,
    tolerance: float | None = None,
) -> Bool[Tensor, "batch"]:
    """Says which images are of a target's class, and which of these have its features.

    Args:
        network: The network.
        images: In ``[0, 1]``.
        target: Of the network's layer.
        tightness: How far features may be from the target's, as a share of theirs: tau; None for
            anywhere.
        tolerance: How far each feature may be from the target's, beyond the network's own
            tolerance; None for anywhere.
    """
    features, found = target.features(network), []
    for batch in torch.split(images, _BATCH_SIZE):
        output = network(batch)
        inside = output.logits.argmax(dim=1) == target.class_index
        if tightness is not None:
            inside &= relative_feature_distances(output.pre_activation, features) <= tightness
        if tolerance is not None:
            worst = feature_differences(output.pre_activation, features).abs().amax(dim=1)
            inside &= worst <= tolerance + network.blind.tolerance
        found.append(inside.cpu())
    return torch.cat(found)
