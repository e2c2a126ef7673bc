import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from patchcollide.composition.mixing import (
    LogitTiles,
    cut_windows,
    mix_patches,
    overlap_add,
    overlap_maximum,
    tent_logits,
)

# Neighbours, locations along a side, window, stride.
GRIDS = [
    (1, 1, 1, 1),  # one pixel
    (1, 1, 5, 2),  # one location
    (3, 1, 2, 1),
    (2, 2, 2, 1),
    (1, 3, 4, 2),
    (2, 3, 5, 2),  # the window is no multiple of the stride
    (3, 2, 3, 2),
    (2, 3, 3, 3),  # windows side by side
    (2, 4, 3, 1),
]


def random_problem(grid, generator, *, spread=1.0, num_vertices=2, dtype=torch.float64):
    k, side, window, stride = grid
    shape = (side, side, window, window)
    logits = torch.randn(num_vertices, k, *shape, generator=generator, dtype=torch.float64)
    patches = torch.rand(k, 3, *shape, generator=generator, dtype=torch.float64)
    return (spread * logits).to(dtype), patches.to(dtype), stride


def covering(tiles, y, x, stride):
    """Yields row, column and the place inside the window of every tile that covers a pixel."""
    rows, cols, window, _ = tiles.shape[-4:]
    for row in range(rows):
        for col in range(cols):
            inside = y - row * stride, x - col * stride
            if 0 <= inside[0] < window and 0 <= inside[1] < window:
                yield row, col, *inside


def canvas_side(tiles, stride):
    return stride * (tiles.shape[-4] - 1) + tiles.shape[-1]


def slow_mixture(logits, patches, stride):
    """The definition, pixel by pixel: a softmax over all that covers a pixel."""
    side = canvas_side(logits, stride)
    mixture = torch.zeros(len(logits), patches.shape[1], side, side, dtype=torch.float64)
    for vertex in range(len(logits)):
        for y in range(side):
            for x in range(side):
                covered = [
                    (float(logits[vertex][(rank, *place)]), patches[(rank, slice(None), *place)])
                    for place in covering(logits, y, x, stride)
                    for rank in range(logits.shape[1])
                ]
                largest = max(value for value, _ in covered)
                shares = [math.exp(value - largest) for value, _ in covered]
                for share, (_, colour) in zip(shares, covered, strict=True):
                    mixture[vertex, :, y, x] += share / math.fsum(shares) * colour
    return mixture


def upsample_logits(logits, window):
    """A coarse field of logits at each pixel of a window, by PyTorch's bilinear interpolation."""
    planes = logits.reshape(1, -1, *logits.shape[-2:])
    size = (window, window)
    fine = nn.functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)
    return fine.reshape(*logits.shape[:-2], *size)


def slow_coefficients(logits, stride):
    """The coefficients themselves, by automatic differentiation's own operations."""
    window = logits.shape[-1]
    largest = overlap_maximum(logits.amax(dim=1), stride)
    exponentials = (logits - cut_windows(largest, window, stride)[:, None]).exp()
    sums = overlap_add(exponentials.sum(dim=1), stride)
    return exponentials / cut_windows(sums, window, stride)[:, None]


@pytest.mark.parametrize("spread", [0.0, 30.0])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_mixture_is_a_softmax_over_everything_that_covers_a_pixel(grid, spread, generator):
    logits, patches, stride = random_problem(grid, generator, spread=spread)
    mixture = mix_patches(logits, patches, stride)
    assert mixture.dtype == torch.float64
    torch.testing.assert_close(mixture, slow_mixture(logits, patches, stride), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid[1] > 1], ids=str)
def test_a_thousand_between_the_logits_of_neighbouring_windows_neither_overflows_nor_vanishes(
    grid, dtype, generator
):
    logits, patches, stride = random_problem(grid, generator, dtype=dtype)
    # Chess board: what one window says is e^2000 times what its neighbours say.
    side = grid[1]
    signs = (-1.0) ** (torch.arange(side)[:, None] + torch.arange(side))
    logits = (logits + 1000 * signs[:, :, None, None].to(dtype)).requires_grad_()
    mixture = mix_patches(logits, patches, stride)
    expected = slow_mixture(logits.detach(), patches, stride)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(mixture.double(), expected, rtol=0, atol=tolerance)
    (gradient,) = torch.autograd.grad(mixture.square().sum(), logits)
    assert gradient.isfinite().all()


