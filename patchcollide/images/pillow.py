"""What Pillow does for pictures: identify, decode, turn, resample, letter.

The only module that imports it. Colour profiles are not applied, animations and multi-page files
give their first picture.
"""

import contextlib
import functools
import io
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TypeAlias, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from patchcollide.errors import ImageError, StoreError
from patchcollide.images.hushing import PILLOW_HUSHED
from patchcollide.images.listings import PictureFile
from patchcollide.images.samples import RefusedError, in_eight_bits
from patchcollide.io.files import require_open_files
from patchcollide.shapes import UInt8, ndarray

Picture = str | Path | Image.Image | ndarray
"""A file, a picture of Pillow's, or an uint8 array (height, width, 1 or 3) or (height, width)."""

UprightPicture: TypeAlias = Image.Image
"""What is decoded: turned as its EXIF orientation says, of mode L, RGB or RGBA."""

# Of the rest that Pillow reads, some run other programs, some are told by their suffix alone.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000")

# What a JPEG of several pictures, as of stereo cameras, is to Pillow.
_JPEG_TOO = ("MPO",)

_REPLACE = "Replace or remove the file."

_ORIENTATION_TAG = 0x0112

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """Returns the suffixes of the files that :func:`decode` reads, in small letters, dotted.

    What Pillow decodes depends on how it was built: AVIF and JPEG 2000 are not always among it.
    """
    known = Image.registered_extensions()
    readable = {*(kind for kind in _FORMATS if kind in Image.OPEN), *_JPEG_TOO}
    return frozenset(suffix for suffix, kind in known.items() if kind in readable)


def upright_picture(picture: Image.Image | ndarray) -> UprightPicture:
    """Brings what is in memory into an upright picture.

    Raises:
        ImageError: If it is of another kind or shape, or of samples whose range nothing tells.
    """
    if isinstance(picture, Image.Image):
        try:
            return _upright(picture)
        except RefusedError as error:
            raise ImageError(f"The picture given has {error}. Convert it to RGB or L.") from error
    channels = picture.shape[2:]
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or channels not in ((), (1,), (3,)):
        raise ImageError(
            "A picture in memory should be an uint8 array of 0..255 of shape (height, width), "
            f"(height, width, 1) or (height, width, 3), but is {picture.dtype} of shape "
            f"{picture.shape}. Convert it."
        )
    if not picture.size:
        raise ImageError(f"A picture should have pixels, but its shape is {picture.shape}.")
    return from_pixels(picture)


def from_pixels(pixels: UInt8[ndarray, "h w ..."]) -> UprightPicture:
    """Returns pixels, RGB or grey, as a picture of Pillow's."""
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))


def lettered(
    image: UInt8[ndarray, "h w 3"], texts: Mapping[tuple[int, int], str], size_px: int
) -> UInt8[ndarray, "h w 3"]:
    """Returns an image with texts in black.

    Args:
        image: RGB; it is not changed.
        texts: By the pixel, x and y, that they begin at.
        size_px: Of the letters.
    """
    sheet = from_pixels(image)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size_px)
    for place, text in texts.items():
        draw.text(place, text, fill="black", font=font)
    return np.array(sheet)


def decode(
    path: Path | PictureFile, max_pixels: int, draft_px: int | None = None
) -> UprightPicture:
    """Decodes a file into an upright picture.

    Args:
        path: The file, or what opens one; its kind is told by its content, not by its suffix.
        max_pixels: Pictures whose header announces more are refused before they are decoded.
        draft_px: To what size or more a JPEG may be scaled down by its decoder; None for its own.

    Raises:
        ImageError: If the file is missing, is no picture, is damaged, or is too large.
    """
    with explained(path), opened(path, max_pixels) as image:
        if draft_px is not None:
            image.draft(None, (draft_px, draft_px))
        return _upright(image)


