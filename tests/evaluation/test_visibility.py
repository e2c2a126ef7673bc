"""How visible differences are: shares that add up, blurring that takes the fine ones away."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from patchcollide.evaluation.visibility import (
    band_energies,
    coarse_side,
    measure_visibility,
    measure_yardsticks,
    spectrum,
)
from tests.helpers.presence import present


def slow_bands(image):
    """The same parts, from the projection onto each product of cosines, one by one."""
    height, width, _ = image.shape
    count = math.floor(math.log2(max(height, width))) + 1
    parts = np.zeros(count + 1)
    for i, j in itertools.product(range(height), range(width)):
        rows = np.cos(np.pi * (np.arange(height) + 0.5) * i / height)
        columns = np.cos(np.pi * (np.arange(width) + 0.5) * j / width)
        wave = np.outer(rows, columns)[..., None]
        energy = ((image * wave).sum(axis=(0, 1)) ** 2).sum() / (wave**2).sum()
        half_period = 1 / math.hypot(i / height, j / width) if i or j else math.inf
        octave = count if half_period == math.inf else max(0, math.floor(math.log2(half_period)))
        parts[octave] += energy
    return parts


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 3), (1, 5, 2), (7, 12, 3), (16, 16, 1)])
def test_parts_are_those_of_a_sum_over_cosines(shape, rng):
    image = rng.normal(size=shape)
    assert band_energies(spectrum(image)) == pytest.approx(slow_bands(image), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
        elements=st.floats(-255, 255),
    )
)
def test_parts_add_up_to_the_sum_of_squares(image):
    energies = band_energies(spectrum(image))
    assert energies.sum() == pytest.approx((image**2).sum(), abs=1e-6)
    assert energies.min() >= 0


@pytest.mark.parametrize(("half_period", "octave"), [(1.5, 0), (3, 1), (6, 2), (11, 3), (23, 4)])
@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4, np.pi / 2])
def test_a_grating_is_in_its_band_in_any_direction_and_phase(half_period, octave, angle, rng):
    rows, columns = np.indices((round(24 * half_period), round(20 * half_period)))
    along = np.cos(angle) * columns + np.sin(angle) * rows
    grating = np.sin(np.pi * along / half_period + rng.uniform(0, 6))[..., None]
    energies = band_energies(spectrum(grating))
    # What is left is at the borders, where the mirror breaks the phase.
    assert energies[octave] > 0.9 * energies.sum()


def coarse_share(image):
    energies = band_energies(spectrum(image))
    return energies[2:].sum() / energies.sum()


@pytest.mark.parametrize("shift", [(1, 0), (2, 2), (3, 1), (0, 2)])
def test_shares_are_the_same_where_an_image_is_shifted(shift, rng):
    # Coefficients lie on a grid of 4 pixels. Means over blocks give from 0.21 to 0.81 here.
    blocks = np.kron(rng.normal(size=(60, 60)), np.ones((4, 4)))[..., None]
    blocks += 0.5 * rng.normal(size=blocks.shape)
    top, left = shift
    found = coarse_share(blocks[top : top + 224, left : left + 224])
    assert found == pytest.approx(coarse_share(blocks[:224, :224]), abs=0.02)


def images(*differences):
    """Grey images with something added."""
    base = np.full((32, 32, 3), 100)
    return np.stack([base, *(base + difference for difference in differences)]).astype(np.uint8)


def checkerboard(side):
    rows, cols = np.indices((32, 32)) // side
    return np.where((rows + cols) % 2, 30, -30)[..., None]


@pytest.mark.parametrize("side", [1, 2, 4])
def test_a_checkerboard_is_mostly_in_the_band_of_its_diagonals(side):
    found = measure_visibility(images(checkerboard(side)))
    shares = [entry["share"] for entry in found["bands"]]
    octave = max(0, round(math.log2(side)) - 1)
    assert np.argmax(shares) == octave
    assert shares[octave] > 0.6
    assert found["bands"][octave]["side_px"] == 2**octave


def test_a_uniform_difference_is_all_mean_colour_and_survives_blurring():
    found = measure_visibility(images(20))
    assert found["mean_colour_share"] == found["coarse_share"] == pytest.approx(1)
    assert [entry["share"] for entry in found["bands"]] == pytest.approx([0] * 6)
    assert found["coarse_rms"] == pytest.approx(20)
    assert [entry["rms"] for entry in found["halved"]] == pytest.approx([20, 20, 20, 20])


@pytest.mark.parametrize(("side", "coarse_px"), [(8, 2), (28, 2), (112, 2), (224, 4), (448, 8)])
def test_coarse_is_a_share_of_the_image(side, coarse_px):
    assert coarse_side((side, 2 * side, 3)) == coarse_px


def test_noise_is_hardly_coarse_and_shapes_are(rng):
    noise = rng.normal(0, 12, (64, 64, 3))
    shape = 12 * np.sign(np.sin(np.arange(64) / 6))[:, None, None] * np.ones((64, 64, 3))
    base = np.full((64, 64, 3), 128.0)
    seen = [
        measure_visibility(np.stack([base, base + change]).round().astype(np.uint8))
        for change in (noise, shape)
    ]
    assert [found["halved"][0]["rms"] for found in seen] == pytest.approx([12, 12], abs=0.3)
    # A quarter disc of frequencies out of a square: pi / 16.
    assert seen[0]["coarse_share"] == pytest.approx(np.pi / 16, abs=0.02)
    assert present(seen[1]["coarse_share"]) > 0.9


def test_yardsticks_show_what_each_figure_sees():
    rows = np.indices((64, 64))[0]
    image = (100 + 20 * np.sin(rows / 7))[..., None].repeat(3, axis=2).astype(np.uint8)
    found = measure_yardsticks(image)
    noise, brightness = found["noise"], found["brightness"]
    # Structural similarity has it the wrong way round.
    assert present(noise["ssim_mean"]) < 0.5 < 0.9 < present(brightness["ssim_mean"])
    assert present(noise["coarse_rms"]) < 6
    assert brightness["coarse_rms"] == pytest.approx(40, abs=0.1)
    assert brightness["visible_share"] == 1
    assert measure_yardsticks(image) == found


@pytest.mark.parametrize("level", [0, 255])
def test_yardsticks_stay_within_the_values(level):
    found = measure_yardsticks(np.full((16, 16, 1), level, np.uint8))
    assert found["brightness"]["coarse_rms"] == pytest.approx(40)


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
    assert {entry["share"] for entry in found["bands"]} == {0.0}
    assert found["coarse_rms"] == found["coarse_share"] == found["mean_colour_share"] == 0


def test_the_least_alike_pair_decides_the_smallest_similarity(rng):
    noise = rng.integers(-90, 90, (32, 32, 3))
    found = measure_visibility(images(0, noise))
    assert present(found["ssim_min"]) < present(found["ssim_mean"]) - 0.2 < 0.5


def test_one_vertex_has_no_pairs():
    found = measure_visibility(images())
    assert found["num_pairs"] == 0
    assert found["ssim_mean"] is found["visible_share"] is None
    assert found["coarse_rms"] is found["coarse_share"] is found["mean_colour_share"] is None
    assert (found["bands"], found["halved"]) == ([], [])


@pytest.mark.parametrize("side", [1, 2, 3, 5, 9])
def test_small_images_are_measured_too(side, rng):
    vertices = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    found = measure_visibility(vertices)
    shares = [entry["share"] for entry in found["bands"]]
    whole = sum(map(present, shares)) + present(found["mean_colour_share"])
    assert whole == pytest.approx(1)
    assert -1 <= present(found["ssim_min"]) <= 1


def test_of_many_pairs_some_are_measured(rng):
    vertices = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    assert 60 <= measure_visibility(vertices)["num_pairs"] <= 120
