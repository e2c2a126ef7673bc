"""Patches with a margin around their windows, on a canvas scaled before it is mixed."""

import math

import numpy as np
import pytest
import torch

from patchcollide.composition.mixing import mix_patches, tent_logits
from patchcollide.composition.parameterisations import PatchMixture
from patchcollide.errors import GeometryError
from patchcollide.geometry import Canvas, PatchGrid
from tests.helpers.presence import present

AUTHORS = PatchGrid(image_size=256, window_size=64, stride=8, patch_size=32)


def random_supports(grid, margin, k, rng):
    side = grid.window_size + 2 * margin
    return rng.integers(0, 256, (grid.num_positions, k, side, side, 3), dtype=np.uint8)


def mixture_of(supports, grid, margin, generator, **changes):
    settings = {
        "num_vertices": 1,
        "coefficient_size": grid.window_size + 2 * margin,
        "output_size": grid.image_size,
        "noise": 1.0,
        "generator": generator,
    }
    return PatchMixture(supports, grid, margin=margin, **(settings | changes))


def area_averaged(pixels, size):
    """Scales (..., side, side, 3) by triangles as wide as the scale, renormalised at the border."""
    side = pixels.shape[-2]
    scale = max(1.0, side / size)
    matrix = np.zeros((size, side))
    for i in range(size):
        centre = (i + 0.5) * side / size - 0.5
        for j in range(side):
            matrix[i, j] = max(0.0, 1 - abs(j - centre) / scale)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return np.einsum("ij,...jkc,lk->...ilc", matrix, pixels, matrix)


def slow_composition(supports, logits, canvas):
    """Each pixel of the image by itself: a softmax over every support that reaches it."""
    side, locations = canvas.support, canvas.positions_per_side
    image = np.zeros((3, canvas.image_size, canvas.image_size))
    for y in range(canvas.image_size):
        for x in range(canvas.image_size):
            weight = 0.0
            for row in range(locations):
                for col in range(locations):
                    i = y - row * canvas.stride + canvas.margin
                    j = x - col * canvas.stride + canvas.margin
                    if not (0 <= i < side and 0 <= j < side):
                        continue
                    tent = 4 * min(i + 0.5, side - i - 0.5) * min(j + 0.5, side - j - 0.5)
                    for rank in range(supports.shape[1]):
                        share = math.exp(logits[rank, row, col, i, j]) * tent / side**2
                        weight += share
                        image[:, y, x] += share * supports[row * locations + col, rank, i, j] / 255
            image[:, y, x] /= weight
    return image


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("grid", "margin", "size"),
    [
        (PatchGrid(12, 4, 4, 4), 2, 12),
        (PatchGrid(12, 4, 4, 4), 3, 12),  # the margin is no half of the window
        (PatchGrid(9, 3, 2, 3), 9, 9),  # as wide as the image
        (PatchGrid(16, 8, 4, 4), 4, 12),  # scaled by three quarters: windows of 6, margin 3
        (PatchGrid(16, 8, 8, 4), 0, 8),
    ],
    ids=str,
)
def test_a_composition_is_a_softmax_over_every_support_that_reaches_a_pixel(
    grid, margin, size, k, rng, generator
):
    supports = random_supports(grid, margin, k, rng)
    canvas = present(Canvas.of(grid, margin).shrunk(size))
    mixture = mixture_of(
        supports, grid, margin, generator, output_size=size, coefficient_size=canvas.support
    )
    image = mixture.images()[0].detach().numpy()
    logits = mixture.parameter[0].detach().double().numpy()
    scaled = area_averaged(supports.astype(np.float64), canvas.support)
    expected = slow_composition(scaled, logits, canvas)
    assert image.shape == (3, size, size)
    np.testing.assert_allclose(image, expected, rtol=0, atol=2e-6)


def test_what_reaches_over_the_border_moves_nothing(rng, generator):
    grid, margin = PatchGrid(12, 4, 4, 4), 2
    mixture = mixture_of(random_supports(grid, margin, 2, rng), grid, margin, generator)
    (mixture.images().square().sum() + mixture.roughness()).backward()
    gradient = mixture.parameter.grad
    assert not gradient[:, :, 0, :, :2].any()
    assert not gradient[:, :, :, -1, :, -2:].any()
    assert gradient[:, :, 0, 0, 2:, 2:].all()


