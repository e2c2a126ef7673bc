"""Where the pixels of compositions come from, as a page shows it: patches, their images, shares."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchcollide.contributions import Contributions
from patchcollide.images import jpeg_bytes, resize_square
from patchcollide.neighbours import Neighbours
from patchcollide.shapes import Int64, UInt8, ndarray

__all__ = ["Origin", "contributions_data", "origins_of", "sprite_of"]

THUMB_PX = 32
_UNKNOWN = "an image without a name"


@dataclass(frozen=True)
class Origin:
    """An image that patches come from.

    Attributes:
        name: Its name in the store.
        share: Part of all vertices' pixels that comes from it, 0..1.
        num_patches: How many of its patches are among the neighbours composed.
    """

    name: str
    share: float
    num_patches: int


def origins_of(
    contributions: Contributions, neighbours: Neighbours, positions_per_image: int
) -> list[Origin]:
    """Lists the images that vertices are composed of, those with the largest share first.

    Args:
        contributions: Of the run's vertices.
        neighbours: What they are composed of.
        positions_per_image: Patches of each image of the store, which their identifiers count by.
    """
    shares = contributions.shares.mean(axis=0, dtype=np.float64)
    ids = neighbours.ids[:, : shares.shape[1]]
    there = ids >= 0
    numbers, places = np.unique(ids[there] // positions_per_image, return_inverse=True)
    total = np.bincount(places, weights=shares[there], minlength=len(numbers))
    counts = np.bincount(places, minlength=len(numbers))
    found = [
        Origin(neighbours.image_names.get(int(number), _UNKNOWN), float(share), int(count))
        for number, share, count in zip(numbers, total, counts, strict=True)
    ]
    return sorted(found, key=lambda origin: (-origin.share, origin.name))


def contributions_data(
    contributions: Contributions, neighbours: Neighbours, positions_per_image: int
) -> tuple[dict[str, Any], Int64[ndarray, "patches 2"]]:
    """Returns what ``pixels.js`` needs to say where a pixel comes from.

    Returns:
        The data, in which patches are numbered anew; and location and rank of each of these.
    """
    k = neighbours.ids.shape[1]
    numbers = contributions.locations * k + contributions.ranks
    used, patches = np.unique(numbers, return_inverse=True)
    chosen = np.stack([used // k, used % k], axis=1)
    images = neighbours.ids[chosen[:, 0], chosen[:, 1]] // positions_per_image
    shown, places = np.unique(images, return_inverse=True)
    data = {
        "blocks": contributions.parts.shape[1],
        "most": contributions.parts.shape[3],
        "patches": patches.ravel().tolist(),
        "parts": np.rint(1000 * contributions.parts).astype(int).ravel().tolist(),
        "images": places.tolist(),
        "names": [neighbours.image_names.get(int(number), _UNKNOWN) for number in shown],
        "thumb": THUMB_PX,
        "columns": _columns(len(used)),
    }
    return data, chosen


def sprite_of(neighbours: Neighbours, chosen: Int64[ndarray, "patches 2"]) -> bytes:
    """Returns one JPEG with the windows of neighbours, row by row at :data:`THUMB_PX` pixels.

    Args:
        neighbours: Where they are.
        chosen: Their locations and ranks; at least one.
    """
    columns = _columns(len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = np.zeros((rows * THUMB_PX, columns * THUMB_PX, 3), np.uint8)
    for place, (location, rank) in enumerate(chosen):
        top, left = (THUMB_PX * part for part in divmod(place, columns))
        sheet[top : top + THUMB_PX, left : left + THUMB_PX] = _thumb(
            neighbours.windows[location, rank]
        )
    return jpeg_bytes(sheet)


def _thumb(window: UInt8[ndarray, "side side 3"]) -> UInt8[ndarray, "thumb thumb 3"]:
    side = len(window)
    if side == THUMB_PX:
        return window
    return resize_square(np.ascontiguousarray(window), left=0, top=0, side=side, size=THUMB_PX)


def _columns(num_patches: int) -> int:
    return max(1, math.isqrt(num_patches))
