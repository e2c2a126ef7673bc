import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from patchcollide.composition.total_variation import total_variation
from patchcollide.images.tensors import pairwise_distances
from patchcollide.networks.activations import BlindRegions, blind_regions
from patchcollide.networks.targets import TargetFeatures, active_residuals, excess
from patchcollide.optimisation.losses import (
    active_loss,
    inactive_absolute_loss,
    inactive_hinge_loss,
    unit_loss,
)
from tests.helpers.presence import present

RELU = BlindRegions(0.0, None)
RELU6 = BlindRegions(0.0, 6.0)
HARDTANH = BlindRegions(-2.0, 0.5)
RAISED = BlindRegions(1.0, 3.0)
CAPPED = BlindRegions(None, 2.0)
REGIONS = [RELU, RELU6, HARDTANH, RAISED, CAPPED]
SIZES = [(1, 1), (1, 7), (2, 2), (3, 41)]


def random_features(regions, num_units, generator, batch=1):
    """Halves, so that boundaries and ties are hit; the first unit is blind."""
    pre_activation = torch.randint(-8, 16, (num_units,), generator=generator).double() / 2
    pre_activation[0] = -9 if regions.low is not None else 9
    z = torch.randint(-8, 16, (batch, num_units), generator=generator).double() / 2
    return z, TargetFeatures.of(pre_activation, regions)


def slow_excess(value, target, regions):
    """How far a unit leaves its blind region; None for an active one."""
    if regions.low is not None and target <= regions.low:
        return value - regions.low
    if regions.high is not None and target >= regions.high:
        return regions.high - value
    return None


def slow_excesses(z, target):
    return [
        [
            slow_excess(value, at_target, target.blind)
            for value, at_target in zip(row, target.pre_activation.tolist(), strict=True)
        ]
        for row in z.tolist()
    ]


def some_blind_units(target, count):
    units = torch.cat([target.below.nonzero()[:, 0], target.above.nonzero()[:, 0]])
    return units[torch.arange(count) % max(1, len(units))] if len(units) else units


@pytest.mark.parametrize("regions", REGIONS, ids=str)
@pytest.mark.parametrize(("batch", "num_units"), SIZES)
def test_losses_match_a_loop_over_units(regions, batch, num_units, generator):
    z, target = random_features(regions, num_units, generator, batch)
    units = some_blind_units(target, batch)
    losses = {
        "active": active_loss(z, target),
        "hinge": inactive_hinge_loss(z, target),
        "absolute": inactive_absolute_loss(z, target, units),
        "unit": unit_loss(z, target, units),
    }
    for vertex, row in enumerate(slow_excesses(z, target)):
        expected = {"active": 0.0, "hinge": 0.0, "absolute": 0.0, "unit": 0.0}
        for unit, leaving in enumerate(row):
            if leaving is None:
                gap = float(z[vertex, unit] - target.pre_activation[unit])
                expected["active"] += gap**2 / 2
                continue
            expected["hinge"] += max(leaving, 0.0)
            if unit == int(units[vertex]):
                expected["unit"] = leaving
            else:
                expected["absolute"] += abs(leaving)
        for name, loss in losses.items():
            assert loss.dtype == torch.float64
            assert float(loss[vertex]) == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize("regions", REGIONS, ids=str)
def test_excess_is_zero_for_active_units_and_negative_inside_the_blind_region(regions, generator):
    z, target = random_features(regions, 60, generator, batch=2)
    expected = [
        [0.0 if value is None else value for value in row] for row in slow_excesses(z, target)
    ]
    assert excess(z, target).tolist() == expected
    assert target.active.any()
    assert not target.active.all()


@pytest.mark.parametrize("regions", [RELU, RELU6, HARDTANH, RAISED], ids=str)
@pytest.mark.parametrize("num_units", [1, 2, 5])
def test_the_hinge_is_zero_exactly_when_blind_units_show_what_the_target_shows(
    regions, num_units, generator
):
    def activation(value):
        return value.clamp(regions.low, regions.high)

    seen = set()
    for _ in range(60):
        z, target = random_features(regions, num_units, generator)
        same = activation(z[0]) == activation(target.pre_activation)
        collides = bool(same[~target.active].all())
        assert (inactive_hinge_loss(z, target).item() == 0) == collides
        seen.add(collides)
    assert seen == {True, False}


@pytest.mark.parametrize("regions", REGIONS, ids=str)
def test_the_target_collides_with_itself(regions, generator):
    _, target = random_features(regions, 30, generator)
    z = target.pre_activation[None]
    assert active_loss(z, target).tolist() == [0]
    assert inactive_hinge_loss(z, target).tolist() == [0]


