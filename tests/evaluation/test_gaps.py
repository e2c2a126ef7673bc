"""Figures of gaps, against loops over units."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from patchcollide.evaluation import gaps
from patchcollide.evaluation.gaps import Gaps, gaps_of_pairs, measure_gaps, random_pairs
from patchcollide.evaluation.residuals import collides
from patchcollide.networks.activations import BlindRegions, blind_regions
from patchcollide.networks.targets import TargetFeatures
from tests.helpers.presence import present

RELU, RELU6 = BlindRegions(0.0, None), BlindRegions(0.0, 6.0)
SHIFTED, ONLY_HIGH = BlindRegions(-3.0, 3.0), BlindRegions(None, 1.0)


def slowly(z, target, blind):
    """The figures of one image, unit by unit, behind a clamp between the blind regions."""
    low = -np.inf if blind.low is None else blind.low
    high = np.inf if blind.high is None else blind.high
    floor = blind.high if blind.low is None else blind.low
    squares, scale, differences, levels, shown, num_blind = 0.0, 0.0, [], [], [], 0
    for value, wanted in zip(z.tolist(), target.tolist(), strict=True):
        feature, goal = min(max(value, low), high), min(max(wanted, low), high)
        away = abs(feature - goal)
        squares += away**2
        scale += (goal - floor) ** 2
        if low < wanted < high:
            differences.append(away)
            levels.append(abs(goal - floor))
            continue
        num_blind += 1
        if away > 0:
            shown.append(away)
    level = np.mean(levels) if levels else 1.0
    mean, worst = (np.mean(differences), max(differences)) if differences else (0.0, 0.0)
    return {
        "feature_distance": squares**0.5,
        "feature_distance_relative": (squares / scale) ** 0.5 if scale else None,
        "active_feature_gap_mean": mean,
        "active_feature_gap_max": worst,
        "active_feature_gap_mean_relative": mean / level,
        "active_feature_gap_max_relative": worst / level,
        "inactive_response_share": len(shown) / num_blind if num_blind else 0.0,
        "inactive_response_mean": np.mean(shown) if shown else 0.0,
        "inactive_response_max": max(shown, default=0.0),
    }


def random_z(num, units, generator):
    return 4 * torch.randn(num, units, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("blind", [RELU, RELU6, SHIFTED, ONLY_HIGH])
@pytest.mark.parametrize(("images", "units"), [(1, 1), (2, 2), (5, 31)])
def test_figures_match_a_loop_over_units(blind, images, units, generator):
    z, target = random_z(images, units, generator), random_z(1, units, generator)[0]
    rows = measure_gaps(z, TargetFeatures.of(target, blind)).rows()
    for row, image in zip(rows, z, strict=True):
        assert row == pytest.approx(slowly(image, target, blind))


@pytest.mark.parametrize("module", [nn.GELU(), nn.ELU(), nn.LeakyReLU(), nn.Tanh()], ids=repr)
def test_with_a_tolerance_gaps_are_those_of_what_the_module_gives(module, generator):
    z, target = random_z(4, 31, generator), random_z(1, 31, generator)[0]
    features = TargetFeatures.of(target, present(blind_regions(module, 0.2)))
    active = features.active
    for row, image in zip(measure_gaps(z, features).rows(), z, strict=True):
        away = (module(image) - module(target)).abs()
        assert row["feature_distance"] == pytest.approx(float(away.norm()))
        assert row["active_feature_gap_mean"] == pytest.approx(float(away[active].mean()))
        assert row["active_feature_gap_max"] == pytest.approx(float(away[active].max()))
        shown = away[~active][away[~active] > 0.2].tolist()
        assert row["inactive_response_max"] == pytest.approx(max(shown, default=0.0))
        share = len(shown) / max(1, int((~active).sum()))
        assert row["inactive_response_share"] == pytest.approx(share)


@pytest.mark.parametrize("module", [nn.GELU(), nn.ELU(), nn.Tanh()], ids=repr)
def test_units_at_the_ends_of_their_intervals_do_not_respond(module, generator):
    (target,) = random_z(1, 200, generator).float()
    features = TargetFeatures.of(target, present(blind_regions(module, 0.01)))
    ends = torch.stack([features.lower, features.upper]).nan_to_num(posinf=50, neginf=-50)
    for row in measure_gaps(ends, features).rows():
        assert row["inactive_response_share"] == 0
        assert 0 < present(row["active_feature_gap_max"]) < 0.0101


def test_an_image_collides_when_every_unit_lies_in_its_interval():
    features = TargetFeatures.of(torch.tensor([1.0, -3.0]), present(blind_regions(nn.ReLU(), 0.25)))
    z = torch.tensor([[1.25, 0.25], [0.75, -9.0], [1.26, -9.0], [1.0, 0.3]])
    assert collides(z, features).tolist() == [True, True, False, False]


@pytest.mark.parametrize(("image", "target", "gap"), [(-20.0, 1.0, 1.0), (-20.0, -1.0, 0.0)])
def test_what_the_activation_hides_is_no_gap(image, target, gap):
    # Before the activation the pairs differ by 21 and by 19.
    features = TargetFeatures.of(torch.tensor([target, 2.0]), RELU)
    (row,) = measure_gaps(torch.tensor([[image, 2.0]]), features).rows()
    assert row["feature_distance"] == gap
    assert row["active_feature_gap_max"] == gap


def test_silent_features_are_as_far_as_the_target_is_from_them(generator):
    z = random_z(1, 40, generator)[0]
    for blind in (RELU, RELU6, SHIFTED):
        (row,) = measure_gaps(torch.full_like(z, -9.0)[None], TargetFeatures.of(z, blind)).rows()
        assert row["feature_distance_relative"] == pytest.approx(1)
        assert row["active_feature_gap_mean_relative"] == pytest.approx(1)


def test_of_a_silent_target_there_is_no_share():
    features = TargetFeatures.of(torch.tensor([-1.0, -2.0]), RELU)
    same, other = measure_gaps(torch.tensor([[-5.0, 0.0], [3.0, 4.0]]), features).rows()
    assert same["feature_distance_relative"] == 0
    assert other["feature_distance"] == 5
    assert other["feature_distance_relative"] is None
    assert measure_gaps(torch.tensor([[3.0, 4.0]]), features).summary()[
        "feature_distance_relative"
    ] == {"mean": None, "max": None}


def test_with_a_tolerance_above_the_whole_range_nothing_responds(generator):
    z = random_z(3, 9, generator)
    features = TargetFeatures.of(z[0], present(blind_regions(nn.Sigmoid(), 1.5)))
    for row in measure_gaps(z, features).rows():
        assert row["inactive_response_share"] == row["active_feature_gap_max"] == 0
    assert collides(z, features).all()


def test_the_target_has_no_gaps(generator):
    (target,) = random_z(1, 20, generator)
    (row,) = measure_gaps(target[None], TargetFeatures.of(target, RELU6)).rows()
    assert set(row.values()) == {0.0}


@pytest.mark.parametrize("value", [-1.0, 3.0, 7.0])
def test_figures_of_no_units_are_zero(value):
    target = TargetFeatures.of(torch.full((4,), value), RELU6)
    (row,) = measure_gaps(torch.full((1, 4), value), target).rows()
    assert set(row.values()) == {0.0}


def test_a_layer_without_units_has_no_gaps():
    target = TargetFeatures.of(torch.zeros(0), RELU)
    assert set(measure_gaps(torch.zeros(1, 0), target).rows()[0].values()) == {0.0}


def test_a_unit_in_the_upper_blind_region_responds_when_it_falls_out():
    target = TargetFeatures.of(torch.tensor([7.0, -1.0]), RELU6)
    (row,) = measure_gaps(torch.tensor([[5.5, -2.0]]), target).rows()
    assert row["inactive_response_share"] == 0.5
    assert row["inactive_response_mean"] == row["inactive_response_max"] == 0.5


def test_a_unit_that_crosses_from_one_blind_region_to_the_other_differs_by_the_features():
    target = TargetFeatures.of(torch.tensor([-1.0, 3.0]), RELU6)
    (row,) = measure_gaps(torch.tensor([[90.0, 3.0]]), target).rows()
    assert row["inactive_response_max"] == row["feature_distance"] == 6


@pytest.mark.parametrize("together", [1, 20, 10_000])
def test_units_of_large_layers_are_measured_a_few_images_at_once(together, generator, monkeypatch):
    z, target = random_z(5, 9, generator), random_z(1, 9, generator)[0]
    features = TargetFeatures.of(target, RELU6)
    expected = measure_gaps(z, features).rows()
    monkeypatch.setattr(gaps, "VALUES_AT_ONCE", together)
    assert measure_gaps(z, features).rows() == expected


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 6))
def test_batches_join_to_the_figures_of_all(seed, cut):
    generator = torch.Generator().manual_seed(seed)
    z, target = random_z(7, 9, generator), random_z(1, 9, generator)[0]
    features = TargetFeatures.of(target, RELU)
    joined = Gaps.joined([measure_gaps(part, features) for part in z.split(cut)])
    assert joined.rows() == measure_gaps(z, features).rows()
    rows: list[Any] = joined.rows()
    summary: dict[str, Any] = {**joined.summary()}
    for name, figures in summary.items():
        values = [row[name] for row in rows]
        assert figures == pytest.approx({"mean": np.mean(values), "max": max(values)})
        assert figures["mean"] <= figures["max"] + 1e-12


@pytest.mark.parametrize(("images", "wanted", "expected"), [(2, None, 1), (5, 7, 7), (3, 99, 3)])
def test_pairs_are_of_two_and_drawn_once(images, wanted, expected, rng):
    pairs = random_pairs(images, wanted, rng)
    assert len(pairs) == len({frozenset(pair) for pair in pairs.tolist()}) == expected
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < images


def test_one_image_has_no_pairs(rng):
    assert random_pairs(1, None, rng).shape == (0, 2)


def test_every_pair_is_measured_as_source_and_target(generator, rng):
    z = random_z(4, 13, generator)
    pairs = random_pairs(4, 5, rng)
    found = gaps_of_pairs(z, RELU6, pairs).rows()
    expected = [slowly(z[a], z[b], RELU6) for a, b in pairs[np.argsort(pairs[:, 1], kind="stable")]]
    for row, oracle in zip(found, expected, strict=True):
        assert row == pytest.approx(oracle)


def test_either_of_two_may_be_first(rng):
    first, second = random_pairs(20, None, rng).T
    assert 0.3 < (first < second).mean() < 0.7
