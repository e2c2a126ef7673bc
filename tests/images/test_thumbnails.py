"""The leak guard finds a picture again, and only that one."""

import io

import numpy as np
import pytest
from PIL import Image

from patchcollide.images.thumbnails import near_copies, thumbnail


def photograph(seed, size=96):
    """Smooth shapes with a fine texture over them, like a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return np.array(Image.open(buffer))


def resized(image, size, resample=Image.Resampling.BICUBIC):
    return np.array(Image.fromarray(image).resize((size, size), resample))


def there_and_back(image, size):
    return resized(resized(image, size), len(image))


@pytest.mark.parametrize("size", [8, 9, 12, 15, 16, 21, 100, 224])
def test_a_thumbnail_holds_the_means_of_blocks(size, rng):
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    found = thumbnail(image)
    edges = [round(number * size / 8) for number in range(9)]
    for row in range(8):
        for col in range(8):
            block = image[edges[row] : edges[row + 1], edges[col] : edges[col + 1]]
            values = block.reshape(-1, 3).astype(float)
            assert len(values) > 0
            assert np.abs(found[row, col] - sum(values) / len(values)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("size", [8, 13])
def test_a_thumbnail_of_one_colour_is_that_colour(value, size):
    assert (thumbnail(np.full((size, size, 3), value, np.uint8)) == value).all()


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: image,
        lambda image: as_jpeg(image, 95),
        lambda image: as_jpeg(image, 50),
        lambda image: as_jpeg(image, 30),
        lambda image: resized(image, 64),
        lambda image: resized(image, 224),
        lambda image: resized(image, 71, Image.Resampling.NEAREST),
        lambda image: there_and_back(image, 33),
        lambda image: as_jpeg(there_and_back(image, 48), 60),
    ],
    ids=["same", "jpeg95", "jpeg50", "jpeg30", "smaller", "larger", "nearest", "back", "both"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_copy_that_was_saved_or_scaled_again_is_found_among_others(copy, seed):
    others = [thumbnail(photograph(100 + number)) for number in range(20)]
    stored = np.stack([*others[:7], thumbnail(photograph(seed)), *others[7:]])
    found = near_copies(stored, copy(photograph(seed)))
    assert np.flatnonzero(found).tolist() == [7]


def test_no_two_different_pictures_are_taken_for_each_other():
    pictures = [photograph(seed) for seed in range(40)]
    stored = np.stack([thumbnail(picture) for picture in pictures])
    found = np.stack([near_copies(stored, picture) for picture in pictures])
    assert np.array_equal(found, np.eye(40, dtype=bool))


@pytest.mark.parametrize("change", [np.fliplr, np.rot90, lambda image: 255 - image])
def test_a_mirrored_turned_or_inverted_picture_is_another_one(change):
    stored = thumbnail(photograph(3))[None]
    changed = np.ascontiguousarray(change(photograph(3)))
    assert not near_copies(stored, changed).any()


@pytest.mark.parametrize("num", [1, 2, 5])
def test_the_bound_is_three_grey_levels_in_the_root_mean_square(num, rng):
    image = np.full((16, 16, 3), 100, np.uint8)
    within, beyond = np.full((2, 8, 8, 3), 100, np.uint8)
    within += 3
    beyond += 3
    beyond[0, 0, 0] += 1
    stored = np.stack([within, beyond] * num)
    assert near_copies(stored, image).tolist() == [True, False] * num
