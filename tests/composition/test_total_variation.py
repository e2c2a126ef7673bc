import pytest
import torch

from patchcollide.composition.mixing import tent_logits
from patchcollide.composition.total_variation import coefficient_variation, total_variation
from tests.composition.test_mixing import GRIDS, random_problem, slow_coefficients, upsample_logits
from tests.helpers.presence import present


def slow_variation(logits, frame, stride, margin):
    """Over all pairs of neighbouring pixels of a tile that are inside the image, one by one."""
    coefficients = slow_coefficients(upsample_logits(logits, len(frame)) + frame, stride)
    rows, window = logits.shape[2], len(frame)
    side = stride * (rows - 1) + window
    sums, counts = [0.0, 0.0], [0, 0]
    places = [(i, j) for i in range(window) for j in range(window)]
    for row in range(rows):
        for col in range(rows):
            tile = coefficients[:, :, row, col]
            for i, j in places:
                for dim, (y, x) in enumerate([(i + 1, j), (i, j + 1)]):
                    at = [row * stride + i, col * stride + j, row * stride + y, col * stride + x]
                    if max(y, x) < window and all(margin <= p < side - margin for p in at):
                        sums[dim] = sums[dim] + (tile[..., y, x] - tile[..., i, j]).abs().sum()
                        counts[dim] += tile[..., i, j].numel()
    return sum(total / max(1, count) for total, count in zip(sums, counts, strict=True))


@pytest.mark.parametrize("margin", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_variation_and_its_gradient_match_a_loop_over_pairs_of_pixels(size, margin, generator):
    shape = (2, 2, 3, 3, size, size)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    frame = tent_logits(5).double()
    expected = slow_variation(logits, frame, 2, margin)
    found = coefficient_variation(logits, frame, 2, margin)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    (wanted,) = torch.autograd.grad(expected, logits)
    (gradient,) = torch.autograd.grad(7 * found, logits)
    torch.testing.assert_close(gradient, 7 * wanted, rtol=0, atol=1e-14)
    assert gradient.abs().max() > 1e-6


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_without_a_margin_it_is_the_total_variation_of_the_coefficients(grid, generator):
    logits, _, stride = random_problem(grid, generator)
    frame = torch.zeros(logits.shape[-2:], dtype=torch.float64)
    expected = total_variation(slow_coefficients(logits, stride))
    found = coefficient_variation(logits, frame, stride)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_gradient_of_the_variation_matches_finite_differences(generator):
    logits, _, stride = random_problem((2, 3, 3, 2), generator)
    logits.requires_grad_()
    frame = tent_logits(3).double()
    assert torch.autograd.gradcheck(lambda x: coefficient_variation(x, frame, stride, 1), logits)


def test_equal_coefficients_do_not_vary():
    logits = torch.zeros(1, 2, 1, 1, 4, 4, requires_grad=True)
    variation = coefficient_variation(logits, torch.zeros(4, 4), 4)
    assert variation.item() == 0
    variation.backward()
    assert not present(logits.grad).any()
