"""Pictures: decode them into square images, write them as PNG files.

The only module that imports Pillow. Colour profiles are not applied, animations and multi-page
files give their first picture. Samples of more than 8 bits become 8 by the range that their format
or their values tell; where neither does, the picture is refused, so that none turns black unseen.
"""

import contextlib
import functools
import io
import logging
import stat
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.images.tensors import to_channels
from patchcollide.io.files import require_open_files, written_beside
from patchcollide.shapes import UInt8, ndarray

Picture = str | Path | Image.Image | ndarray

"""A file, a picture of Pillow's, or an uint8 array (height, width, 1 or 3) or (height, width)."""

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000

# Of the rest that Pillow reads, some run other programs, some are told by their suffix alone.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000")

# What a JPEG of several pictures, as of stereo cameras, is to Pillow.
_JPEG_TOO = ("MPO",)

# Of photographs 1 % larger than at Pillow's own level 6, but written more than twice as fast.
_PNG_LEVEL = 3

ANIMATIONS = {".webp": "WEBP", ".gif": "GIF"}

_LINE_PX = 16

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


def read_image(
    path: Path, *, size: int, fit: Literal["crop", "squash"], max_pixels: int, channels: int = 3
) -> UInt8[ndarray, "size size channels"]:
    """Reads a picture of any common kind as a square image, RGB or grey.

    The picture is turned as its EXIF orientation says, transparency is laid over white, and 16
    bits become 8. Resampling is bicubic with antialiasing; a JPEG much larger than ``size`` is
    first scaled down by its decoder, to twice ``size`` or more.

    Args:
        path: The file; its kind is told by its content, not by its suffix.
        size: Side of the result, in pixels.
        fit: ``"crop"`` scales the shorter side to ``size`` and crops the centre, ``"squash"``
            scales both sides to ``size``.
        max_pixels: Pictures whose header announces more are refused before they are decoded.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ImageError: If the file is missing, is no picture, is damaged, or is too large.
    """
    return _squared(_decode(path, max_pixels, draft_px=2 * size), size, fit, channels)


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """Returns the suffixes of the files that :func:`read_image` reads, in small letters, dotted.

    What Pillow decodes depends on how it was built: AVIF and JPEG 2000 are not always among it.
    """
    known = Image.registered_extensions()
    readable = {*(kind for kind in _FORMATS if kind in Image.OPEN), *_JPEG_TOO}
    return frozenset(suffix for suffix, kind in known.items() if kind in readable)


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
    return _squared(_plain(picture), size, fit, channels)


def picture_size(picture: Picture) -> tuple[int, int]:
    """Returns the width and the height of a picture as it is shown.

    Raises:
        ImageError: As :func:`square_image`.
    """
    if isinstance(picture, str | Path):
        height, width = read_pixels(Path(picture)).shape[:2]
        return width, height
    return _plain(picture).size


def _plain(picture: Image.Image | ndarray) -> Image.Image:
    """Brings what is in memory into an upright picture of mode L, RGB or RGBA."""
    if isinstance(picture, Image.Image):
        try:
            return _upright(picture)
        except _RefusedError as error:
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
    plain = picture[:, :, 0] if channels == (1,) else picture
    return Image.fromarray(np.ascontiguousarray(plain))


def _squared(
    image: Image.Image, size: int, fit: Literal["crop", "squash"], channels: int
) -> UInt8[ndarray, "size size channels"]:
    width, height = image.size
    # Only the box is resampled, so that a banner never becomes `size` high and far longer.
    side_x, side_y = (min(image.size),) * 2 if fit == "crop" else image.size
    left, top = (width - side_x) // 2, (height - side_y) // 2
    return to_channels(_resample(image, left, top, side_x, side_y, size), channels)


def read_pixels(path: Path, *, max_pixels: int = MAX_PIXELS) -> UInt8[ndarray, "h w 3"]:
    """Reads a picture as :func:`read_image` does, but at its own size.

    Raises:
        ImageError: As :func:`read_image`.
    """
    return np.array(_over_white(_decode(path, max_pixels)))


