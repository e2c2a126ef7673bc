"""Files that are no pictures are refused with their names and the reason."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import ImageError
from tests.helpers.pictures import noise, png_chunk, read, save


def png_announcing(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("size", [(60000, 60000), (10**9, 2), (1001, 1000)])
def test_a_bomb_is_refused_by_its_header(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_announcing(*size))
    message = rf"bomb\.png: too many pixels: {size[0]} x {size[1]} .*max_pixels = 1000000\. Scale"
    with pytest.raises(ImageError, match=message):
        read(path, max_pixels=1_000_000)


def test_the_limit_on_pixels_is_ours_and_not_that_of_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read(path, 10, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(ImageError, match="10 x 10 pixels, over max_pixels = 99"):
        read(path, 10, max_pixels=99)


def whole_file(suffix, **options):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, format=suffix, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "an empty file"),
        ("page.jpg", b"<!DOCTYPE html><p>404", r"not an image of a known format .*DOCTYPE"),
        ("layers.png", b"8BPS" + b"\0" * 60, r"not an image of a known format .*8BPS"),
        ("moving.png", b"GIF89a" + b"\0" * 60, "truncated|damaged"),
        ("letter.ppm", b"P", "not an image of a known format|damaged"),
        ("text.jpg", b"P6 abc", "damaged"),
        ("header.jpg", whole_file("JPEG")[:20], "truncated|damaged"),
        ("header.png", png_announcing(8, 8)[:33], "truncated|damaged"),
        ("header.bmp", whole_file("BMP")[:20], "truncated|damaged"),
        ("header.tif", whole_file("TIFF")[:10], "truncated|damaged"),
        ("header.gif", whole_file("GIF")[:20], "truncated|damaged"),
        ("header.webp", whole_file("WEBP")[:20], "truncated|damaged"),
        ("no rows.png", png_announcing(8, 8), "truncated|damaged"),
        ("no size.png", png_announcing(0, 8), "damaged"),
        ("half.jpg", whole_file("JPEG", quality=95)[:2000], "truncated"),
        ("half.png", whole_file("PNG")[:2000], "truncated"),
        ("half.bmp", whole_file("BMP")[:2000], "truncated"),
        ("half.tif", whole_file("TIFF")[:2000], "truncated|damaged"),
        ("half.webp", whole_file("WEBP", lossless=True)[:2000], "truncated|damaged"),
        ("half.ppm", whole_file("PPM")[:2000], "truncated"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"{name}: .*({reason}).*\. Replace or remove the file"):
        read(path)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_no_damage_escapes_as_another_error_or_as_a_warning(tmp_path, suffix):
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if suffix in ("BMP", "PPM", "GIF") else {"exif": exif}
    whole = np.frombuffer(whole_file(suffix, **options), np.uint8)
    path = tmp_path / "a.img"
    num_refused = 0
    for _ in range(150):
        damaged = whole.copy()
        # Half of the damage goes where headers and tables are.
        reach = generator.choice([120, len(whole)])
        places = generator.integers(2, min(reach, len(whole)), generator.integers(1, 6))
        damaged[places] = generator.integers(0, 256, len(places))
        path.write_bytes(damaged[: generator.integers(len(whole) // 2, 2 * len(whole))].tobytes())
        try:
            assert read(path, max_pixels=1_000_000).shape == (16, 16, 3)
        except ImageError:
            num_refused += 1
    assert num_refused > 0


def test_a_missing_file_a_folder_a_pipe_and_a_bad_name_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in [
        ("missing.jpg", r"missing\.jpg: no such file\. Check the path"),
        (".", "not a file but a folder, pipe or device"),
        ("pipe.jpg", "not a file but a folder, pipe or device"),
        ("a\0b.jpg", "null byte"),
        ("x" * 300, "File name too long"),
    ]:
        with pytest.raises(ImageError, match=reason):
            read(tmp_path / name)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "a.png", noise(4, 4))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png: permission denied\. Make the file readable"):
        read(path)