def test_boundaries_of_the_target_are_blind():
    target = TargetFeatures.of(torch.tensor([-1.0, 0.0, 1.0, 5.9, 6.0, 7.0]), RELU6)
    assert target.below.tolist() == [True, True, False, False, False, False]
    assert target.active.tolist() == [False, False, True, True, False, False]
    assert target.above.tolist() == [False, False, False, False, True, True]


def test_a_single_unit_of_the_upper_region_is_driven_further_up():
    target = TargetFeatures.of(torch.tensor([1.0, 8.0]), RELU6)
    z = torch.tensor([[1.0, 7.0]], requires_grad=True)
    loss = unit_loss(z, target, torch.tensor([1]))
    loss.sum().backward()
    assert loss.tolist() == [-1.0]
    assert present(z.grad).tolist() == [[0.0, -1.0]]


def test_gradients_reach_exactly_the_units_that_a_loss_is_about():
    target = TargetFeatures.of(torch.tensor([2.0, -1.0, -1.0, -1.0]), RELU)

    def gradient(loss):
        z = torch.tensor([[5.0, 3.0, -2.0, 4.0]], requires_grad=True)
        return torch.autograd.grad(loss(z).sum(), z)[0][0].tolist()

    unit = torch.tensor([3])
    assert gradient(lambda z: active_loss(z, target)) == [3, 0, 0, 0]
    assert gradient(lambda z: inactive_hinge_loss(z, target)) == [0, 1, 0, 1]
    assert gradient(lambda z: inactive_absolute_loss(z, target, unit)) == [0, 1, -1, 0]
    assert gradient(lambda z: unit_loss(z, target, unit)) == [0, 0, 0, 1]


def test_single_precision_holds_over_as_many_units_as_a_real_layer_has(generator):
    z = torch.randn(2, 62720, generator=generator)
    target = TargetFeatures.of(torch.randn(62720, generator=generator), RELU)
    units = some_blind_units(target, 2)
    double = TargetFeatures.of(target.pre_activation.double(), RELU)
    for loss in (active_loss, inactive_hinge_loss):
        torch.testing.assert_close(
            loss(z, target).double(), loss(z.double(), double), rtol=1e-5, atol=0
        )
    torch.testing.assert_close(
        inactive_absolute_loss(z, target, units).double(),
        inactive_absolute_loss(z.double(), double, units),
        rtol=1e-5,
        atol=0,
    )


ROUGH = [nn.ELU(), nn.GELU(), nn.LeakyReLU(0.1), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Tanh()]
MONOTONE = [module for module in ROUGH if not isinstance(module, nn.GELU)]


@pytest.mark.parametrize("module", ROUGH, ids=repr)
@pytest.mark.parametrize(("batch", "num_units"), SIZES)
def test_losses_with_a_tolerance_match_a_loop_over_intervals(module, batch, num_units, generator):
    z = 3 * torch.randn(batch, num_units, generator=generator, dtype=torch.float64)
    at_target = 3 * torch.randn(num_units, generator=generator, dtype=torch.float64)
    target = TargetFeatures.of(at_target, present(blind_regions(module, 0.1)))
    units = some_blind_units(target, batch)
    losses = [active_loss(z, target), inactive_hinge_loss(z, target)]
    if len(units):
        losses += [unit_loss(z, target, units), inactive_absolute_loss(z, target, units)]
    seen = set()
    for vertex, row in enumerate(z.tolist()):
        expected = [0.0, 0.0, 0.0, 0.0]
        ends = zip(row, target.lower.tolist(), target.upper.tolist(), strict=True)
        for unit, (value, lower, upper) in enumerate(ends):
            bounded = math.isfinite(lower) and math.isfinite(upper)
            seen.add(bounded)
            leaving = max(lower - value, value - upper)
            if bounded:
                expected[0] += max(leaving, 0.0) ** 2 / 2
                continue
            expected[1] += max(leaving, 0.0)
            own = len(units) and unit == int(units[vertex])
            expected[2 if own else 3] += leaving if own else abs(leaving)
        for loss, wanted in zip(losses, expected, strict=False):
            assert float(loss[vertex]) == pytest.approx(wanted, abs=1e-12)
    assert num_units < 41 or seen == ({True} if isinstance(module, nn.LeakyReLU) else {True, False})


@settings(max_examples=150, deadline=None)
@given(
    module=st.sampled_from(MONOTONE),
    pairs=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=9),
    tolerance=st.floats(1e-3, 3),
)
def test_units_in_their_intervals_are_those_whose_activation_is_near(module, pairs, tolerance):
    z, at_target = torch.tensor(pairs, dtype=torch.float64).unbind(dim=1)
    target = TargetFeatures.of(at_target, present(blind_regions(module, tolerance)))
    apart = (module(z) - module(at_target)).abs()
    clear = (apart - tolerance).abs() > 1e-9
    found = target.contains(z[None])[0]
    assert torch.equal(found[clear], (apart <= tolerance)[clear])
    # What the losses ask for is the same.
    nothing_to_do = (active_residuals(z[None], target) == 0) & (excess(z[None], target) <= 0)
    assert torch.equal(nothing_to_do[0], found)