def resize_square(
    image: UInt8[ndarray, "h w 3"], *, left: int, top: int, side: int, size: int
) -> UInt8[ndarray, "size size 3"]:
    """Cuts the square at (``top``, ``left``) out of ``image`` and scales it to ``size`` pixels."""
    return _resample(Image.fromarray(image), left, top, side, side, size)


def png_bytes(image: UInt8[ndarray, "h w channels"]) -> bytes:
    """Encodes ``image``, RGB or grey, as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    plain = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(np.ascontiguousarray(plain)).save(
        buffer, format="PNG", compress_level=_PNG_LEVEL
    )
    return buffer.getvalue()


def jpeg_bytes(image: UInt8[ndarray, "h w 3"], quality: int = 85) -> bytes:
    """Encodes an RGB image as JPEG, for what is looked at and not measured."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def write_png(path: Path, image: UInt8[ndarray, "h w channels"]) -> None:
    """Writes ``image`` as PNG, whole or not at all.

    Raises:
        DiskFullError: If there is no room left.
    """
    with written_beside(path) as partial:
        partial.write_bytes(png_bytes(image))


def captioned(
    image: UInt8[ndarray, "h w channels"], lines: Sequence[str]
) -> UInt8[ndarray, "taller w 3"]:
    """Returns an image in RGB with lines of text on white beneath it; the image is not touched."""
    height, width = image.shape[:2]
    sheet = Image.new("RGB", (width, height + _LINE_PX * len(lines)), "white")
    sheet.paste(Image.fromarray(to_channels(image, 3)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LINE_PX - 4)
    for number, line in enumerate(lines):
        draw.text((2, height + number * _LINE_PX), line, fill="black", font=font)
    return np.array(sheet)


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
        DiskFullError: If there is no room left.
    """
    kind = ANIMATIONS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"--out {path} should end in {' or '.join(ANIMATIONS)}.")
    first, *others = [Image.fromarray(to_channels(frame, 3)) for frame in frames]
    exact = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    with written_beside(path) as partial:
        first.save(
            partial,
            format=kind,
            save_all=True,
            append_images=others,
            duration=round(1000 * frame_s),
            loop=0,
            **exact,
        )


def read_png(path: Path) -> UInt8[ndarray, "h w channels"]:
    """Reads the exact pixels that :func:`write_png` wrote.

    Raises:
        ImageError: If the file is missing, damaged, or anything but an 8-bit PNG, RGB or grey.
    """
    with _explained(path), _opened(path, MAX_PIXELS) as image:
        if image.format != "PNG" or image.mode not in ("RGB", "L"):
            found = f"found a {image.format} of mode {image.mode}"
            raise _RefusedError(f"expected an RGB or grey PNG of 8 bits, {found}")
        pixels = np.atleast_3d(np.array(image))
        _require_checksums(path.read_bytes())
        return pixels


def _require_checksums(content: bytes) -> None:
    """Refuses a PNG with a chunk that does not have its checksum; Pillow looks at few of them."""
    place = 8
    while place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        if zlib.crc32(content[place + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise _RefusedError(f"a flipped bit in its chunk at byte {place}")
        place = end + 4


class _RefusedError(Exception):
    """A reason of our own not to read a file."""


def _decode(path: Path, max_pixels: int, draft_px: int | None = None) -> Image.Image:
    """Decodes into an upright picture of mode L, RGB or RGBA."""
    with _explained(path), _opened(path, max_pixels) as image:
        if draft_px is not None:
            image.draft(None, (draft_px, draft_px))
        return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    """Returns a picture of mode L, RGB or RGBA, turned as its EXIF orientation says."""
    image.load()
    # Only now: a PNG may hold it behind its pixels, and a TIFF turns itself while it loads.
    turn = _UPRIGHT.get(_orientation(image))
    plain = _eight_bit(image)
    return plain if turn is None else plain.transpose(turn)


@contextlib.contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _RefusedError("not a file but a folder, pipe or device")
    if not status.st_size:
        raise _RefusedError("an empty file")
    with path.open("rb") as file:
        image = _identify(file)
        width, height = image.size
        if width * height > max_pixels:
            raise Image.DecompressionBombError(
                f"{width} x {height} pixels, over max_pixels = {max_pixels}"
            )
        yield image


def _identify(file: BinaryIO) -> Image.Image:
    # Not Image.open: it refuses or warns at a limit of its own, which is global to the process.
    Image.init()
    prefix = file.read(16)
    for name in _FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        answer = accept is not None and accept(prefix)
        # What Pillow knows but was built without it says in words.
        if isinstance(answer, str):
            raise _RefusedError(" ".join(answer.split()))
        if factory is not None and answer is True:
            file.seek(0)
            return factory(file, "")
    raise _RefusedError(
        f"not an image of a known format ({', '.join(_FORMATS)}): it starts with {prefix!r}"
    )


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns whatever a bad file makes Pillow raise into an :class:`ImageError`."""
    try:
        with _PILLOW_HUSHED:
            yield
    except Exception as error:
        require_open_files(error, path)
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
    if isinstance(error, _RefusedError):
        return text, _REPLACE
    return f"damaged ({text})", _REPLACE


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # A camera's broken notes do not make its picture unreadable.
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_scaled(np.asarray(image), image))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _scaled(samples: ndarray, image: Image.Image) -> UInt8[ndarray, "h w"]:
    """Returns grey samples of more than 8 bits as 8, by the range that they are meant to fill.

    PNG and PPM say it: all 16 bits. Others leave it to the values: floating-point ones fill 0..1
    or 0..255, whole ones 0..255 or 16 bits.
    """
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _RefusedError("floating-point samples that are not all finite")
    if image.mode == "F":
        if low < 0 or high > 0xFF:
            raise _RefusedError(
                f"floating-point samples of {low:.6g} to {high:.6g}, expected 0..1 or 0..255"
            )
        _say_once(f"floating-point samples, taken as 0..{1 if high <= 1 else 255}")
        return np.rint(samples * (255.0 if high <= 1 else 1.0)).astype(np.uint8)
    if low < 0 or high > 0xFFFF:
        raise _RefusedError(f"samples of 32 bits from {low} to {high}, expected 8 or 16 bits")
    if high > 0xFF or high == 0:
        return (samples >> 8).astype(np.uint8)
    if image.format in ("PNG", "PPM"):
        raise _RefusedError(
            f"samples of 16 bits that reach only {high} of 65535, all black in 8 bits; if they are "
            "meant as 0..255, save them in 8 bits"
        )
    _say_once("samples of more than 8 bits that reach no more than 255, taken as 0..255")
    return samples.astype(np.uint8)


@functools.cache
def _say_once(found: str) -> None:
    logger.info("There are pictures with %s.", found)


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _resample(
    image: Image.Image, left: int, top: int, width: int, height: int, size: int
) -> UInt8[ndarray, "size size 3"]:
    box = (left, top, left + width, top + height)
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(_over_white(resized))


class _PillowHushed:
    """Ignores Pillow's warnings while at least one thread is decoding.

    The filters of ``warnings`` are one for all threads, so threads that saved and restored them
    on their own could leave them changed for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._saved = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._saved.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"(PIL|patchcollide\.images)\b")
            self._num_inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                self._saved.close()


_PILLOW_HUSHED = _PillowHushed()


def read_square(
    config: Config, path: Path, size: int, channels: int = 3
) -> UInt8[ndarray, "size size channels"]:
    """Reads a picture as section ``images`` says; ImageError if it cannot be read."""
    fit, max_pixels = config.images.fit, config.images.max_pixels
    return read_image(path, size=size, fit=fit, max_pixels=max_pixels, channels=channels)
