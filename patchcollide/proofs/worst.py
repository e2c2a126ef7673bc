"""What every evaluation says of the worst image between vertices, and of layers without a bend.

Both are cheap beside its samples: some gradients, and nothing but the vertices.
"""

from typing import NotRequired, TypedDict

import torch

from patchcollide.errors import NetworkError, TargetError
from patchcollide.images.tensors import as_batch, as_pictures
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.proofs.attack import (
    RESTARTS,
    class_margin,
    find_worst_rounded,
    search_worst,
)
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.results import HullProof
from patchcollide.proofs.simplices import combined, whole
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Float64, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

# So many of the worst samples are among the rounded images that are measured again.
_SAMPLES = 4


class WorstRounded(TypedDict):
    """The image between vertices, rounded to 8 bits, that was found to be worst.

    Attributes:
        margin: Of the target's class, in logits; below 0 the image is of another class.
        probability: Of the target's class.
        weights: Of the vertices.
    """

    margin: float
    probability: float
    weights: list[float]


class WorstFound(TypedDict):
    """The image between vertices, not rounded, that gradients on the weights found to be worst.

    Attributes:
        margin: Of the target's class, in logits; below 0 the image is of another class.
        probability: Of the target's class.
        sampled_probability: The smallest of random samples, which are rounded to 8 bits.
        weights: Of the vertices.
        restarts: From how many points it was looked for.
        rounded: The worst of the images that are rounded as samples are: of those where restarts
            ended, of the worst samples, and of others around them; files of older versions lack it.
    """

    margin: float
    probability: float
    sampled_probability: float
    weights: list[float]
    restarts: int
    rounded: NotRequired[WorstRounded]


class HullClaims(TypedDict, total=False):
    """What is claimed of all images between vertices, where something is.

    Attributes:
        tau_at_vertices: Of a layer that is affine in the image: no image between the vertices is
            further from the target's features, by convexity.
        proofs: What was proved, by ``hull`` for images before rounding to 8 bits and ``rounded``
            for those after.
    """

    tau_at_vertices: float
    proofs: dict[str, HullProof]


@proof_modes()
def find_worst_sample(
    network: CollisionNetwork,
    vertices: UInt8[ndarray, "vertices height width channels"],
    target_class: int,
    weights: Float64[ndarray, "samples vertices"],
    probabilities: Float[ndarray, "samples"],
    seed: int,
) -> WorstFound:
    """Looks for images that are worse than random samples: one as it is, and one once rounded.

    Half of the restarts begin at the worst samples.

    Args:
        network: As it is.
        vertices: 8-bit images.
        target_class: Whose margin is to be small.
        weights: Of samples that were measured.
        probabilities: Of the target's class at these.
        seed: Decides where the other half of the restarts begin.
    """
    order = torch.from_numpy(probabilities).argsort()[: RESTARTS // 2]
    starts = torch.from_numpy(weights)[order]
    images, measure = as_batch(vertices).to(network.device), class_margin(network, target_class)
    search = search_worst(measure, images, seeded(seed, Purpose.WORST), starts=starts)
    points = torch.cat([search.worst.weights[None], search.ends, starts[:_SAMPLES]])
    rounded = find_worst_rounded(measure, images, points, seeded(seed, Purpose.WORST_ROUNDED))
    pair = torch.stack([search.worst.weights, rounded.weights])
    exact = combined(pair.to(images), images)
    shown = torch.cat([exact[:1], as_batch(as_pictures(exact[1:])).to(exact)])
    with torch.no_grad():
        probability, of_rounded = network.probabilities(shown)[:, target_class].tolist()
    return {
        "margin": search.worst.value,
        "probability": probability,
        "sampled_probability": float(probabilities.min()),
        "weights": search.worst.weights.tolist(),
        "restarts": RESTARTS,
        "rounded": {
            "margin": rounded.value,
            "probability": of_rounded,
            "weights": rounded.weights.tolist(),
        },
    }


@proof_modes()
def largest_distance(
    network: CollisionNetwork,
    vertices: UInt8[ndarray, "vertices height width channels"],
    target: Target,
) -> float | None:
    """Returns what the relative distance of features is nowhere above, where that is plain to see.

    Where a layer is affine in the image the distance is bounded by a convex function of the
    weights, which is largest at a vertex. None of other layers, and of networks without bounds.
    """
    # Something bends before any but the first.
    if network.usable_layers[:1] != [network.layer]:
        return None
    try:
        bounds = HullBounds.of(network, vertices, target, rounding=False)
    except (NetworkError, TargetError):
        return None
    if not bounds.is_convex:
        return None
    return float(bounds.distances(whole(len(vertices)), "convexity")[0])


def claims_of_hull(
    network: CollisionNetwork,
    vertices: UInt8[ndarray, "vertices height width channels"],
    target: Target,
    proofs: dict[str, HullProof] | None,
) -> HullClaims:
    """Returns what is claimed of a hull: what is plain to see, and earlier proofs of it, if any."""
    claims: HullClaims = {} if proofs is None else {"proofs": proofs}
    tau = largest_distance(network, vertices, target)
    return claims if tau is None else {**claims, "tau_at_vertices": tau}
