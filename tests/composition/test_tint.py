"""A field of three numbers a pixel that tints mixtures, against the plain softmax."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from patchcollide.composition import mixing
from patchcollide.composition.contributions import contributions_of
from patchcollide.composition.mixing import Tint, cut_windows, mix_patches, tent_logits
from patchcollide.composition.parameterisations import PatchMixture
from patchcollide.geometry import Canvas, PatchGrid
from patchcollide.randomness import seeded
from tests.composition.test_mixing import GRIDS, canvas_side, random_problem, slow_mixture


def random_field(logits, stride, generator, *, channels=3, spread=3.0):
    side = canvas_side(logits, stride)
    field = torch.randn(len(logits), channels, side, side, generator=generator, dtype=logits.dtype)
    return spread * field


def tinted(logits, patches, field, stride):
    """The logits as they are with the field: the definition, by broadcasting."""
    windows = cut_windows(field, logits.shape[-1], stride)
    return logits + torch.einsum("vcrqyx,kcrqyx->vkrqyx", windows, patches)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("spread", [0.0, 3.0, 3000.0])
def test_a_tinted_mixture_is_the_softmax_of_the_tinted_logits(grid, spread, generator):
    logits, patches, stride = random_problem(grid, generator)
    field = random_field(logits, stride, generator, spread=spread)
    found = mix_patches(logits, patches, stride, None, field)
    expected = slow_mixture(tinted(logits, patches, field, stride), patches, stride)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("grid", [GRIDS[1], GRIDS[5]])
def test_gradients_in_logits_and_field_match_finite_differences(grid, size, generator):
    logits, patches, stride = random_problem(grid, generator)
    field = random_field(logits, stride, generator)
    frame = tent_logits(logits.shape[-1]).double()
    coarse = logits[..., :size, :size].contiguous()
    assert torch.autograd.gradcheck(
        lambda logits, field: mix_patches(logits, patches, stride, frame, field),
        (coarse.requires_grad_(), field.requires_grad_()),
    )


def test_a_field_reaches_any_colour_between_those_that_cover_a_pixel():
    """Nearly all of one patch's colour, though the logits prefer none."""
    patches = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64).reshape(3, 1, 1, 1, 1, 1)
    logits = torch.zeros(1, 3, 1, 1, 1, 1, dtype=torch.float64)
    for strength, colour in ((-500.0, 0.2), (0.0, 1.6 / 3), (500.0, 0.9)):
        field = torch.full((1, 1, 1, 1), strength, dtype=torch.float64)
        assert float(mix_patches(logits, patches, 1, None, field)) == pytest.approx(colour)


def test_contributions_count_what_the_tint_adds(generator):
    canvas = Canvas(10, 4, 3, 0)
    logits, patches, stride = random_problem((2, 3, 4, 3), generator, dtype=torch.float32)
    field = random_field(logits, stride, generator)
    frame = tent_logits(4)
    options: dict[str, Any] = {"num_blocks": 5, "most": 18}
    found = contributions_of(logits, frame, canvas, tint=Tint(field, patches), **options)
    expected = contributions_of(tinted(logits, patches, field, stride), frame, canvas, **options)
    np.testing.assert_allclose(found.shares, expected.shares, atol=1e-6)
    np.testing.assert_allclose(found.parts, expected.parts, atol=1e-6)


@pytest.fixture
def mixture(generator):
    grid = PatchGrid(32, 8, 4, 8)
    patches = np.random.default_rng(1).integers(0, 256, (49, 4, 8, 8, 3), dtype=np.uint8)
    return PatchMixture(
        patches,
        grid,
        num_vertices=2,
        coefficient_size=2,
        output_size=32,
        noise=0.3,
        generator=generator,
        tint=3.0,
    )


def test_the_start_has_no_tint(mixture):
    plain = mixture.images().detach()
    with torch.no_grad():
        mixture.parameter[:, 4 * 49 * 4 :] += 1e-9
    torch.testing.assert_close(mixture.images().detach(), plain)


def test_a_unit_of_tint_moves_pixels_by_about_as_much_as_was_asked_for(mixture):
    before = mixture.images().detach()
    with torch.no_grad():
        mixture.parameter[:, 4 * 49 * 4 :] += 0.1
    moved = 255 * (mixture.images().detach() - before) / 0.1
    # Random colours: channels of a pixel are hardly correlated.
    assert 2.0 < float(moved.mean()) < 4.0
    assert float((moved > 0).double().mean()) > 0.9


def test_few_vertices_are_the_first_of_all(mixture):
    with torch.no_grad():
        mixture.parameter += torch.randn(mixture.parameter.shape, generator=seeded(3))
    for count in (1, 2):
        torch.testing.assert_close(mixture.images(count), mixture.images()[:count])


def test_parting_prefers_whole_patches_and_no_tint(mixture):
    parted = mixture.parting(seeded(4))
    logits, tint = parted[:, : 4 * 49 * 4], parted[:, 4 * 49 * 4 :]
    assert not tint.any()
    patches = logits.reshape(2, 4, 49, 4)
    assert (patches == patches[..., :1]).all()
    assert 0.9 < float(patches.std()) < 1.1
    for one, other in itertools.combinations(patches.flatten(1), 2):
        assert not torch.equal(one, other)


@pytest.mark.parametrize("has_tint", [False, True])
@pytest.mark.parametrize("size", [2, 5])
def test_exponentials_that_are_kept_give_the_same_as_those_made_again(
    size, has_tint, generator, monkeypatch
):
    _, patches, stride = random_problem((3, 4, 5, 2), generator, dtype=torch.float32)
    logits = torch.randn(2, 3, 4, 4, size, size, generator=generator).requires_grad_()
    field = torch.randn(2, 3, 11, 11, generator=generator).requires_grad_() if has_tint else None
    moving = [logits] if field is None else [logits, field]
    found = []
    for most in (mixing._MOST_KEPT, 0):
        monkeypatch.setattr(mixing, "_MOST_KEPT", most)
        before = logits.detach().clone()
        mixture = mix_patches(logits, patches, stride, tent_logits(5), field)
        gradients = torch.autograd.grad(mixture.square().sum(), moving)
        assert torch.equal(logits.detach(), before)
        found.append([mixture.detach(), *gradients])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
