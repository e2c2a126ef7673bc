"""Recognises a picture among others by a thumbnail, also after resizing or compressing it again.

A composition that may use patches of the source or the target shows nothing. Copies that were
mirrored, trimmed or brightened are not recognised: leave those out by name (``retrieval.exclude``).
"""

import numpy as np

from patchcollide.shapes import Bool, UInt8, ndarray

THUMBNAIL_SIZE = 8

# Root mean square, in grey levels. Saving a photograph as JPEG or scaling it changes the means of
# its 64 blocks by about one level; of two different photographs they differ by tens.
_SAME_PICTURE = 3.0


def thumbnail(image: UInt8[ndarray, "side side 3"]) -> UInt8[ndarray, "8 8 3"]:
    """Returns the mean colours of 8 x 8 blocks of an image of at least 8 pixels."""
    edges = np.linspace(0, len(image), THUMBNAIL_SIZE + 1).round().astype(np.int64)
    sums = image.astype(np.float64)
    for axis in (0, 1):
        sums = np.add.reduceat(sums, edges[:-1], axis=axis)
    areas = np.diff(edges)[:, None] * np.diff(edges)[None]
    return np.asarray(np.rint(sums / areas[..., None]).astype(np.uint8))


def near_copies(
    thumbnails: UInt8[ndarray, "n 8 8 3"], image: UInt8[ndarray, "side side 3"]
) -> Bool[ndarray, "n"]:
    """Says which thumbnails are those of ``image`` or a near copy of it.

    Pictures that are nearly one colour may be taken for each other: leaving one out costs little.
    """
    difference = thumbnails.astype(np.float64) - thumbnail(image)
    mean_square = np.square(difference).mean(axis=(1, 2, 3))
    return np.asarray(mean_square <= _SAME_PICTURE**2)