def _upright(image: Image.Image) -> UprightPicture:
    """Returns a picture of mode L, RGB or RGBA, turned as its EXIF orientation says."""
    image.load()
    # Only now: a PNG may hold it behind its pixels, and a TIFF turns itself while it loads.
    turn = _UPRIGHT.get(_orientation(image))
    plain = _eight_bit(image)
    return plain if turn is None else plain.transpose(turn)


@contextlib.contextmanager
def opened(path: Path | PictureFile, max_pixels: int) -> Iterator[Image.Image]:
    """Gives a picture as its file has it, not decoded yet; see :func:`explained` for its errors."""
    with open_picture(path) if isinstance(path, Path) else path.open() as file:
        image = _identify(file)
        width, height = image.size
        if width * height > max_pixels:
            raise Image.DecompressionBombError(
                f"{width} x {height} pixels, over max_pixels = {max_pixels}"
            )
        yield image


def open_picture(path: Path) -> io.BufferedReader:
    """Opens a file that may be a picture.

    Raises:
        RefusedError: If it is empty, or anything but a file.
        OSError: If it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("not a file but a folder, pipe or device")
    if not status.st_size:
        raise RefusedError("an empty file")
    return path.open("rb")


def _identify(file: io.BufferedIOBase) -> Image.Image:
    # Not Image.open: it refuses or warns at a limit of its own, which is global to the process.
    Image.init()
    prefix = file.read(16)
    for name in _FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        answer = accept is not None and accept(prefix)
        # What Pillow knows but was built without it says in words.
        if isinstance(answer, str):
            raise RefusedError(" ".join(answer.split()))
        if factory is not None and answer is True:
            file.seek(0)
            return factory(cast(IO[bytes], file), "")
    raise RefusedError(
        f"not an image of a known format ({', '.join(_FORMATS)}): it starts with {prefix!r}"
    )


@contextlib.contextmanager
def explained(path: Path | PictureFile) -> Iterator[None]:
    """Turns whatever a bad file makes Pillow raise into an :class:`ImageError`.

    That the archive it lies in is gone is no fault of the picture's: that passes.
    """
    try:
        with PILLOW_HUSHED:
            yield
    except StoreError:
        raise
    except Exception as error:
        require_open_files(error, str(path))
        reason, advice = _explain(error)
        raise ImageError(f"{path}: {reason}. {advice}") from error


def _explain(error: Exception) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        return "no such file", "Check the path."
    if isinstance(error, PermissionError):
        return "permission denied", "Make the file readable, or remove it."
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels: {error}", "Scale it down, or set images.max_pixels higher."
    if isinstance(error, MemoryError):
        return "not enough memory to decode it", "Scale it down, or remove it."
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})", "Check the disk, then the file."
    if "truncated" in text.lower() or "unexpected end" in text.lower():
        return f"truncated ({text})", _REPLACE
    if isinstance(error, RefusedError):
        return text, _REPLACE
    return f"damaged ({text})", _REPLACE


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # A camera's broken notes do not make its picture unreadable.
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(in_eight_bits(np.asarray(image), image.format or ""))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def over_white(image: UprightPicture) -> UprightPicture:
    """Returns a picture in RGB, its transparency laid over white."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def resample(
    image: UprightPicture, left: int, top: int, width: int, height: int, size: int
) -> UInt8[ndarray, "size size 3"]:
    """Cuts a box out of a picture and scales it to a square, bicubically with antialiasing."""
    box = (left, top, left + width, top + height)
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(over_white(resized))


def as_jpeg(
    image: UInt8[ndarray, "height width channels"], quality: int
) -> UInt8[ndarray, "height width channels"]:
    """Returns what a JPEG file of a quality in 1..95 keeps of an image, grey or RGB."""
    file = io.BytesIO()
    from_pixels(image).save(file, "JPEG", quality=quality)
    with Image.open(file, formats=["JPEG"]) as kept:
        return np.array(kept).reshape(image.shape)
