"""Comparisons of a polytope with what nobody made collide, which can fail."""

import numpy as np
import pytest
import torch

from patchcollide.evaluation.controls import (
    MEAN,
    NEAREST,
    QUANTILES,
    SILENT,
    is_near,
    measure_controls,
)
from patchcollide.evaluation.feature_distances import (
    distances_of_features,
    relative_feature_distances,
)
from patchcollide.evaluation.gaps import random_pairs
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.targets import TargetFeatures
from tests.helpers.presence import present

RELU = BlindRegions(0.0, None)


@pytest.fixture
def target(generator):
    """Of a layer where about a quarter of the units responds."""
    return TargetFeatures.of(torch.randn(400, generator=generator).double() - 0.7, RELU)


@pytest.fixture
def images(generator):
    return torch.randn(32, 400, generator=generator).double() - 0.7


def measured(images, target, num_pairs=20, **found):
    pairs = random_pairs(len(images), num_pairs, np.random.default_rng(0))
    return measure_controls(images, target, pairs, found)


def test_distances_are_of_each_image_to_the_target(images, target):
    found = measured(images, target, hull_mean=1.3)
    y, t = images.clamp(min=0), target.pre_activation.clamp(min=0)
    expected = sorted(((y - t).norm(dim=1) / t.norm()).tolist())
    assert found["distances"] == pytest.approx(expected)
    assert found["num_nearer"] == {"hull_mean": sum(tau < 1.3 for tau in expected)}
    assert 0 < found["num_nearer"]["hull_mean"] < 32
    quantiles = found["quantiles"]["feature_distance_relative"]
    assert quantiles == pytest.approx(np.quantile(expected, QUANTILES))
    mean = float((y.mean(dim=0) - t).norm() / t.norm())
    assert found["controls"] == pytest.approx({SILENT: 1, MEAN: mean, NEAREST: expected[0]})


def test_neither_silent_nor_mean_features_are_near(images, target):
    silent = float(relative_feature_distances(torch.full((1, 400), -9.0).double(), target))
    mean = images.clamp(min=0).mean(dim=0)
    average = float(distances_of_features(mean[None], target))
    found = measured(images, target, silent=silent, average=average, itself=0.0)
    # Both are nearer than every image, which is why images alone are no control.
    assert found["num_nearer"] == {"silent": 0, "average": 0, "itself": 0}
    assert found["is_near"] == {"silent": False, "average": False, "itself": True}


def test_what_is_half_way_to_the_target_is_near(images, target):
    half = float(relative_feature_distances(target.pre_activation[None] / 2, target))
    assert half == pytest.approx(0.5)
    assert measured(images, target, half=half)["is_near"] == {"half": True}


def test_the_targets_own_image_is_no_control(images, target):
    # In a batch of another size numbers are rounded otherwise.
    own = target.pre_activation.float().double() + 1e-7
    found = measured(torch.cat([images, own[None]]), target, num_pairs=None)
    assert (found["num_images"], found["num_left_out"]) == (32, 1)
    assert found["controls"][NEAREST] > 0.5
    assert found["num_pairs"] == 32 * 31 / 2
    assert measured(target.pre_activation[None], target) is None


def test_an_image_nearer_than_the_hull_is_counted(images, target):
    close = target.pre_activation + 0.01
    found = measured(torch.cat([images, close[None]]), target, hull_mean=0.4)
    assert found["num_nearer"] == {"hull_mean": 1}
    assert found["is_near"] == {"hull_mean": False}


def test_pairs_are_measured_once_in_the_targets_unit(images, target):
    pairs = np.array([[0, 1], [3, 2], [4, 5]])
    found = present(measure_controls(images, target, pairs, {}))
    y, scale = images.clamp(min=0), target.pre_activation.clamp(min=0).norm()
    expected = [float((y[a] - y[b]).norm() / scale) for a, b in pairs]
    assert found["num_pairs"] == 3
    assert found["pair_quantiles"] == pytest.approx(np.quantile(expected, QUANTILES))


def test_one_image_will_do(images, target):
    found = measured(images[:1], target, hull_mean=0.1)
    assert (found["num_images"], found["num_pairs"], found["pair_quantiles"]) == (1, 0, None)


def test_beside_a_silent_target_nothing_is_near_but_itself(images):
    silent = TargetFeatures.of(torch.full((400,), -1.0).double(), RELU)
    found = measured(images, silent, hull_mean=None, itself=0.0)
    assert found["distances"] == [None] * 32
    assert found["is_near"] == {"hull_mean": False, "itself": False}


@pytest.mark.parametrize(("tau", "near"), [(0.5, True), (0.9, False), (1.0, False), (1.4, False)])
def test_near_is_below_every_control(tau, near):
    assert is_near(tau, {SILENT: 1.0, MEAN: 0.9, NEAREST: 1.2}) == near