def test_without_a_margin_a_canvas_of_the_right_size_is_mixed_as_it_is(rng, generator):
    """The same bits as the windows alone give."""
    grid = PatchGrid(13, 5, 4, 5)
    supports = random_supports(grid, 0, 2, rng)
    mixture = mixture_of(supports, grid, 0, generator)
    tiles = torch.from_numpy(supports).float().div_(255).reshape(3, 3, 2, 5, 5, 3)
    tiles = tiles.permute(2, 5, 0, 1, 3, 4).contiguous()
    expected = mix_patches(mixture.parameter, tiles, 4, tent_logits(5))
    assert torch.equal(mixture.images(), expected)


@pytest.mark.parametrize(
    ("grid", "margin", "size", "coefficient_size"),
    [
        (PatchGrid(16, 8, 4, 4), 2, 12, 8),  # a margin of one and a half pixels
        (PatchGrid(16, 8, 4, 4), 4, 12, 16),  # one logit for each pixel before scaling
        (PatchGrid(16, 8, 4, 4), 4, 32, 8),  # larger than the canvas
    ],
    ids=str,
)
def test_a_canvas_that_cannot_be_scaled_first_is_scaled_when_it_is_mixed(
    grid, margin, size, coefficient_size, rng, generator
):
    supports = random_supports(grid, margin, 2, rng)
    options = {"coefficient_size": coefficient_size, "noise": 0.0}
    whole = mixture_of(supports, grid, margin, generator, **options).images()
    scaled = mixture_of(supports, grid, margin, generator, output_size=size, **options).images()
    expected = torch.nn.functional.interpolate(whole, (size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(scaled, expected)


def test_the_released_geometry_scales_to_its_canvas():
    canvas = Canvas.of(AUTHORS, 32).shrunk(224)
    assert canvas == Canvas(224, 56, 7, 28)
    assert (canvas.positions_per_side, canvas.support) == (25, 112)


def test_at_the_released_size_a_composition_is_a_softmax_over_625_whole_maps(rng, generator):
    """As the released code has it: a logit for each location and pixel, -inf off its support."""
    supports = random_supports(AUTHORS, 32, 1, rng)
    mixture = mixture_of(supports, AUTHORS, 32, generator, output_size=224, coefficient_size=112)
    image = mixture.images()[0].detach()
    tent = tent_logits(112)
    maps = torch.full((625, 280, 280), -math.inf)
    for location in range(625):
        row, col = divmod(location, 25)
        place = location, slice(7 * row, 7 * row + 112), slice(7 * col, 7 * col + 112)
        maps[place] = mixture.parameter[0, 0, row, col].detach() + tent
    maps = maps[:, 28:-28, 28:-28]
    assert maps.shape == (625, 224, 224)
    assert (maps > -math.inf).any(dim=0).all()
    shares = maps.softmax(dim=0)
    expected = torch.zeros(3, 280, 280)
    padded = torch.nn.functional.pad(shares, (28, 28, 28, 28))
    for location in range(625):
        row, col = divmod(location, 25)
        square = slice(7 * row, 7 * row + 112), slice(7 * col, 7 * col + 112)
        patch = torch.from_numpy(supports[location, 0]).permute(2, 0, 1)[None].float() / 255
        patch = torch.nn.functional.interpolate(patch, 112, mode="bilinear", antialias=True)[0]
        expected[:, *square] += padded[location, *square] * patch
    torch.testing.assert_close(image, expected[:, 28:-28, 28:-28], rtol=0, atol=2e-6)


def test_more_coefficients_than_pixels_of_a_support_are_refused(rng, generator):
    grid = PatchGrid(16, 8, 4, 4)
    supports = random_supports(grid, 4, 1, rng)
    with pytest.raises(GeometryError, match="17, but a patch has only 16 pixels along a side"):
        mixture_of(supports, grid, 4, generator, coefficient_size=17)


@pytest.mark.parametrize("margin", [-1, 257])
def test_a_margin_that_cannot_be_mirrored_is_refused(margin):
    with pytest.raises(GeometryError, match=f"A margin of {margin} pixels cannot be mirrored"):
        Canvas.of(AUTHORS, margin)
