"""Where the vertices of a polytope differ most: the purple boxes of the paper's pictures."""

import numpy as np

from patchcollide.shapes import Int64, UInt8, ndarray

__all__ = ["NUM_BOXES", "box_size", "differing_boxes"]

NUM_BOXES = 4
_SHARE_OF_SIDE = 8


def box_size(vertices: UInt8[ndarray, "vertices height width channels"]) -> int:
    """Returns the side of a box that is an eighth of the pictures' shorter one, in pixels."""
    height, width = vertices.shape[1:3]
    return max(1, int(min(height, width)) // _SHARE_OF_SIDE)


def differing_boxes(
    vertices: UInt8[ndarray, "vertices height width channels"], *, count: int, size: int
) -> Int64[ndarray, "boxes 2"]:
    """Finds the squares in which images differ most from each other.

    Chosen one after the other, each the best that overlaps none before it; among equals the one
    further up, then further left. All sums are of whole numbers, so equals are equal.

    Args:
        vertices: Images, RGB in 0..255.
        count: How many squares, at most.
        size: Side of a square, in pixels.

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
    corners: list[tuple[int, int]] = []
    while len(corners) < count:
        row, col = (int(place) for place in np.unravel_index(sums.argmax(), sums.shape))
        if sums[row, col] <= 0:
            break
        corners.append((row, col))
        sums[max(0, row - size + 1) : row + size, max(0, col - size + 1) : col + size] = -1
    return np.array(corners, np.int64).reshape(-1, 2)


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
