import math

import numpy as np
import pytest
import torch

from patchcollide.evaluation.gaps import measure_gaps
from patchcollide.evaluation.tightness import Likeness, measure_likeness
from patchcollide.evaluation.verdicts import verdict, verdict_sentence
from patchcollide.networks.activations import BlindRegions
from patchcollide.networks.targets import TargetFeatures

RELU = BlindRegions(low=0.0, high=None)
RELU6 = BlindRegions(low=0.0, high=6.0)


def likeness(z, target, blind=RELU):
    features = TargetFeatures.of(target, blind)
    return measure_likeness(z, features, measure_gaps(z, features))


@pytest.mark.parametrize("blind", [RELU, RELU6])
def test_tightness_is_what_numpy_says_image_by_image(blind, generator):
    z, target = torch.randn(23, 50, generator=generator).mul(4), torch.randn(50).mul(4)
    high = np.inf if blind.high is None else blind.high
    features, own = (values.double().numpy().clip(0, high) for values in (z, target))
    found = likeness(z, target, blind).tightness()
    tau = [np.linalg.norm(row - own) / np.linalg.norm(own) for row in features]
    assert found["tau_mean"] == pytest.approx(np.mean(tau), rel=1e-5)
    assert found["tau_quantile"] == pytest.approx(np.quantile(tau, 0.95), rel=1e-5)
    assert found["tau_max"] == pytest.approx(max(tau), rel=1e-5)
    cosine = [row @ own / np.linalg.norm(row) / np.linalg.norm(own) for row in features]
    assert found["cosine_mean"] == pytest.approx(np.mean(cosine), rel=1e-5)
    assert found["cosine_min"] == pytest.approx(min(cosine), rel=1e-5)
    active = (own > 0) & (own < high)
    dead = [np.mean((row[active] == 0) | (row[active] == high)) for row in features]
    assert found["dead_share_mean"] == pytest.approx(np.mean(dead))
    assert found["dead_share_max"] == pytest.approx(max(dead))
    false = [np.sum(row[~active] != own[~active]) for row in features]
    assert found["false_responders_mean"] == pytest.approx(np.mean(false))
    assert found["false_responders_max"] == max(false)


def test_the_target_itself_is_as_tight_as_can_be(generator):
    target = torch.randn(9, generator=generator)
    found = likeness(target[None], target).tightness()
    assert found["tau_max"] == found["dead_share_max"] == found["false_responders_max"] == 0
    assert found["cosine_min"] == pytest.approx(1)


def test_silence_is_at_one_with_no_angle_and_all_dead():
    found = likeness(torch.full((1, 4), -1.0), torch.tensor([1.0, 2.0, -1.0, 3.0])).tightness()
    assert found["tau_max"] == pytest.approx(1)
    assert (found["cosine_min"], found["dead_share_max"]) == (0, 1)


def test_batches_are_joined_as_if_they_were_one(generator):
    z, target = torch.randn(7, 12, generator=generator), torch.randn(12, generator=generator)
    joined = Likeness.joined(likeness(part, target) for part in z.split(3))
    assert joined.tightness() == pytest.approx(likeness(z, target).tightness())


def test_a_target_that_says_nothing_has_no_finite_tightness():
    found = likeness(torch.ones(2, 3), torch.full((3,), -1.0)).tightness()
    assert found["tau_mean"] is found["tau_quantile"] is found["tau_max"] is None
    assert (found["cosine_min"], found["dead_share_max"]) == (0, 0)


@pytest.mark.parametrize(
    ("tau", "hits", "gamma", "asked", "name", "sentence"),
    [
        (0.65, 20, 0.1, True, "class collision", "Class collision: 20 of 20 .* 0.65 (0.1 asked)"),
        (0.059, 20, 0.1, True, "feature collision", "Feature collision: 20 .* 0.059 (0.1 asked)"),
        (0.25, 20, 0.25, True, "feature collision", "up to 0.25 (0.25 asked)"),
        # Two digits would say that it is what was asked for.
        (0.10004, 20, 0.1, True, "class collision", "up to 0.10004 (0.1 asked)"),
        # Nothing is said to differ by less than it does, nor by more than what holds.
        (0.3649, 20, 0.4, True, "feature collision", "up to 0.37 (0.4 asked)"),
        (0.3941, 20, 0.395, True, "feature collision", "up to 0.395 (0.395 asked)"),
        (0.65, 20, 0.1, False, "class collision", "0.65 (at most 0.1 is a feature collision)"),
        (0.01, 19, 0.1, True, "none", "No collision: 19 of 20 samples are of the target's class"),
        (None, 20, 0.1, True, "class collision", "features differ without a bound (0.1 asked)"),
    ],
)
def test_a_collision_is_called_what_it_is(tau, hits, gamma, asked, name, sentence):
    assert verdict(tau, hits / 20, gamma) == name
    said = verdict_sentence(tau, hits, 20, gamma, asked)
    assert all(part in said for part in sentence.split(".*")), said


def test_infinite_distances_are_no_collision_of_features():
    assert verdict(math.inf, 1.0, 0.9) == verdict(None, 1.0, 0.9) == "class collision"
