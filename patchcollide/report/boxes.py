"""Where the vertices of a polytope differ most: the purple boxes of the paper's pictures.

And which two of them do, as people see it: in coarse detail.
"""

import itertools

import numpy as np

from patchcollide.shapes import Float64, Int64, UInt8, ndarray

__all__ = ["NUM_BOXES", "box_size", "differing_boxes", "differing_pair"]

NUM_BOXES = 4
_SHARE_OF_SIDE = 8
_BLOCKS_A_SIDE = 28
"""Blocks of 8 pixels in 224: finer detail is not seen at a glance."""


def box_size(vertices: UInt8[ndarray, "vertices height width channels"]) -> int:
    """Returns the side of a box that is an eighth of the pictures' shorter one, in pixels."""
    height, width = vertices.shape[1:3]
    return max(1, int(min(height, width)) // _SHARE_OF_SIDE)


def differing_boxes(
    vertices: UInt8[ndarray, "vertices height width channels"],
    *,
    count: int,
    size: int,
    margin: int = 0,
) -> Int64[ndarray, "boxes 2"]:
    """Finds the squares in which images differ most from each other.

    Chosen one after the other, each the best that overlaps none before it; among equals the one
    further up, then further left. All sums are of whole numbers, so equals are equal.

    Args:
        vertices: Images, RGB in 0..255.
        count: How many squares, at most.
        size: Side of a square, in pixels.
        margin: What their outlines take outside of them, in pixels: so far from the borders they
            stay, and twice as far from each other. Images too small for that have none.

    Returns:
        Top left corners (row, column), in pixels, best first; fewer than ``count`` where no place
        or no difference is left.

    Raises:
        ValueError: If ``count`` or ``size`` is less than 1, or a square does not fit.

    Source:
        Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019, whose
        boxes were placed by eye.
    """
    height, width = vertices.shape[1:3]
    if count < 1 or not 1 <= size <= min(height, width):
        raise ValueError(
            f"Expected a count of at least 1 and a size of 1 to {min(height, width)}, but found "
            f"{count} and {size}."
        )
    sums = _window_sums(_pairwise_squares(vertices), size)
    sums = sums[margin : len(sums) - margin, margin : sums.shape[1] - margin]
    corners: list[tuple[int, int]] = []
    near = size + 2 * margin
    while len(corners) < count and sums.size:
        row, col = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
        if sums[row, col] <= 0:
            break
        corners.append((row, col))
        sums[max(0, row - near + 1) : row + near, max(0, col - near + 1) : col + near] = -1
    return np.array(corners, np.int64).reshape(-1, 2) + margin


def differing_pair(
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> tuple[int, int] | None:
    """Finds the two images that differ most in coarse detail: in means over blocks of 8 pixels.

    So many in 224 pixels, a 28th of another side. Noise, which is large and which nobody minds,
    does not decide.

    Returns:
        Their numbers, the smaller one first, of equals the first; None of a single image.
    """
    means = _block_means(vertices)
    pairs = list(itertools.combinations(range(len(vertices)), 2))
    if not pairs:
        return None
    return max(pairs, key=lambda pair: float(np.square(means[pair[0]] - means[pair[1]]).sum()))


def _block_means(
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> Float64[ndarray, "vertices rows columns channels"]:
    values = vertices.astype(np.float64)
    for axis in (1, 2):
        length = values.shape[axis]
        starts = np.unique(np.arange(_BLOCKS_A_SIDE) * length // _BLOCKS_A_SIDE)
        sizes = np.diff(np.append(starts, length)).reshape(-1, *[1] * (3 - axis))
        values = np.add.reduceat(values, starts, axis=axis) / sizes
    return values


def _pairwise_squares(
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> Int64[ndarray, "height width"]:
    """Returns at each pixel the squared differences of all pairs, summed: V sum v^2 - (sum v)^2."""
    values = vertices.astype(np.int64)
    squares = len(values) * np.square(values).sum(axis=0) - np.square(values.sum(axis=0))
    return np.asarray(squares.sum(axis=-1))


def _window_sums(
    values: Int64[ndarray, "height width"], size: int
) -> Int64[ndarray, "rows columns"]:
    """Returns the sum of each window, by its top left corner, from a table of cumulative sums."""
    table = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inner = table[size:, size:] - table[:-size, size:] - table[size:, :-size]
    return np.asarray(inner + table[:-size, :-size])
