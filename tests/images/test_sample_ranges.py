"""Samples of many bits and of fractions are as bright as they are meant."""

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import ImageError
from patchcollide.images import pictures
from patchcollide.images import samples as decoded_samples
from tests.helpers.pictures import MANY, noise, read, save


def square(picture, size=16):
    return pictures.square_image(picture, size=size, fit="crop", max_pixels=MANY)


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
    decoded_samples._say_once.cache_clear()
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
