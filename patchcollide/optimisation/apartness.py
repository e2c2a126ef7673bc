"""How far vertices are apart, and from the source, as a descent is to see it."""

import math

import torch

from patchcollide.images.tensors import pairwise_distances
from patchcollide.shapes import Float, Tensor

_TINY = 1e-9


def apartness(
    images: Float[Tensor, "vertices channels height width"], *, block: int, preference: float
) -> Tensor:
    """Returns the logarithm of the vertices' distance, less what of it is detail of small blocks.

    Args:
        images: The vertices, in ``[0, 1]``; at least two.
        block: The side of a block, px; 1 for distance as it is.
        preference: How much more a share of the distance counts that is left after blurring.
    """
    if block == 1:
        return _mean_distance(images).log()
    # Overlapping, or vertices would come to differ in squares on the grid of the blocks.
    blurred = torch.nn.functional.avg_pool2d(images, block, stride=-(-block // 4))
    coarse = _mean_distance(blurred).log()
    return (1 + preference) * coarse - preference * _mean_distance(images).log()


def remoteness(
    images: Float[Tensor, "vertices channels height width"],
    source: Float[Tensor, "1 channels height width"],
) -> Tensor:
    """Returns the mean over images of the root mean square difference from the source, of 0..1."""
    squares = (images - source).flatten(1).square().mean(dim=1)
    remote: Tensor = (squares + _TINY**2).sqrt().mean()
    return remote


def _mean_distance(images: Float[Tensor, "vertices channels height width"]) -> Tensor:
    """The mean distance of pairs, as a share of the range."""
    return pairwise_distances(images).mean() / (255 * math.sqrt(images[0].numel()))
