"""Animations of images, captioned where words belong to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from patchcollide.errors import ImageError
from patchcollide.images.pillow import from_pixels, lettered
from patchcollide.images.tensors import to_channels
from patchcollide.io.files import written_beside
from patchcollide.shapes import UInt8, ndarray

ANIMATIONS = {".webp": "WEBP", ".gif": "GIF"}
"""The format that each suffix stands for."""

_LINE_PX = 16


def captioned(
    image: UInt8[ndarray, "h w channels"], lines: Sequence[str]
) -> UInt8[ndarray, "taller w 3"]:
    """Returns an image in RGB with lines of text on white beneath it; the image is not touched."""
    height, width = image.shape[:2]
    sheet = np.full((height + _LINE_PX * len(lines), width, 3), 0xFF, np.uint8)
    sheet[:height] = to_channels(image, 3)
    places = [(2, height + number * _LINE_PX) for number in range(len(lines))]
    return lettered(sheet, dict(zip(places, lines, strict=True)), _LINE_PX - 4)


def write_animation(
    path: Path, frames: Sequence[UInt8[ndarray, "h w channels"]], frame_s: float
) -> None:
    """Writes images of one size as an animation without end, whole or not at all.

    WebP keeps every value; GIF has at most 256 colours a frame.

    Args:
        path: The file; its suffix, one of :data:`ANIMATIONS`, decides the format.
        frames: At least one.
        frame_s: How long each is shown, in seconds.

    Raises:
        ImageError: If the suffix is another.
        DiskFullError: If the disk is full.
    """
    kind = ANIMATIONS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"--out {path} should end in {' or '.join(ANIMATIONS)}.")
    first, *others = [from_pixels(to_channels(frame, 3)) for frame in frames]
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    with written_beside(path) as partial:
        first.save(
            partial,
            format=kind,
            save_all=True,
            append_images=others,
            duration=round(1000 * frame_s),
            loop=0,
            **lossless,
        )
