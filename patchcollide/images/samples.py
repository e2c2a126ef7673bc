"""Grey samples of more than 8 bits, and the range that they are meant to fill.

Where neither the format nor the values tell it, the picture is refused, so that none turns black
unseen.
"""

import functools
import logging

import numpy as np

from patchcollide.shapes import UInt8, ndarray

logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """A reason of our own not to read a file."""


def in_eight_bits(samples: ndarray, kind: str) -> UInt8[ndarray, "h w"]:
    """Returns grey samples of more than 8 bits as 8, by the range that they are meant to fill.

    PNG and PPM say it: all 16 bits. Others leave it to the values: floating-point ones fill 0..1
    or 0..255, whole ones 0..255 or 16 bits.

    Args:
        samples: As they are stored.
        kind: The format of the file, as Pillow names it; empty if there is none.

    Raises:
        RefusedError: If nothing tells the range, or a sample lies out of any.
    """
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RefusedError("floating-point samples that are not all finite")
    if samples.dtype.kind == "f":
        if low < 0 or high > 0xFF:
            raise RefusedError(
                f"floating-point samples of {low:.6g} to {high:.6g}, expected 0..1 or 0..255"
            )
        _say_once(f"floating-point samples, taken as 0..{1 if high <= 1 else 255}")
        return np.rint(samples * (255.0 if high <= 1 else 1.0)).astype(np.uint8)
    if low < 0 or high > 0xFFFF:
        raise RefusedError(f"samples of 32 bits from {low} to {high}, expected 8 or 16 bits")
    if high > 0xFF or high == 0:
        return (samples >> 8).astype(np.uint8)
    if kind in ("PNG", "PPM"):
        raise RefusedError(
            f"samples of 16 bits that reach only {high} of 65535, all black in 8 bits; if they are "
            "meant as 0..255, save them in 8 bits"
        )
    _say_once("samples of more than 8 bits that reach no more than 255, taken as 0..255")
    return samples.astype(np.uint8)


@functools.cache
def _say_once(found: str) -> None:
    logger.info("There are pictures with %s.", found)
