"""Pictures of every kind are read as people see them, and written without a change."""

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import ImageError
from patchcollide.images.pictures import png_bytes, read_pixels, read_png, resize_square, write_png
from tests.helpers.pictures import noise, png_chunk, read, save, smooth


def png_16_bit(samples, colour_type, extra=b""):
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + body


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("size", [1, 2, 17])
def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path, size, fit):
    image = noise(size, size)
    assert np.array_equal(read(save(tmp_path / "a.png", image), size, fit), image)


@pytest.mark.parametrize(
    ("shape", "rows", "cols"),
    [((8, 13), slice(0, 8), slice(2, 10)), ((13, 8), slice(2, 10), slice(0, 8))],
)
def test_cropping_at_equal_scale_keeps_the_pixels_of_the_centre(tmp_path, shape, rows, cols):
    image = noise(*shape)
    assert np.array_equal(read(save(tmp_path / "a.png", image), 8), image[rows, cols])


def test_cropping_equals_scaling_all_then_cropping(tmp_path):
    image = smooth(60, 150)
    scaled = np.asarray(Image.fromarray(image).resize((50, 20), Image.Resampling.BICUBIC))
    found = read(save(tmp_path / "a.png", image), 20)
    # The borders see pixels beyond the crop in one order and not in the other.
    assert np.abs(found[2:-2, 2:-2].astype(int) - scaled[2:-2, 17:33]).max() <= 1


def test_squashing_keeps_the_whole_picture(tmp_path):
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 255
    squashed = read(save(tmp_path / "a.png", image), 10, "squash")
    assert squashed[:, :4].max() < 10
    assert squashed[:, 6:].min() > 245


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 1), (20, 4000), (4000, 20), (1, 30000)])
def test_tiny_images_and_banners_fill_the_square(tmp_path, shape, fit):
    image = np.full((*shape, 3), (200, 100, 50), np.uint8)
    found = read(save(tmp_path / "a.png", image), 24, fit)
    assert found.shape == (24, 24, 3)
    assert (found == (200, 100, 50)).all()


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.ppm", {}, 0),
        ("a.tif", {}, 0),
        ("a.tiff", {"compression": "tiff_lzw"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 95}, 6),
        ("a.jpg", {"quality": 98, "subsampling": 0}, 6),
        ("png inside.JPEG", {"format": "PNG"}, 0),
        ("jpeg inside.png", {"format": "JPEG", "quality": 98, "subsampling": 0}, 6),
    ],
)
def test_every_format_is_read_by_its_content(tmp_path, name, options, tolerance):
    image = smooth(32, 32)
    found = read(save(tmp_path / name, image, **options), 32)
    assert np.abs(found.astype(int) - image).max() <= tolerance


