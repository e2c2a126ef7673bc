import io
import math
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from patchcollide.errors import ConfigError, ImageError
from patchcollide.images import pictures
from patchcollide.images.folders import ImageFile, find_images, sample_images
from patchcollide.images.pictures import (
    png_bytes,
    read_image,
    read_pixels,
    read_png,
    resize_square,
    write_png,
)

MANY = 10_000_000


def noise(height, width, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    """A picture with a different slope along each side, which no turn maps onto itself."""
    rows, cols = np.mgrid[:height, :width]
    planes = [255 * rows / height, 255 * cols / width, 127 * (rows / height + cols / width)]
    return np.stack(planes, axis=2).astype(np.uint8)


def save(path, image, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return path


def read(path, size=16, fit="crop", max_pixels=MANY):
    return read_image(path, size=size, fit=fit, max_pixels=max_pixels)


def square(picture, size=16):
    return pictures.square_image(picture, size=size, fit="crop", max_pixels=MANY)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_announcing(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_16_bit(samples, colour_type, extra=b""):
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + body


# Finding ------------------------------------------------------------------------------------------


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_images_are_found_by_suffix_and_sorted_by_name(tmp_path):
    touch(tmp_path, "b/2.PNG", "b/1.jpeg", "a/deep/x.tiff", "z.ppm", "b/notes.txt", "b/clip.mp4")
    listing = find_images(tmp_path)
    assert [file.name for file in listing.files] == [
        "a/deep/x.tiff",
        "b/1.jpeg",
        "b/2.PNG",
        "z.ppm",
    ]
    assert [file.label for file in listing.files] == ["a", "b", "b", ""]
    assert all(file.path == tmp_path / file.name for file in listing.files)
    assert listing.num_links == 0
    assert listing.others == ("b/clip.mp4", "b/notes.txt")


@pytest.mark.parametrize(
    "suffix", ["jfif", "jpe", "JPG", "pgm", "pbm", "pnm", "gif", "apng", "mpo", "tif", "dib"]
)
def test_every_suffix_of_a_readable_format_is_found(tmp_path, suffix):
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM", "pbm": "PPM", "pnm": "PPM", "apng": "PNG"}
    content = noise(9, 9, 1 if suffix in ("pgm", "pbm") else 3)
    path = save(tmp_path / f"a.{suffix}", content, format=kinds.get(suffix))
    if suffix == "dib":  # A bitmap without a file's header is told by its suffix alone.
        with pytest.raises(ImageError, match="found none, only 1 other"):
            find_images(tmp_path)
        return
    (file,) = find_images(tmp_path).files
    assert (file.path, read(file.path, size=9).shape) == (path, (9, 9, 3))


def test_avif_is_found_where_pillow_reads_it(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    image = smooth(32, 32)
    save(tmp_path / "a.avif", image, quality=100)
    (file,) = find_images(tmp_path).files
    assert np.abs(read(file.path, size=32).astype(int) - image).max() <= 6


def test_the_first_picture_of_a_gif_is_read(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    path = save(tmp_path / "a.gif", first, save_all=True, append_images=[second])
    assert (read(path) == (255, 0, 0)).all()


def test_what_is_left_out_is_counted_by_suffix_in_one_line(tmp_path):
    names = [f"{kind}-{number}.s{kind}" for kind in range(7) for number in range(7 - kind)]
    touch(tmp_path, "a.jpg", "README", *names)
    listing = find_images(tmp_path)
    assert listing.others == tuple(sorted(["README", *names]))
    kinds = "7 .s0, 6 .s1, 5 .s2, 4 .s3, 3 .s4"
    assert listing.described_others() == f"{kinds}, 4 others; such as 0-0.s0"


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a.jpg", ".b.jpg", ".thumbnails/c.jpg")
    assert [file.name for file in find_images(tmp_path).files] == ["a.jpg"]


def test_links_are_counted_but_not_followed(tmp_path):
    folder = tmp_path / "photos"
    touch(tmp_path, "photos/a/1.jpg", "photos/a/notes.txt", "elsewhere/2.jpg")
    (folder / "a" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    (folder / "a" / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    (folder / "folder").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "parent").symlink_to(folder)
    (folder / "a" / "itself").symlink_to(folder / "a" / "itself")
    (folder / "a" / "linked.txt").symlink_to(folder / "a" / "notes.txt")
    listing = find_images(folder)
    assert [file.name for file in listing.files] == ["a/1.jpg"]
    assert listing.num_links == 5


def test_the_folder_itself_may_be_a_link(tmp_path):
    touch(tmp_path, "photos/1.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert [file.name for file in find_images(tmp_path / "link").files] == ["1.jpg"]


def test_names_that_are_not_unicode_become_text_that_can_be_stored(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(png_bytes(noise(4, 4)))
    (file,) = find_images(tmp_path).files
    assert file.name.encode() == b"caf\\xe9.png"
    assert read(file.path, size=4).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("names", "place", "message"),
    [
        ([], "missing", r"Expected a folder.*missing does not exist.*Check the path"),
        (["a.jpg"], "a.jpg", r"Expected a folder.*a\.jpg is a file"),
        (
            ["d/a.mp4", "d/b.txt"],
            "d",
            r"Expected images \(\.[a-z].* \.bmp.*found none, only 2 other files",
        ),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path, names, place, message):
    touch(tmp_path, *names)
    with pytest.raises(ImageError, match=message):
        find_images(tmp_path / place)


def test_a_folder_that_cannot_be_listed_is_not_silently_left_out(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def scandir_refusing_b(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_refusing_b)
    with pytest.raises(ImageError, match=r"b cannot be listed \(Permission denied\)"):
        find_images(tmp_path)


# Sampling -----------------------------------------------------------------------------------------


def members(label, count):
    names = [
        f"{label}/{number:04d}.jpg" if label else f"{number:04d}.jpg" for number in range(count)
    ]
    return [ImageFile(Path("photos") / name, name, label) for name in names]


@pytest.mark.parametrize(
    ("fraction", "count", "expected"),
    [
        (0.1, 1300, 130),
        (0.29, 100, 29),
        (0.07, 100, 7),
        (1.0, 13, 13),
        (0.5, 3, 1),
        (1e-3, 1000, 1),
    ],
)
@pytest.mark.parametrize("label", ["", "n01440764"])
def test_the_share_of_a_class_is_exact(fraction, count, expected, label):
    assert len(sample_images(members(label, count), fraction, 0)) == expected


@given(
    percent=st.integers(1, 100),
    sizes=st.lists(st.integers(0, 150), min_size=1, max_size=4),
    seed=st.integers(0, 2**63 - 1),
)
def test_each_class_gives_the_floor_of_its_share(percent, sizes, seed):
    files = [file for label, size in enumerate(sizes) for file in members(f"c{label}", size)]
    counts = [math.floor(Fraction(percent, 100) * size) for size in sizes]
    if not any(counts):
        with pytest.raises(ImageError, match="leaves no images"):
            sample_images(files, percent / 100, seed)
        return
    chosen = sample_images(files, percent / 100, seed)
    found = [sum(file.label == f"c{label}" for file in chosen) for label in range(len(sizes))]
    assert found == counts
    assert chosen == sorted(set(chosen), key=lambda file: file.name)


def test_a_class_is_sampled_alike_whatever_the_others_and_the_order():
    cats, dogs = members("cats", 50), members("dogs", 40)
    alone = sample_images(cats, 0.3, 7)
    together = sample_images([*dogs, *reversed(cats)], 0.3, 7)
    assert [file for file in together if file.label == "cats"] == alone


def test_classes_of_one_size_are_sampled_differently_and_by_seed():
    def numbers(label, seed):
        return [file.path.stem for file in sample_images(members(label, 60), 0.2, seed)]

    assert numbers("cats", 1) == numbers("cats", 1)
    assert numbers("cats", 1) != numbers("dogs", 1)
    assert numbers("cats", 1) != numbers("cats", 2)


def test_a_smaller_sample_is_part_of_a_larger_one():
    files = members("cats", 100)
    assert set(sample_images(files, 0.1, 3)) < set(sample_images(files, 0.2, 3))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (members("a", 3) + members("b", 5), "2 classes with 3 to 5 images each"),
        ([], "0 classes with 0 to 0"),
    ],
)
def test_a_sample_of_nothing_is_refused(files, message):
    with pytest.raises(ImageError, match=message):
        sample_images(files, 0.1, 0)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, math.nan])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        sample_images(members("a", 3), fraction, 0)


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


@pytest.mark.parametrize("kind", ["int32", "uint16", "float32"])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_grey_tiffs_of_0_to_255_keep_their_values(tmp_path, kind, share):
    grey = (noise(16, 16, 1) * share).astype(np.uint8)
    path = save(tmp_path / "a.tif", Image.fromarray(grey.astype(kind)))
    expected = np.stack([grey] * 3, axis=2)
    assert np.array_equal(read(path), expected)
    assert np.array_equal(square(Image.fromarray(grey.astype(kind))), expected)


@pytest.mark.parametrize("suffix", ["tif", "pfm"])
def test_floating_point_grey_of_0_to_1_keeps_its_values(tmp_path, suffix):
    grey = noise(16, 16, 1)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray((grey / 255).astype(np.float32)))
    assert np.array_equal(read(path)[..., 0], grey)


@pytest.mark.parametrize("kind", ["int32", "uint16"])
def test_grey_tiffs_of_16_bits_become_8(tmp_path, kind):
    grey = noise(16, 16, 1)
    path = save(tmp_path / "a.tif", Image.fromarray((grey.astype(np.uint16) * 257).astype(kind)))
    assert np.array_equal(read(path)[..., 0], grey)


@pytest.mark.parametrize("maximum", [200, 255, 1023, 65535])
def test_a_pgm_is_as_bright_as_its_header_says(tmp_path, maximum):
    samples = np.array([[0, maximum], [maximum // 2, maximum // 5]])
    path = tmp_path / "a.pgm"
    content = samples.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    path.write_bytes(b"P5 2 2 %d\n" % maximum + content)
    found = read(path, size=2)[..., 0].astype(int)
    assert np.abs(found - 255 * samples / maximum).max() <= 1


def test_a_range_that_is_taken_for_another_is_said(tmp_path, caplog):
    path = save(tmp_path / "a.tif", Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8)))
    pictures._say_once.cache_clear()
    with caplog.at_level("INFO"):
        read(path)
        read(path)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.endswith("that reach no more than 255, taken as 0..255.")


@pytest.mark.parametrize(
    ("suffix", "samples", "reason"),
    [
        ("tif", np.full((4, 4), 300, np.float32), r"samples of 300 to 300, expected 0\.\.1 or"),
        ("tif", np.full((4, 4), -0.5, np.float32), r"samples of -0\.5 to -0\.5, expected"),
        ("tif", np.full((4, 4), np.nan, np.float32), "not all finite"),
        ("tif", np.full((4, 4), 70000, np.int32), "samples of 32 bits from 70000 to 70000"),
        ("tif", np.full((4, 4), -1, np.int32), "samples of 32 bits from -1 to -1"),
        ("png", np.full((4, 4), 200, np.uint16), "reach only 200 of 65535, all black in 8 bits"),
        ("pgm", np.full((4, 4), 200, np.uint16), "reach only 200 of 65535, all black in 8 bits"),
    ],
)
def test_samples_of_no_known_range_are_refused(tmp_path, suffix, samples, reason):
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(samples))
    with pytest.raises(ImageError, match=reason):
        read(path)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_black_picture_of_many_bits_is_black(tmp_path, kind):
    path = save(tmp_path / "a.tif", Image.fromarray(np.zeros((8, 8), kind)))
    assert not read(path).any()


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