def test_a_lone_pixel_of_a_weak_window_still_shows_its_patch():
    # The second window covers the right column alone, and there its weak logits are all there is.
    logits = torch.zeros(1, 1, 2, 2, 2, 2)
    logits[:, :, :, 1] = -1e4
    patches = torch.zeros(1, 1, 2, 2, 2, 2)
    patches[:, :, :, 1] = 1
    mixture = mix_patches(logits, patches, 1)
    assert mixture[0, 0].tolist() == [[0.0, 0.0, 1.0]] * 3


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_gradient_of_a_mixture_matches_finite_differences(grid, generator):
    logits, patches, stride = random_problem(grid, generator, spread=2.0, num_vertices=1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: mix_patches(logits, patches, stride), logits)


@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_the_gradient_of_a_mixture_matches_automatic_differentiation(spread, generator):
    logits, patches, stride = random_problem((4, 5, 9, 4), generator, spread=spread)
    logits.requires_grad_()
    weight = torch.randn(2, 3, 25, 25, generator=generator, dtype=torch.float64)
    coefficients = slow_coefficients(logits, stride)
    slow = overlap_add(torch.einsum("vkrcij,kdrcij->vdrcij", coefficients, patches), stride)
    (expected,) = torch.autograd.grad((weight * slow).sum(), logits)
    fast = mix_patches(logits, patches, stride)
    (gradient,) = torch.autograd.grad((weight * fast).sum(), logits)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-13)
    assert gradient.abs().max() > 1e-3


