"""What a descent has left to do, before the activation, against loops over units."""

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.evaluation import residuals
from patchcollide.evaluation.residuals import active_level, mean_residuals
from patchcollide.networks.activations import BlindRegions, blind_regions
from patchcollide.networks.targets import TargetFeatures
from tests.helpers.presence import present


def random_z(num, units, generator):
    return 4 * torch.randn(num, units, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("blind", [BlindRegions(0.0, None), BlindRegions(-3.0, 3.0)])
@pytest.mark.parametrize("together", [1, 20, 10_000])
def test_residuals_are_means_over_active_units(blind, together, generator, monkeypatch):
    monkeypatch.setattr(residuals, "VALUES_AT_ONCE", together)
    z, target = random_z(5, 31, generator), random_z(1, 31, generator)[0]
    features = TargetFeatures.of(target, blind)
    on = [j for j, t in enumerate(target.tolist()) if blind.low < t < (blind.high or np.inf)]
    level = np.mean([abs(float(target[j]) - blind.low) for j in on])
    expected = [np.mean([abs(float(row[j] - target[j])) for j in on]) / level for row in z]
    assert active_level(features) == pytest.approx(level)
    assert mean_residuals(z, features).tolist() == pytest.approx(expected)


def test_a_dead_unit_is_as_far_as_it_has_to_come():
    # Its feature is off by 1 only; the optimiser must bring it back over zero.
    features = TargetFeatures.of(torch.tensor([1.0]), BlindRegions(0.0, None))
    assert mean_residuals(torch.tensor([[-20.0]]), features) == 21


@pytest.mark.parametrize("module", [nn.GELU(), nn.LeakyReLU(), nn.Tanh()], ids=repr)
def test_with_a_tolerance_residuals_are_to_the_intervals(module, generator):
    z, target = random_z(4, 31, generator), random_z(1, 31, generator)[0]
    features = TargetFeatures.of(target, present(blind_regions(module, 0.2)))
    for found, image in zip(mean_residuals(z, features), z, strict=True):
        ends = zip(image, features.lower, features.upper, features.active, strict=True)
        away = [max(low - z, z - high, 0.0) for z, low, high, active in ends if active]
        expected = np.mean([float(each) for each in away]) / float(active_level(features))
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("value", [-1.0, 7.0])
def test_without_active_units_nothing_is_left_to_do(value):
    target = TargetFeatures.of(torch.full((4,), value), BlindRegions(0.0, 6.0))
    assert mean_residuals(torch.full((1, 4), 3.0), target) == 0