def test_the_first_picture_of_a_stereo_jpeg_is_read(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    path = save(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=[second])
    assert read(path)[..., 0].min() > 250


def odd_pictures():
    """Kind -> suffix, picture to save, RGB pixels expected."""
    grey = noise(16, 16, 1)
    colour = noise(16, 16)
    rgb_of_grey = np.stack([grey] * 3, axis=2)
    bits = Image.fromarray(grey).convert("1")
    palette = Image.fromarray(colour).quantize(8)
    opacity = noise(16, 16, 1, seed=1) // 128 * 255
    shown = opacity[..., None] > 0
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    ink = [Image.fromarray(255 - colour[..., channel]) for channel in range(3)]
    cmyk = Image.merge("CMYK", [*ink, Image.new("L", (16, 16), 0)])
    rgba = Image.fromarray(np.dstack([colour, opacity]))
    grey_alpha = Image.fromarray(np.dstack([grey, opacity]))
    return {
        "grey": ("png", Image.fromarray(grey), rgb_of_grey),
        "one bit": ("png", bits, np.asarray(bits.convert("RGB"))),
        "palette": ("png", palette, np.asarray(palette.convert("RGB"))),
        "rgba": ("png", rgba, np.where(shown, colour, 255)),
        "rgba webp": ("webp", rgba, np.where(shown, colour, 255)),
        "grey alpha": ("png", grey_alpha, np.where(shown, rgb_of_grey, 255)),
        "16 bits": ("png", wide, rgb_of_grey),
        "16 bits tiff": ("tif", wide, rgb_of_grey),
        "cmyk": ("tif", cmyk, colour),
    }


@pytest.mark.parametrize("kind", list(odd_pictures()))
def test_odd_pictures_become_the_colours_people_see(tmp_path, kind):
    suffix, picture, expected = odd_pictures()[kind]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", picture, **options)
    assert np.array_equal(read(path), expected)
    assert np.array_equal(read_pixels(path), expected)


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGBA", (8, 8), (0, 100, 255, 127)))
    assert np.abs(read(path, 5).astype(int) - (128, 178, 255)).max() <= 1


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path, transparency):
    picture = Image.fromarray(np.repeat([[0, 1]], 4, axis=0).astype(np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    path = save(tmp_path / "a.png", picture, transparency=transparency)
    assert read_pixels(path)[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_a_grey_cmyk_jpeg_is_grey(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 155)), quality=98)
    assert np.abs(read(path).astype(int) - 100).max() <= 2


def test_colours_of_16_bits_become_8(tmp_path):
    colour = noise(16, 16)
    transparent = png_chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    for extra in (b"", transparent):
        path = tmp_path / "a.png"
        path.write_bytes(png_16_bit(colour.astype(np.uint16) * 257, 2, extra))
        assert np.array_equal(read(path), colour)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_gives_an_upright_picture(tmp_path, orientation, suffix):
    upright = smooth(40, 63)
    # What the sensor stored: the upright picture, undone by the inverse of what a reader does.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    picture = np.ascontiguousarray(stored)
    path = save(tmp_path / f"a.{suffix}", picture, exif=exif, **options)
    expected = read(save(tmp_path / "upright.png", upright), 40)
    assert np.abs(read(path, 40).astype(int) - expected).max() <= (8 if suffix == "jpg" else 0)


def test_broken_exif_does_not_make_a_picture_unreadable(tmp_path):
    path = save(tmp_path / "a.jpg", smooth(16, 16), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\1\2\3")
    assert read(path).shape == (16, 16, 3)


def test_a_large_jpeg_is_scaled_by_its_decoder_and_looks_the_same(tmp_path, monkeypatch):
    image = smooth(401, 615)
    as_jpeg = save(tmp_path / "a.jpg", image, quality=98, subsampling=0)
    as_png = save(tmp_path / "a.png", image)
    decoded = []
    load = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, *a, **k: decoded.append(self.size) or load(self, *a, **k),
    )
    difference = read(as_jpeg, 24).astype(int) - read(as_png, 24)
    assert decoded[:2] == [(77, 51), (615, 401)]
    assert np.abs(difference).max() <= 6


def test_threads_that_decode_leave_the_filters_of_warnings_as_they_were(tmp_path):
    path = save(tmp_path / "a.png", noise(64, 64))
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read, [path] * 60))) == 60
    assert warnings.filters == before


# Writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (17, 31)])
def test_png_files_give_their_exact_pixels_back(tmp_path, shape):
    image = noise(*shape)
    path = tmp_path / "new" / "a.png"
    write_png(path, image)
    assert np.array_equal(read_png(path), image)
    assert path.read_bytes() == png_bytes(image) == png_bytes(np.asfortranarray(image))
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("picture", "options", "reason"),
    [
        (
            noise(4, 4, 4),
            {"format": "PNG"},
            "expected an RGB or grey PNG of 8 bits, found a PNG of",
        ),
        (noise(4, 4), {"format": "BMP"}, "expected an RGB or grey PNG of 8 bits, found a BMP of"),
    ],
)
def test_only_8_bit_png_files_have_exact_pixels(tmp_path, picture, options, reason):
    with pytest.raises(ImageError, match=reason):
        read_png(save(tmp_path / "a.png", picture, **options))


def test_a_truncated_png_file_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(noise(32, 32))[:500])
    with pytest.raises(ImageError, match=r"a\.png: truncated"):
        read_png(path)


def test_squares_are_cut_where_they_are_asked_for():
    image = noise(9, 14)
    assert np.array_equal(resize_square(image, left=3, top=2, side=5, size=5), image[2:7, 3:8])
    assert resize_square(image, left=0, top=0, side=9, size=4).shape == (4, 4, 3)
