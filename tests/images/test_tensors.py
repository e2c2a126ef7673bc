import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from patchcollide.images.tensors import as_batch, as_pictures, to_channels

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))


@given(arrays(np.uint8, SHAPES))
def test_grey_is_what_pillow_makes_of_it(image):
    expected = np.array(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(to_channels(image, 1)[..., 0], expected)


def test_grey_survives_the_way_to_rgb_and_back():
    grey = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1)
    rgb = to_channels(grey, 3)
    assert rgb.shape == (2, 8, 16, 3)
    np.testing.assert_array_equal(to_channels(rgb, 1), grey)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_has_the_channels_already_stays_as_it_is(channels):
    images = np.zeros((2, 2, channels), np.uint8)
    assert to_channels(images, channels) is images


@pytest.mark.parametrize(("found", "wanted"), [(2, 3), (4, 3), (3, 2), (1, 0)])
def test_other_numbers_of_channels_are_refused(found, wanted):
    with pytest.raises(ValueError, match=rf"found {found}, and {wanted}"):
        to_channels(np.zeros((2, 2, found), np.uint8), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pictures_survive_the_way_to_the_network_and_back(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1)
    batch = as_batch(levels, dtype)
    assert (batch.dtype, batch.shape) == (dtype, (2, 1, 8, 16))
    assert torch.equal(batch[1, 0], torch.arange(128, 256).reshape(8, 16).to(dtype) / 255)
    np.testing.assert_array_equal(as_pictures(batch), levels)


def test_what_leaves_the_range_is_cut_off_and_halves_are_rounded_to_even():
    values = torch.tensor([-0.2, 0.5 / 255, 1.5 / 255, 0.7, 1.3]).reshape(1, 1, 1, 5)
    assert as_pictures(values).ravel().tolist() == [0, 0, 2, 178, 255]


def test_a_read_only_picture_is_not_written():
    image = np.full((1, 2, 2, 3), 255, np.uint8)
    image.flags.writeable = False
    as_batch(image).zero_()
    assert (image == 255).all()
