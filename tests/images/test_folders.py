"""Images are found in folders, and a share of each class is sampled."""

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from patchcollide.errors import ConfigError, ImageError
from patchcollide.images.folders import ImageFile
from patchcollide.images.listings import sample_images
from patchcollide.images.pictures import png_bytes
from patchcollide.images.sources import find_images
from tests.helpers.pictures import noise, read, save, smooth

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
