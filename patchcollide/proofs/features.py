"""The features that those of images between vertices are to be near."""

import math
from dataclasses import dataclass

import torch

from patchcollide.errors import TargetError
from patchcollide.images.tensors import as_batch
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.bands import Band, run_forward
from patchcollide.proofs.programs import Program
from patchcollide.proofs.tracing import FEATURES
from patchcollide.shapes import Float64, Tensor


@dataclass(frozen=True, eq=False)
class FeatureBand:
    """A target's features, with their rounding, and how far they are from a silent layer's.

    Attributes:
        plain: As the network in float64 has them.
        lower: No larger than they are.
        upper: No smaller.
        scale: No larger than their L2 distance from silence; 0 where rounding leaves nothing sure,
            as it does behind many layers.
        floor: What each would be of a silent layer.
    """

    plain: Float64[Tensor, "units"]
    lower: Float64[Tensor, "units"]
    upper: Float64[Tensor, "units"]
    scale: float
    floor: float

    def distance(self, features: Float64[Tensor, "images units"]) -> Float64[Tensor, "images"]:
        """Returns the relative distance of features from the target's, differentiable."""
        scale = torch.linalg.vector_norm(self.plain - self.floor)
        tau: Tensor = torch.linalg.vector_norm(features - self.plain, dim=1) / scale
        return tau

    def relative(self, distance: float) -> float:
        """Returns what the relative distance is nowhere above where that from ``plain`` is so."""
        if self.scale == 0:
            return math.inf
        rounded = torch.maximum(self.upper - self.plain, self.plain - self.lower)
        off = float(torch.linalg.vector_norm(rounded))
        return (1 + (len(rounded) + 8) * EPSILON) * (distance + off) / self.scale

    @classmethod
    def of(cls, network: CollisionNetwork, program: Program, target: Target) -> "FeatureBand":
        """Returns those of a target; of a picture as the network in float64 has them.

        Raises:
            TargetError: If the layer says nothing of it.
        """
        if target.picture is not None:
            image = as_batch(target.picture[None], torch.float64)[None, None]
            number = program.outputs[FEATURES]
            found = run_forward(program, Band.around(image), number)[number]
            with torch.no_grad():
                plain = network.blind.respond(network.pre_activation(image[0, 0])[0])
        else:
            plain = network.blind.respond(target.pre_activation.double().cpu())
            found = Band(plain[None, None], 64 * EPSILON * (1 + plain.abs())[None, None])
        lower, upper = (end.flatten() for end in found.ends())
        floor = network.blind.floor
        least = torch.maximum(lower - floor, floor - upper).clamp(min=0)
        scale = (1 - 1e-12) * float(torch.linalg.vector_norm(least))
        if bool((plain == floor).all()):
            raise TargetError(
                f"No unit of layer '{network.layer}' responds to the target, so there is nothing "
                "to measure distances of features by. Choose another target or another layer."
            )
        return cls(plain, lower, upper, scale, floor)
