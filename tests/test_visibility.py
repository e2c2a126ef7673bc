"""How visible differences are: shares that add up, blurring that takes the fine ones away."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from patchcollide.visibility import measure_visibility, octave_energies


def block_means(image, side):
    """Every pixel replaced by the mean of its block, block by block."""
    result = np.empty_like(image)
    for top, left in itertools.product(*(range(0, n, side) for n in image.shape[:2])):
        block = np.s_[top : top + side, left : left + side]
        result[block] = image[block].mean(axis=(0, 1))
    return result


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 3), (1, 5, 2), (7, 12, 3), (16, 16, 1)])
def test_parts_are_those_of_block_means(shape, rng):
    image = rng.normal(size=shape)
    energies = octave_energies(image)
    for octave, energy in enumerate(energies):
        finer = block_means(image, 2**octave)
        coarser = block_means(image, 2 ** (octave + 1))
        last = octave == len(energies) - 1
        part = finer if last else finer - coarser
        assert energy == pytest.approx((part**2).sum(), abs=1e-9)
    assert 2 ** (len(energies) - 1) >= max(shape[:2])


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
        elements=st.floats(-255, 255),
    )
)
def test_parts_add_up_to_the_sum_of_squares(image):
    energies = octave_energies(image)
    assert energies.sum() == pytest.approx((image**2).sum(), abs=1e-6)
    assert energies.min() >= -1e-6


def images(*differences):
    """Grey images with something added."""
    base = np.full((32, 32, 3), 100)
    return np.stack([base, *(base + difference for difference in differences)]).astype(np.uint8)


def checkerboard(side):
    rows, cols = np.indices((32, 32)) // side
    return np.where((rows + cols) % 2, 30, -30)[..., None]


@pytest.mark.parametrize(("side", "octave"), [(1, 0), (2, 1), (8, 3), (16, 4)])
def test_a_checkerboard_is_in_the_octave_of_its_squares(side, octave):
    found = measure_visibility(images(checkerboard(side)))
    shares = [entry["share"] for entry in found["octaves"]]
    assert shares == pytest.approx([float(place == octave) for place in range(6)])
    assert found["octaves"][octave]["side_px"] == side


def test_a_uniform_difference_is_in_the_last_octave_and_survives_blurring():
    found = measure_visibility(images(20))
    assert [entry["share"] for entry in found["octaves"]] == pytest.approx([0, 0, 0, 0, 0, 1])
    assert [entry["rms"] for entry in found["halved"]] == pytest.approx([20, 20, 20, 20])


def test_blurring_takes_fine_differences_and_leaves_coarse_ones():
    fine, coarse = (measure_visibility(images(checkerboard(side))) for side in (1, 16))
    assert fine["halved"][0]["rms"] == coarse["halved"][0]["rms"] == pytest.approx(30)
    assert fine["halved"][2]["rms"] < 1
    assert coarse["halved"][2]["rms"] > 15


@pytest.mark.parametrize(("step", "share"), [(8, 0.0), (9, 0.25)])
def test_a_pixel_counts_when_a_channel_differs_by_more_than_eight(step, share):
    difference = np.zeros((32, 32, 3), int)
    difference[:16, :16, 1] = step
    assert measure_visibility(images(difference))["visible_share"] == share
    assert measure_visibility(images(-difference))["visible_share"] == share


def test_equal_images_are_alike_and_differ_nowhere():
    found = measure_visibility(images(0, 0))
    assert found["num_pairs"] == 3
    assert found["ssim_mean"] == found["ssim_min"] == pytest.approx(1)
    assert found["visible_share"] == 0
    assert {entry["share"] for entry in found["octaves"]} == {0.0}


def test_the_least_alike_pair_decides_the_smallest_similarity(rng):
    noise = rng.integers(-90, 90, (32, 32, 3))
    found = measure_visibility(images(0, noise))
    assert found["ssim_min"] < found["ssim_mean"] - 0.2 < 0.5


def test_one_vertex_has_no_pairs():
    found = measure_visibility(images())
    assert found["num_pairs"] == 0
    assert found["ssim_mean"] is found["visible_share"] is None
    assert found["octaves"] == found["halved"] == []


@pytest.mark.parametrize("side", [1, 2, 3, 5, 9])
def test_small_images_are_measured_too(side, rng):
    vertices = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    found = measure_visibility(vertices)
    assert sum(entry["share"] for entry in found["octaves"]) == pytest.approx(1)
    assert -1 <= found["ssim_min"] <= 1


def test_of_many_pairs_some_are_measured(rng):
    vertices = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    assert 60 <= measure_visibility(vertices)["num_pairs"] <= 120
