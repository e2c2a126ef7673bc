"""How close vertices are to the source: in distance, to the eye, and in which detail."""

from typing import TypedDict

import numpy as np

from patchcollide.evaluation.visibility import block_share, similarity
from patchcollide.shapes import UInt8, ndarray


class Closeness(TypedDict):
    """How close vertices are to the source.

    Attributes:
        distance_mean: Of a vertex from the source, L2 in 0..255.
        distance_max: Of the farthest.
        ssim_mean: Structural similarity of a vertex and the source, 1 for equal images.
        ssim_min: Of the vertex least alike.
        block_share: The share of the squared difference that means over blocks keep; see
            :func:`patchcollide.evaluation.visibility.block_share`.
    """

    distance_mean: float
    distance_max: float
    ssim_mean: float
    ssim_min: float
    block_share: float


def measure_closeness(
    vertices: UInt8[ndarray, "vertices height width channels"],
    source: UInt8[ndarray, "height width channels"],
) -> Closeness:
    """Measures how close vertices are to the source.

    Args:
        vertices: RGB in 0..255; at least one.
        source: The image that they are to look like.
    """
    differences = vertices.astype(np.float64) - source
    distances = np.sqrt(np.square(differences).sum(axis=(1, 2, 3)))
    alike = [similarity(vertex, source) for vertex in vertices]
    return {
        "distance_mean": float(distances.mean()),
        "distance_max": float(distances.max()),
        "ssim_mean": float(np.mean(alike)),
        "ssim_min": float(np.min(alike)),
        "block_share": block_share(differences),
    }
