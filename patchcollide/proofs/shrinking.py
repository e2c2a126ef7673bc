"""Hulls that are shrunk towards their centre until all images between their vertices are proved."""

import logging

import numpy as np

from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import Claim, Prover
from patchcollide.proofs.results import HullProof
from patchcollide.proofs.tracing import read_program
from patchcollide.shapes import Float32, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)

SECONDS_EACH = 2.5
"""How long to refine the proof of each size."""

_SMALLEST = 1 / 64
_BISECTIONS = 3


def require_bounds(network: CollisionNetwork) -> None:
    """Raises :class:`NetworkError` if a part of a network has no bounds; before a long descent."""
    read_program(network.in_float64().to("cpu"))


@proof_modes()
def shrink_until_proved(
    network: CollisionNetwork,
    vertices: Float32[ndarray, "vertices height width channels"],
    target: Target,
    *,
    gamma: float | None,
    seed: int,
    seconds: float = SECONDS_EACH,
) -> tuple[Float32[ndarray, "vertices height width channels"], float]:
    """Moves vertices towards their mean until what they claim is proved.

    The size is halved until that is so, then bisected. What is proved are the images between the
    vertices once these are rounded to 8 bits, as files hold them.

    Args:
        network: What they were found with.
        vertices: 0 to 255, not rounded.
        target: What they collide with.
        gamma: What features may differ by; None for the class alone.
        seed: Of the search for the worst image.
        seconds: To refine the proof of each size.

    Returns:
        The vertices, and their distance from the mean as a share of what it was. It is 0, and they
        are as they were, if nothing was proved.

    Raises:
        NetworkError: If a part of the network has no bounds.
    """

    def proof_at(scale: float) -> HullProof:
        images = rounded(shrunk(vertices, scale))
        bounds = HullBounds.of(network, images, target, rounding=False)
        return Prover(bounds, Claim(gamma, seconds=seconds, seed=seed, parts=False)).run()

    low, high, scale, bisections = 0.0, 1.0, 1.0, 0
    while scale >= _SMALLEST and bisections < _BISECTIONS:
        proof = proof_at(scale)
        logger.info("At %.3g of its size the hull is %s.", scale, proof["result"])
        if proof["result"] == "proved":
            low = scale
        else:
            high = scale
        if low == 1:
            break
        bisections += low > 0
        scale = (low + high) / 2 if low else scale / 2
    if not low:
        logger.warning(
            "The hull could not be proved at any size, so its vertices stay as they were found: %s",
            proof["sentence"],
        )
    return shrunk(vertices, low or 1.0), low


def shrunk(
    vertices: Float32[ndarray, "vertices height width channels"], scale: float
) -> Float32[ndarray, "vertices height width channels"]:
    """Returns vertices moved towards their mean, to a share of their distance from it."""
    if scale == 1:
        return vertices
    centre = vertices.mean(axis=0, dtype=np.float64)
    return np.asarray((centre + scale * (vertices - centre)).astype(np.float32))


def rounded(
    vertices: Float32[ndarray, "vertices height width channels"],
) -> UInt8[ndarray, "vertices height width channels"]:
    """Returns vertices as their PNG files hold them."""
    return np.asarray(np.rint(vertices).astype(np.uint8))
