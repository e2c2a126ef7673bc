"""Spaces against mixtures and plain loops."""

import numpy as np
import pytest
import torch

from patchcollide.composition.mixing import LogitTiles, mix_patches
from patchcollide.errors import GeometryError
from patchcollide.polyhedra.image_spaces import PatchSimplex, PixelBox, Space, WholeSpace


def candidates(rng, k=3, channels=3, rows=3, window=4):
    return rng.random((k, channels, rows, rows, window, window))


def coefficients_of(logits, stride):
    """The softmax over all that covers a pixel, in the order of the logits."""
    window = logits.shape[-1]
    frame = torch.zeros(window, window, dtype=torch.float64)
    tiles = LogitTiles.of(logits, frame, stride).normalised()
    rows = [tiles.exponentials(row) for row in range(tiles.num_rows)]
    return torch.stack(rows, dim=2)[0].numpy().reshape(-1)


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (4, 2), (5, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_coefficient_a_pixel_gives_what_mixing_gives(window, stride, channels, rng):
    patches = candidates(rng, channels=channels, window=window)
    space = PatchSimplex.of(patches, stride, window)
    logits = torch.from_numpy(rng.normal(size=(1, 3, 3, 3, window, window)))
    mixed = mix_patches(logits, torch.from_numpy(patches), stride)
    point = coefficients_of(logits, stride)
    assert space.image(point) == pytest.approx(mixed.numpy().reshape(-1), abs=1e-12)
    assert space.sums @ point == pytest.approx(1)
    side = 2 * stride + window
    assert (space.num_pixels, space.num_variables) == (channels * side**2, point.size)
    assert space.sums.shape[0] == side**2


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_coefficient_a_patch_gives_what_mixing_gives_where_windows_do_not_overlap(window, rng):
    patches = candidates(rng, window=window)
    space = PatchSimplex.of(patches, window, 1)
    logits = torch.from_numpy(rng.normal(size=(1, 3, 3, 3, 1, 1)))
    mixed = mix_patches(logits, torch.from_numpy(patches), window)
    point = logits.softmax(dim=1).numpy().reshape(-1)
    assert space.image(point) == pytest.approx(mixed.numpy().reshape(-1), abs=1e-12)
    assert space.sums @ point == pytest.approx(1)
    assert space.num_variables == 27


@pytest.mark.parametrize(
    ("size", "window", "stride", "message"),
    [
        (1, 4, 2, "windows overlap.* Set it to 4, one coefficient a pixel, or the stride to 4"),
        (2, 4, 2, r"interpolated before the softmax.* need 4, one coefficient a pixel\.$"),
        (2, 4, 4, r"need 4, one coefficient a pixel, or 1\.$"),
    ],
)
def test_coefficients_that_mix_in_other_ways_are_refused(size, window, stride, message, rng):
    with pytest.raises(GeometryError, match=message):
        PatchSimplex.of(candidates(rng, window=window), stride, size)


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(GeometryError, match=r"432 pixels of patches .* 83\.0kB, .* take 80\.0kB"):
        PatchSimplex.of(candidates(rng), 4, 4, memory_bytes=80_000)


@pytest.mark.parametrize("stride", [2, 4])
def test_rows_on_coefficients_give_what_rows_on_images_give(stride, rng):
    space = PatchSimplex.of(candidates(rng), stride, 4)
    rows, point = rng.normal(size=(5, space.num_pixels)), rng.random(space.num_variables)
    assert space.pulled_back(rows) @ point == pytest.approx(rows @ space.image(point))


def test_coefficients_of_a_mixture_are_found_and_of_others_not(rng):
    space = PatchSimplex.of(candidates(rng, k=4, rows=2), 4, 4)
    draws = rng.random(space.num_variables)
    point = draws / np.bincount(space.groups, draws)[space.groups]
    image = space.image(point)
    found = space.nearest(image)
    assert found.violation < 1e-9
    assert space.image(space.point(image)) == pytest.approx(image, abs=1e-8)
    assert found.point.min() >= 0
    assert space.sums @ found.point == pytest.approx(1)
    image[5] += 1
    assert space.nearest(image).violation > 0.1


def test_one_channel_needs_the_two_extreme_candidates_of_a_pixel(rng):
    space = PatchSimplex.of(candidates(rng, k=3, channels=1), 2, 4)
    small = space.reduced()
    assert small.num_variables == 2 * small.num_pixels
    values = space.matrix.toarray()
    low = np.where(values > 0, values, np.inf).min(axis=1)
    high = values.max(axis=1)
    draws = rng.random(small.num_variables) ** 4
    point = draws / np.bincount(small.groups, draws)[small.groups]
    assert (small.image(point) >= low - 1e-12).all()
    assert (small.image(point) <= high + 1e-12).all()
    ends = small.matrix.toarray()
    assert np.where(ends > 0, ends, np.inf).min(axis=1) == pytest.approx(low)
    assert ends.max(axis=1) == pytest.approx(high)
    assert {small.name_variable(i) for i in range(small.num_variables)} < {
        space.name_variable(i) for i in range(space.num_variables)
    }
    assert small.reduced().num_variables == small.num_variables


def test_one_channel_and_one_candidate_leave_one_coefficient_a_pixel(rng):
    space = PatchSimplex.of(candidates(rng, k=1, channels=1), 4, 4).reduced()
    assert space.num_variables == space.num_pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_other_spaces_are_not_reduced(channels, rng):
    space = PatchSimplex.of(candidates(rng, channels=channels), 4, 1 if channels == 1 else 4)
    assert space.reduced() is space


def test_coefficients_are_named(rng):
    space = PatchSimplex.of(candidates(rng), 2, 4)
    number = np.ravel_multi_index((2, 1, 0, 3, 2), space.shape)
    assert (
        space.name_variable(int(number))
        == "coefficient of neighbour 2 at location (1, 0), pixel (3, 2)"
    )
    coarse = PatchSimplex.of(candidates(rng), 4, 1)
    assert coarse.name_variable(26) == "coefficient of neighbour 2 at location (2, 2)"


def test_pixels_are_their_own_points(rng):
    box, whole = PixelBox(4), WholeSpace(4)
    image = np.array([-0.5, 0.2, 1.0, 3.0])
    assert isinstance(box, Space)
    assert box.point(image).tolist() == [0, 0.2, 1, 1]
    assert whole.point(image).tolist() == image.tolist()
    assert (box.lower.tolist(), box.upper.tolist()) == ([0] * 4, [1] * 4)
    assert np.isneginf(whole.lower).all()
    assert np.isposinf(whole.upper).all()
    assert box.name_variable(3) == "pixel 3"
    assert box.num_variables == whole.num_variables == 4
    assert isinstance(PatchSimplex.of(candidates(rng), 4, 4), Space)
