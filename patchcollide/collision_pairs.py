"""Source and target of a collision: what is refused, written and said of them."""

import logging

import numpy as np

from patchcollide.collision_inputs import CollisionInputs
from patchcollide.config import Config
from patchcollide.errors import ImageError, TargetError
from patchcollide.feature_distances import target_features
from patchcollide.features import write_features
from patchcollide.images import write_png
from patchcollide.losses import TargetFeatures
from patchcollide.networks import CollisionNetwork
from patchcollide.runs import Run
from patchcollide.shapes import UInt8, ndarray
from patchcollide.targets import Target, require_finite

logger = logging.getLogger(__name__)


def write_pair(
    run: Run,
    network: CollisionNetwork,
    source: UInt8[ndarray, "height width channels"],
    target: Target,
) -> None:
    """Writes ``source.png``, and ``target.png`` or, of given features, ``target.h5``."""
    write_png(run / "source.png", source)
    path = run / run.target_file
    if target.picture is not None:
        write_png(path, target.picture)
    else:
        about = {"fingerprint": run.fingerprint, "origin": run.inputs["target"]}
        write_features(path, target.pre_activation, network, image=target.image, about=about)


def require_two_pictures(config: Config, inputs: CollisionInputs) -> None:
    """Raises :class:`ImageError` if source and target are one picture, unless that is wanted."""
    if config.allow_same_image or inputs.target.picture is None:
        return
    if np.array_equal(inputs.source, inputs.target.picture):
        raise ImageError(
            f"Source {inputs.source_path} and target {inputs.target_path} are the same picture, so "
            "they collide already. Choose two pictures, or repeat the paper's 'image with itself' "
            "with --set allow_same_image=true."
        )


def require_features(network: CollisionNetwork, target: Target) -> None:
    """Refuses a target without features; warns of one that leaves no unit blind.

    Raises:
        TargetError: If its features are all as low as the activation goes.
    """
    features = TargetFeatures.of(target.pre_activation, network.blind)
    above = (target_features(features) - network.blind.floor).abs().max()
    if above <= network.blind.tolerance:
        raise TargetError(
            f"No unit of layer '{network.layer}' responds to the target, so its features are those "
            "of any image that the layer says nothing about: a collision with it would mean "
            "nothing. Choose another target or another layer."
        )
    if features.active.all() and not network.blind.tolerance:
        logger.warning(
            "all %d units of layer '%s' are active at the target, so each must be met: only images "
            "that the layer's own input does not tell apart can collide with it.",
            network.units,
            network.layer,
        )


def announce(config: Config, network: CollisionNetwork, inputs: CollisionInputs) -> None:
    """Says what the network makes of source and target; warns of a target it takes for another.

    Raises:
        NetworkError: If it gives one of them no finite probability.
        TargetError: If the layer does not respond to the target.
    """
    require_features(network, inputs.target)
    _, class_name, probability = network.top(inputs.source)
    require_finite(network, "source", probability)
    logger.info("source: %s, %.3f by %s", class_name, probability, network.full_name)
    target = inputs.target
    logger.info("target: %s, %.3f by %s", target.class_name, target.probability, network.full_name)
    if target.probability < config.network.min_confidence:
        logger.warning(
            "the target is not classified confidently: %s with probability %.3f, below "
            "network.min_confidence = %g. A collision with it says little.",
            target.class_name,
            target.probability,
            config.network.min_confidence,
        )
    label = inputs.target_path.parent.name
    if label in network.class_names and label != target.class_name:
        logger.warning(
            "the target lies in the folder of class %s, but %s takes it for %s: what collides with "
            "it collides with a mistake.",
            label,
            network.full_name,
            target.class_name,
        )
