"""Images with one channel or three: what networks see may be grey, what stores hold is RGB."""

import numpy as np

from patchcollide.shapes import UInt8, ndarray

# ITU-R 601-2 in 16 bits, as Pillow and most others compute it; they add up to one.
_LUMA = np.array([19595, 38470, 7471], np.uint32)


def to_channels(
    images: UInt8[ndarray, "*batch height width found"], channels: int
) -> UInt8[ndarray, "*batch height width channels"]:
    """Returns images with the channels wanted, 1 or 3.

    Grey is ITU-R 601-2 luma, rounded; of equal red, green and blue exactly these. RGB of a grey
    image is it three times.

    Raises:
        ValueError: If an image has, or is to have, other than 1 or 3 channels.
    """
    found = images.shape[-1]
    if {found, channels} - {1, 3}:
        raise ValueError(f"Expected 1 or 3 channels, but found {found}, and {channels} are wanted.")
    if found == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return ((images @ _LUMA + (1 << 15)) >> 16).astype(np.uint8)[..., None]
