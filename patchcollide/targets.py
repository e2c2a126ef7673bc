"""What vertices are to collide with: an image's features, or features alone."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.networks import CollisionNetwork
from patchcollide.provenance import array_digest
from patchcollide.shapes import Float, Float32, Tensor, UInt8, ndarray


@dataclass(frozen=True)
class Target:
    """The features to collide with, and what the network makes of them.

    Attributes:
        picture: The target as the network sees it, RGB; None if its features were given.
        pre_activation: What goes into the layer's activation, on the network's device.
        class_index: The most probable class.
        class_name: Its name.
        probability: Its probability.
        margin: By how much that exceeds the next probable class's.
        image: The path of the image that given features are of, where it is known.
    """

    picture: UInt8[ndarray, "height width channels"] | None
    pre_activation: Float32[Tensor, "units"]
    class_index: int
    class_name: str
    probability: float
    margin: float
    image: str | None = None

    @classmethod
    def of_picture(
        cls, network: CollisionNetwork, picture: UInt8[ndarray, "height width channels"]
    ) -> "Target":
        """Returns the target that an image makes.

        Raises:
            NetworkError: If the network gives it no finite probability.
        """
        batch = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            output = network(batch)
        return cls(
            picture,
            output.pre_activation[0].float(),
            *_classified(network, output.logits[0]),
        )

    @classmethod
    def of_features(
        cls,
        network: CollisionNetwork,
        pre_activation: Float32[Tensor, "units"],
        image: str | None = None,
    ) -> "Target":
        """Returns the target that given features make; no image need be known.

        Raises:
            NetworkError: If there are more or fewer features than units, if the network has a way
                round the layer, so that features alone do not decide the class, or if it gives them
                no finite probability.
        """
        features = pre_activation.to(network.device)
        with torch.no_grad():
            logits = network.classify_features(features[None])
        return cls(None, features, *_classified(network, logits[0]), image)

    @property
    def given_as(self) -> str:
        """``image`` or ``features``."""
        return "features" if self.picture is None else "image"

    @property
    def digest(self) -> str:
        """The SHA-256 of what was given: the picture or the features."""
        if self.picture is not None:
            return array_digest(self.picture)
        return array_digest(self.pre_activation.cpu().numpy())


def _classified(
    network: CollisionNetwork, logits: Float[Tensor, "classes"]
) -> tuple[int, str, float, float]:
    """Returns the most probable class, its name, its probability, and by how much it leads."""
    chances = logits.softmax(dim=0, dtype=torch.promote_types(logits.dtype, torch.float32))
    probability, index = chances.max(dim=0)
    require_finite(network, "target", float(probability))
    others = torch.cat([chances[:index], chances[index + 1 :], chances.new_zeros(1)])
    margin = float(probability - others.max())
    return int(index), network.class_name(int(index)), float(probability), margin


def require_finite(network: CollisionNetwork, what: str, probability: float) -> None:
    """Raises :class:`NetworkError` if what the network gives the source or target is no number."""
    if not math.isfinite(probability):
        raise NetworkError(
            f"{network.full_name} gives the {what} a probability of {probability}. Its weights "
            "hold values that are not finite, or it is not meant for such images."
        )