@settings(max_examples=100, deadline=None)
@given(
    regions=st.sampled_from(REGIONS),
    pairs=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=9),
)
def test_without_a_tolerance_losses_are_what_the_paper_has_to_the_last_bit(regions, pairs):
    values, at_target = torch.tensor(pairs).unbind(dim=1)
    target = TargetFeatures.of(at_target, regions)
    z = values[None].clone().requires_grad_()
    difference = (z - at_target) * target.active
    leaving = torch.zeros_like(z)
    if regions.low is not None:
        leaving = leaving + (z - regions.low) * target.below
    if regions.high is not None:
        leaving = leaving + (regions.high - z) * target.above
    expected = [difference.square().sum(dim=1) / 2, leaving.clamp(min=0).sum(dim=1)]
    for loss, wanted in zip((active_loss, inactive_hinge_loss), expected, strict=True):
        found = loss(z, target)
        assert torch.equal(found, wanted)
        assert found.signbit().equal(wanted.signbit())
        gradients = [torch.autograd.grad(value.sum(), z)[0] for value in (found, wanted)]
        assert torch.equal(*gradients)
    assert torch.equal(excess(z, target), leaving)


def test_a_unit_outside_its_interval_is_pulled_to_the_nearer_end():
    target = TargetFeatures.of(
        torch.tensor([1.0, 1.0, 1.0]), present(blind_regions(nn.ReLU(), 0.25))
    )
    z = torch.tensor([[0.5, 1.1, 3.0]], requires_grad=True)
    loss = active_loss(z, target)
    assert loss.item() == pytest.approx((0.25**2 + 1.75**2) / 2)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert gradient[0].tolist() == pytest.approx([-0.25, 0.0, 1.75])


def test_a_tolerance_above_the_whole_range_leaves_units_free():
    target = TargetFeatures.of(
        torch.tensor([-3.0, 0.0, 3.0]), present(blind_regions(nn.Sigmoid(), 1.0))
    )
    assert not (target.active | target.below | target.above).any()
    z = torch.tensor([[100.0, -100.0, 7.0]])
    assert target.contains(z).all()
    assert excess(z, target).tolist() == [[0, 0, 0]]
    assert active_loss(z, target).tolist() == [0]


@pytest.mark.parametrize("num_images", [1, 2, 5])
def test_pairwise_distances_match_a_loop_over_pairs(num_images, generator):
    images = torch.rand(num_images, 3, 5, 3, generator=generator, dtype=torch.float64)
    expected = [
        math.sqrt(sum((255 * (a - b)) ** 2 for a, b in zip(first, second, strict=True)))
        for number, first in enumerate(images.flatten(1).tolist())
        for second in images.flatten(1).tolist()[number + 1 :]
    ]
    distances = pairwise_distances(images)
    assert distances.dtype == torch.float64
    assert distances.tolist() == pytest.approx(expected, rel=1e-12)
    assert len(distances) == num_images * (num_images - 1) // 2


def test_the_distance_of_equal_images_is_next_to_nothing_and_its_gradient_finite(generator):
    image = torch.rand(1, 3, 4, 4, generator=generator)
    images = image.repeat(3, 1, 1, 1).requires_grad_()
    distances = pairwise_distances(images)
    distances.sum().backward()
    assert (distances < 1e-5).all()
    assert present(images.grad).isfinite().all()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 4), (5, 1), (2, 2), (3, 5, 7), (2, 1, 3, 1)], ids=str
)
def test_total_variation_matches_a_loop_over_neighbours(shape, generator):
    field = torch.randn(shape, generator=generator, dtype=torch.float64)
    planes = field.reshape(-1, *shape[-2:]).tolist()
    height, width = shape[-2:]
    down = [
        abs(plane[y + 1][x] - plane[y][x])
        for plane in planes
        for y in range(height - 1)
        for x in range(width)
    ]
    across = [
        abs(plane[y][x + 1] - plane[y][x])
        for plane in planes
        for y in range(height)
        for x in range(width - 1)
    ]
    expected = sum(sum(steps) / len(steps) for steps in (down, across) if steps)
    variation = total_variation(field)
    assert variation.dtype == torch.float64
    assert variation.item() == pytest.approx(expected, rel=1e-12)


def test_a_constant_field_has_no_variation():
    assert total_variation(torch.full((2, 3, 3), 4.0)).item() == 0


def test_gradients_of_distances_are_the_same_every_time_whatever_the_number_of_threads():
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = set()
        for _ in range(20):
            varied = images.clone().requires_grad_()
            pairwise_distances(varied).mean().backward()
            found.add(present(varied.grad).numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1