def test_second_derivatives_of_a_mixture_are_refused_because_they_would_be_wrong(generator):
    logits, patches, stride = random_problem((2, 2, 3, 2), generator)
    logits.requires_grad_()
    mixture = mix_patches(logits, patches, stride)
    (gradient,) = torch.autograd.grad(mixture.square().sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    grid=st.sampled_from(GRIDS),
    spread=st.sampled_from([0.0, 0.1, 10.0, 1e3, 1e30]),
    seed=st.integers(0, 1000),
)
def test_a_mixture_stays_in_the_value_range_of_the_patches_at_each_pixel(grid, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, patches, stride = random_problem(grid, generator, spread=spread, dtype=torch.float32)
    mixture = mix_patches(logits, patches, stride)
    largest = overlap_maximum(patches.amax(dim=0), stride)
    smallest = -overlap_maximum(-patches.amin(dim=0), stride)
    assert (mixture <= largest + 1e-6).all()
    assert (mixture >= smallest - 1e-6).all()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_windows_of_one_image_mix_into_that_image_whatever_the_logits(grid, generator):
    logits, patches, stride = random_problem(grid, generator, spread=5.0)
    side = canvas_side(logits, stride)
    image = torch.rand(3, side, side, generator=generator, dtype=torch.float64)
    windows = cut_windows(image, grid[2], stride).expand(grid[0], *patches.shape[1:])
    mixture = mix_patches(logits, windows, stride)
    torch.testing.assert_close(mixture, image.expand(2, -1, -1, -1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("constant", [-700.0, 0.5, 1e6])
def test_a_constant_added_to_all_logits_changes_nothing(constant, generator):
    logits, patches, stride = random_problem((3, 3, 4, 2), generator)
    shifted = mix_patches(logits + constant, patches, stride)
    torch.testing.assert_close(shifted, mix_patches(logits, patches, stride), rtol=0, atol=1e-9)


@pytest.mark.parametrize("spread", [0.0, 1.0, 1000.0])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_normalised_tiles_are_shares_that_sum_to_one_at_each_pixel(grid, spread, generator):
    logits, _, stride = random_problem(grid, generator, spread=spread)
    frame = torch.zeros(logits.shape[-2:], dtype=torch.float64)
    tiles = LogitTiles.of(logits, frame, stride).normalised()
    coefficients = torch.stack([tiles.exponentials(row) for row in range(tiles.num_rows)], dim=2)
    assert (coefficients >= 0).all()
    expected = slow_coefficients(logits, stride)
    torch.testing.assert_close(coefficients, expected, rtol=0, atol=1e-12)
    sums = overlap_add(coefficients.sum(dim=1), stride)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_coarse_logits_in_a_frame_mix_as_those_they_are_interpolated_to(size, generator):
    _, patches, stride = random_problem((3, 4, 6, 3), generator)
    frame = tent_logits(6).double()
    logits = torch.randn(2, 3, 4, 4, size, size, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    weight = torch.randn(2, 3, 15, 15, generator=generator, dtype=torch.float64)
    fine = slow_coefficients(upsample_logits(logits, 6) + frame, stride)
    slow = overlap_add(torch.einsum("vkrcij,kdrcij->vdrcij", fine, patches), stride)
    (expected,) = torch.autograd.grad((weight * slow).sum(), logits)
    fast = mix_patches(logits, patches, stride, frame)
    (gradient,) = torch.autograd.grad((weight * fast).sum(), logits)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-13)
    assert gradient.abs().max() > 1e-3


def test_coarse_logits_far_apart_neither_overflow_nor_vanish(generator):
    """Between nodes of 1e4 and -1e4, and the other way round, both neighbours are at zero."""
    patches = torch.rand(2, 3, 1, 1, 9, 9, generator=generator)
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])[None, :, None, None, None, :]
    logits = logits.expand(1, 2, 1, 1, 2, 2).clone().requires_grad_()
    mixture = mix_patches(logits, patches, 9)
    torch.testing.assert_close(mixture[0, ..., 4], patches[:, :, 0, 0, :, 4].mean(dim=0))
    (gradient,) = torch.autograd.grad(mixture.sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_overlap_add_and_maximum_match_a_loop_over_tiles(grid, batch, generator):
    _, side, window, stride = grid
    shape = (*batch, side, side, window, window)
    tiles = torch.randn(shape, generator=generator, dtype=torch.float64)
    size = canvas_side(tiles, stride)
    total = torch.zeros(*batch, size, size, dtype=torch.float64)
    largest = torch.full_like(total, -math.inf)
    for y in range(size):
        for x in range(size):
            for place in covering(tiles, y, x, stride):
                value = tiles[(..., *place)]
                total[..., y, x] += value
                largest[..., y, x] = torch.maximum(largest[..., y, x], value)
    torch.testing.assert_close(overlap_add(tiles, stride), total, rtol=0, atol=1e-13)
    assert torch.equal(overlap_maximum(tiles, stride), largest)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_cutting_windows_is_the_transpose_of_overlap_add(grid, generator):
    _, side, window, stride = grid
    tiles = torch.randn(2, side, side, window, window, generator=generator, dtype=torch.float64)
    size = canvas_side(tiles, stride)
    canvas = torch.randn(2, size, size, generator=generator, dtype=torch.float64)
    windows = cut_windows(canvas, window, stride)
    assert windows.shape == tiles.shape
    on_canvas = (overlap_add(tiles, stride) * canvas).sum()
    torch.testing.assert_close((tiles * windows).sum(), on_canvas, rtol=1e-12, atol=1e-12)


def test_a_window_holds_what_lies_under_it(generator):
    canvas = torch.rand(9, 9, generator=generator)
    windows = cut_windows(canvas, 5, 2)
    assert windows.shape == (3, 3, 5, 5)
    assert torch.equal(windows[1, 2], canvas[2:7, 4:9])


@pytest.mark.parametrize("window", [1, 2, 5, 32])
def test_a_tent_is_finite_symmetric_and_highest_in_the_middle(window):
    tent = tent_logits(window)
    assert tent.shape == (window, window)
    assert tent.dtype == torch.float32
    assert tent.isfinite().all()
    assert torch.equal(tent, tent.T)
    assert torch.equal(tent, tent.flip(0))
    assert tent[window // 2, window // 2] == tent.max()
    for row in range(window):
        for col in range(window):
            height = [min(i + 0.5, window - i - 0.5) / (window / 2) for i in (row, col)]
            assert float(tent[row, col]) == pytest.approx(math.log(height[0] * height[1]), abs=1e-6)


def test_tents_at_half_a_window_apart_add_up_to_a_plain():
    tents = tent_logits(8).exp().expand(4, 4, 8, 8)
    inner = overlap_add(tents, 4)[4:-4, 4:-4]
    torch.testing.assert_close(inner, torch.ones_like(inner))
