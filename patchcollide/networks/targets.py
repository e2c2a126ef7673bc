"""What vertices are to collide with: an image's features, or features alone."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from patchcollide.config import Config
from patchcollide.errors import NetworkError
from patchcollide.images.tensors import as_batch
from patchcollide.io.provenance import array_digest
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.network import CollisionNetwork
from patchcollide.shapes import Bool, Float, Float32, Tensor, UInt8, ndarray


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
        with torch.no_grad():
            output = network(as_batch(picture[None]))
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

    def features(self, network: CollisionNetwork) -> "TargetFeatures":
        """Returns the features as a network's layer has them, on its device."""
        return TargetFeatures.of(self.pre_activation.to(network.device), network.blind)

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


class HasTarget(ABC):
    """A network and a target, with which images collide or not, and the settings they go by."""

    @property
    @abstractmethod
    def config(self) -> Config:
        """The settings: how pictures become squares, and what features may differ by."""

    @property
    @abstractmethod
    def network(self) -> CollisionNetwork:
        """The network that is asked."""

    @property
    @abstractmethod
    def target(self) -> Target:
        """What images collide with."""
