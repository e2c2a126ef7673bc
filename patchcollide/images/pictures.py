"""Pictures: read them as square images, or as they are, and write them as PNG files."""

import io
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from patchcollide.config import Config
from patchcollide.images.listings import PictureFile
from patchcollide.images.pillow import (
    Picture,
    UprightPicture,
    decode,
    explained,
    from_pixels,
    opened,
    over_white,
    resample,
    upright_picture,
)
from patchcollide.images.samples import RefusedError
from patchcollide.images.tensors import to_channels
from patchcollide.io.files import written_beside
from patchcollide.shapes import UInt8, ndarray

MAX_PIXELS = 100_000_000

# Of photographs 1 % larger than at Pillow's own level 6, but written more than twice as fast.
_PNG_LEVEL = 3


def read_image(
    path: Path | PictureFile,
    *,
    size: int,
    fit: Literal["crop", "squash"],
    max_pixels: int,
    channels: int = 3,
) -> UInt8[ndarray, "size size channels"]:
    """Reads a picture of any common kind as a square image, RGB or grey.

    The picture is turned as its EXIF orientation says, transparency is laid over white, and 16
    bits become 8. Resampling is bicubic with antialiasing; a JPEG much larger than ``size`` is
    first scaled down by its decoder, to twice ``size`` or more.

    Args:
        path: The file, or what opens one; its kind is told by its content, not by its suffix.
        size: Side of the result, in pixels.
        fit: ``"crop"`` scales the shorter side to ``size`` and crops the centre, ``"squash"``
            scales both sides to ``size``.
        max_pixels: Pictures whose header announces more are refused before they are decoded.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ImageError: If the file is missing, is no picture, is damaged, or is too large.
    """
    return _squared(decode(path, max_pixels, draft_px=2 * size), size, fit, channels)


def square_image(
    picture: Picture,
    *,
    size: int,
    fit: Literal["crop", "squash"],
    max_pixels: int,
    channels: int = 3,
) -> UInt8[ndarray, "size size channels"]:
    """Makes any picture square as :func:`read_image` does; one of that size stays as it is.

    Args:
        picture: A file, or what is in memory; that is not changed.
        size: See there, as for the rest.
        fit: See there.
        max_pixels: Of files.
        channels: See there.

    Raises:
        ImageError: As :func:`read_image`, and for arrays of another kind or shape.
    """
    if isinstance(picture, str | Path):
        path = Path(picture)
        return read_image(path, size=size, fit=fit, max_pixels=max_pixels, channels=channels)
    return _squared(upright_picture(picture), size, fit, channels)


def picture_size(picture: Picture) -> tuple[int, int]:
    """Returns the width and the height of a picture as it is shown.

    Raises:
        ImageError: As :func:`square_image`.
    """
    if isinstance(picture, str | Path):
        height, width = read_pixels(Path(picture)).shape[:2]
        return width, height
    return upright_picture(picture).size


def _squared(
    image: UprightPicture, size: int, fit: Literal["crop", "squash"], channels: int
) -> UInt8[ndarray, "size size channels"]:
    width, height = image.size
    # Only the box is resampled, so that a banner never becomes `size` high and far longer.
    side_x, side_y = (min(image.size),) * 2 if fit == "crop" else image.size
    left, top = (width - side_x) // 2, (height - side_y) // 2
    return to_channels(resample(image, left, top, side_x, side_y, size), channels)


def read_pixels(
    path: Path | PictureFile, *, max_pixels: int = MAX_PIXELS
) -> UInt8[ndarray, "h w 3"]:
    """Reads a picture as :func:`read_image` does, but at its own size.

    Raises:
        ImageError: As :func:`read_image`.
    """
    return np.array(over_white(decode(path, max_pixels)))


def resize_square(
    image: UInt8[ndarray, "h w 3"], *, left: int, top: int, side: int, size: int
) -> UInt8[ndarray, "size size 3"]:
    """Cuts the square at (``top``, ``left``) out of ``image`` and scales it to ``size`` pixels."""
    return resample(from_pixels(image), left, top, side, side, size)


def png_bytes(image: UInt8[ndarray, "h w channels"]) -> bytes:
    """Encodes ``image``, RGB or grey, as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    from_pixels(image).save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def jpeg_bytes(image: UInt8[ndarray, "h w 3"], quality: int = 85) -> bytes:
    """Encodes an RGB image as JPEG, for what is looked at and not measured."""
    buffer = io.BytesIO()
    from_pixels(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def write_png(path: Path, image: UInt8[ndarray, "h w channels"]) -> None:
    """Writes ``image`` as PNG, whole or not at all.

    Raises:
        DiskFullError: If the disk is full.
    """
    with written_beside(path) as partial:
        partial.write_bytes(png_bytes(image))


def read_png(path: Path) -> UInt8[ndarray, "h w channels"]:
    """Reads the very pixels that :func:`write_png` wrote.

    Raises:
        ImageError: If the file is missing, damaged, or anything but an 8-bit PNG, RGB or grey.
    """
    with explained(path), opened(path, MAX_PIXELS) as image:
        if image.format != "PNG" or image.mode not in ("RGB", "L"):
            found = f"found a {image.format} of mode {image.mode}"
            raise RefusedError(f"expected an RGB or grey PNG of 8 bits, {found}")
        pixels = np.atleast_3d(np.array(image))
        _require_checksums(path.read_bytes())
        return pixels


def _require_checksums(content: bytes) -> None:
    """Refuses a PNG with a chunk that does not have its checksum; Pillow looks at few of them."""
    place = 8
    while place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        if zlib.crc32(content[place + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise RefusedError(f"a flipped bit in its chunk at byte {place}")
        place = end + 4


def read_square(
    config: Config, picture: Picture, size: int, channels: int = 3
) -> UInt8[ndarray, "size size channels"]:
    """Makes any picture square as section ``images`` says; ImageError if it cannot be read."""
    fit, max_pixels = config.images.fit, config.images.max_pixels
    return square_image(picture, size=size, fit=fit, max_pixels=max_pixels, channels=channels)
