"""Figures of gaps, against loops over units."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from patchcollide import gaps
from patchcollide.activations import BlindRegions, blind_regions
from patchcollide.gaps import (
    Gaps,
    collides,
    describe_null,
    feature_differences,
    gaps_of_pairs,
    measure_gaps,
    random_pairs,
)
from patchcollide.losses import TargetFeatures

RELU, RELU6 = BlindRegions(0.0, None), BlindRegions(0.0, 6.0)
SHIFTED, ONLY_HIGH = BlindRegions(-3.0, 3.0), BlindRegions(None, 1.0)


def slowly(z, target, blind):
    """The figures of one image, unit by unit."""
    low = -np.inf if blind.low is None else blind.low
    high = np.inf if blind.high is None else blind.high
    origin = 0.0 if blind.low is None else blind.low
    differences, levels, shown, num_blind = [], [], [], 0
    for value, wanted in zip(z.tolist(), target.tolist(), strict=True):
        if low < wanted < high:
            differences.append(abs(value - wanted))
            levels.append(abs(wanted - origin))
            continue
        num_blind += 1
        depth = value - low if wanted <= low else high - value
        if depth > 0:
            shown.append(depth)
    level = np.mean(levels) if levels else 1.0
    mean, worst = (np.mean(differences), max(differences)) if differences else (0.0, 0.0)
    return {
        "active_gap_mean": mean,
        "active_gap_max": worst,
        "active_gap_mean_relative": mean / level,
        "active_gap_max_relative": worst / level,
        "inactive_violation_share": len(shown) / num_blind if num_blind else 0.0,
        "inactive_violation_mean": np.mean(shown) if shown else 0.0,
        "inactive_violation_max": max(shown, default=0.0),
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
def test_with_a_tolerance_gaps_are_to_the_intervals(module, generator):
    z, target = random_z(4, 31, generator), random_z(1, 31, generator)[0]
    features = TargetFeatures.of(target, blind_regions(module, 0.2))
    for row, image in zip(measure_gaps(z, features).rows(), z.tolist(), strict=True):
        gaps, shown = [], []
        for value, low, high in zip(image, features.lower, features.upper, strict=True):
            gap = max(float(low) - value, value - float(high), 0.0)
            (gaps if low.isfinite() and high.isfinite() else shown).append(gap)
        assert row["active_gap_mean"] == pytest.approx(np.mean(gaps))
        assert row["active_gap_max"] == pytest.approx(max(gaps))
        assert row["inactive_violation_max"] == pytest.approx(max(shown, default=0.0))
        share = np.mean([gap > 0 for gap in shown]) if shown else 0.0
        assert row["inactive_violation_share"] == pytest.approx(share)


def test_an_image_collides_when_every_unit_lies_in_its_interval():
    features = TargetFeatures.of(torch.tensor([1.0, -3.0]), blind_regions(nn.ReLU(), 0.25))
    z = torch.tensor([[1.25, 0.25], [0.75, -9.0], [1.26, -9.0], [1.0, 0.3]])
    assert collides(z, features).tolist() == [True, True, False, False]
    rows = measure_gaps(z, features).rows()
    worst = [max(row["active_gap_max"], row["inactive_violation_max"]) for row in rows]
    assert [value == 0 for value in worst] == [True, True, False, False]


def test_a_tolerance_above_the_whole_range_leaves_no_gaps(generator):
    z = random_z(3, 9, generator)
    features = TargetFeatures.of(z[0], blind_regions(nn.Sigmoid(), 1.5))
    assert all(set(row.values()) == {0.0} for row in measure_gaps(z, features).rows())
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


def test_a_unit_in_the_upper_blind_region_shows_when_it_falls_out():
    target = TargetFeatures.of(torch.tensor([7.0, -1.0]), RELU6)
    (row,) = measure_gaps(torch.tensor([[5.5, -2.0]]), target).rows()
    assert row["inactive_violation_share"] == 0.5
    assert row["inactive_violation_mean"] == row["inactive_violation_max"] == 0.5


@pytest.mark.parametrize("together", [1, 20, 10_000])
def test_units_of_large_layers_are_measured_a_few_images_at_once(together, generator, monkeypatch):
    z, target = random_z(5, 9, generator), random_z(1, 9, generator)[0]
    features = TargetFeatures.of(target, RELU6)
    expected = measure_gaps(z, features).rows()
    monkeypatch.setattr(gaps, "_VALUES_AT_ONCE", together)
    assert measure_gaps(z, features).rows() == expected


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 6))
def test_batches_join_to_the_figures_of_all(seed, cut):
    generator = torch.Generator().manual_seed(seed)
    z, target = random_z(7, 9, generator), random_z(1, 9, generator)[0]
    features = TargetFeatures.of(target, RELU)
    joined = Gaps.joined([measure_gaps(part, features) for part in z.split(cut)])
    assert joined.rows() == measure_gaps(z, features).rows()
    for name, figures in joined.summary().items():
        values = [row[name] for row in joined.rows()]
        assert figures == pytest.approx({"mean": np.mean(values), "max": max(values)})
        assert figures["mean"] <= figures["max"] + 1e-12


@pytest.mark.parametrize(("images", "wanted", "expected"), [(2, None, 2), (5, 7, 7), (3, 99, 6)])
def test_pairs_are_of_two_and_drawn_once(images, wanted, expected, rng):
    pairs = random_pairs(images, wanted, rng)
    assert len(pairs) == len({tuple(pair) for pair in pairs.tolist()}) == expected
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < images


def test_one_image_has_no_pairs(rng):
    assert random_pairs(1, None, rng).shape == (0, 2)


def test_every_pair_is_measured_as_source_and_target(generator, rng):
    z = random_z(4, 13, generator)
    pairs = random_pairs(4, 7, rng)
    found = gaps_of_pairs(z, RELU6, pairs).rows()
    expected = [slowly(z[a], z[b], RELU6) for a, b in pairs[np.argsort(pairs[:, 1], kind="stable")]]
    for row, oracle in zip(found, expected, strict=True):
        assert row == pytest.approx(oracle)


def test_the_null_says_how_many_pairs_are_nearer(generator, rng):
    z = random_z(6, 40, generator)
    null = gaps_of_pairs(z, RELU, random_pairs(6, None, rng))
    target = TargetFeatures.of(z[0], RELU)
    (near,) = measure_gaps(z[:1] + 1e-6, target).rows()
    (far,) = measure_gaps(100 * z[1:2], target).rows()
    assert describe_null(null, near)["share_below"]["active_gap_mean"] == 0
    described = describe_null(null, far)
    assert described["share_below"]["active_gap_mean"] == 1
    assert described["num_pairs"] == 30
    for name, values in null.columns().items():
        low, middle, high = described["quantiles"][name]
        assert low <= middle <= high
        assert middle == pytest.approx(np.median(values))


def test_features_differ_by_a_share_of_the_targets():
    target = TargetFeatures.of(torch.tensor([2.0, -1.0, 3.0]), RELU)
    z = torch.tensor([[2.0, -9.0, 3.0], [1.0, 0.5, 3.0], [-1.0, -1.0, -1.0]])
    # Below zero it is an active unit's pre-activation that counts, not its feature.
    expected = [0, (1 + 0.5) / 5, (3 + 4) / 5]
    assert feature_differences(z, target).tolist() == pytest.approx(expected)


def test_features_of_a_target_without_any_differ_by_a_share_of_its_pre_activations():
    target = TargetFeatures.of(torch.tensor([-3.0, -1.0]), RELU)
    z = torch.tensor([[-5.0, 0.0], [1.0, 1.0]])
    assert feature_differences(z, target).tolist() == [0, 0.5]
