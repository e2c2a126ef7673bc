"""The control: vertices for the class alone have it, and features that differ."""

import math

import pytest
import torch

from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError
from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.networks.targets import Target
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.methods.class_only import LogitsObjective
from patchcollide.optimisation.methods.registry import require_applicable
from patchcollide.optimisation.vertices import find_by_method, make_task
from patchcollide.randomness import seeded
from tests.conftest import SMALL
from tests.helpers.descents import KINDS, parameterise, task_for
from tests.helpers.pictures import picture


def plain_loss(task, images, hull_samples, weight):
    """The formula as it stands, by plain autograd."""
    weights = uniform_weights(hull_samples, len(images), seeded(8))
    logits = task.network(torch.cat([images, combine(weights, images)])).logits
    chances = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    pairs = [(a, b) for place, a in enumerate(images) for b in images[:place]]
    distances = [(a - b).square().mean().sqrt() for a, b in pairs]
    spread = sum(distances) / len(pairs) if pairs else 0.0
    return -chances[:, task.target_class].log().mean() - weight * spread


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_vertices", "hull_samples"), [(3, 4), (3, 0), (2, 1)])
def test_a_step_goes_down_the_plain_formula(small_network, kind, num_vertices, hull_samples):
    objective = {"hull_samples": hull_samples, "diversity": 0.7}
    task = task_for(small_network, objective=objective, num_vertices=num_vertices)
    start = parameterise(kind, num_vertices=num_vertices)
    expected = plain_loss(task, start.images(), hull_samples, 0.7)
    (gradient,) = torch.autograd.grad(expected, start.parameter)
    row = LogitsObjective(task).backward(start, 0, seeded(8))
    assert row["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(start.parameter.grad, gradient, rtol=1e-3, atol=1e-7)


def test_one_vertex_has_no_distance(small_network):
    task = task_for(small_network, num_vertices=1)
    start = parameterise("pixels", num_vertices=1)
    row = LogitsObjective(task).backward(start, 0, seeded(8))
    assert row.keys() == {"loss", "cross_entropy"}
    assert row["loss"] == row["cross_entropy"]


def test_where_memory_runs_out_smaller_passes_give_the_same(small_network, monkeypatch):
    task = task_for(small_network)
    whole, parts = parameterise("pixels"), parameterise("pixels")
    expected = LogitsObjective(task).backward(whole, 0, seeded(8))
    call, sizes = type(small_network).__call__, []

    def cramped(self, images):
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("no memory")
        return call(self, images)

    monkeypatch.setattr(type(small_network), "__call__", cramped)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    found = LogitsObjective(task).backward(parts, 0, seeded(8))
    assert sizes == [8, 5, 3, 3, 2]
    assert found == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(parts.parameter.grad, whole.parameter.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hull_comes_to_the_class_and_its_features_stay_away(small_network, kind):
    first = task_for(small_network, target_class=0)
    with torch.no_grad():
        away = int(small_network(parameterise(kind).images()).logits.mean(dim=0).argmin())
    task = task_for(small_network, target_class=away, steps=60, check_every=60)
    vertices, state = find_vertices(task, parameterise(kind), objective=LogitsObjective(task))
    assert state.history[-1]["validation_success"] == 1
    with torch.no_grad():
        z = small_network(vertices).pre_activation
    assert relative_feature_distances(z, first.target).min() > 0.5


def test_the_descent_is_over_when_the_class_is_whatever_gap_of_features_is_asked_for(small_network):
    overrides = [
        "method=class", "optimiser.stop_gap=0", "optimiser.stop_distance=1",
        "optimiser.stop_probability=0.01", "optimiser.stop_margin=0", "optimiser.steps=200",
    ]  # fmt: skip
    config = load_config(overrides=[*SMALL, *overrides])
    target = Target.of_picture(small_network, picture(2))
    found = find_by_method(config, small_network, picture(1), target, None)
    assert found.state["stopped_because"] == "the validation batch is of the target's class"
    assert found.state["steps"] < 200
    assert not len(make_task(config, small_network, target).units)


def test_the_weight_of_distance_rises_while_the_class_is_sure(small_network):
    task = task_for(small_network, steps=30, check_every=10, stop_probability=0.01, stop_margin=0.0)
    assert math.isfinite(task.optimiser.stop_gap)
    _, state = find_vertices(task, parameterise("pixels"), objective=LogitsObjective(task))
    weights = [row["diversity"] for row in state.history if "diversity" in row]
    sure = [row["validation_success"] == 1 for row in state.history if "diversity" in row]
    for before, after, was_sure in zip(weights, weights[1:], sure, strict=False):
        assert after == pytest.approx(before * 1.5 if was_sure else before)
    assert any(sure)


def test_it_applies_to_patches_as_to_pixels():
    config = load_config(overrides=["method=class"])
    assert require_applicable(config, pixels=True) is None
    assert require_applicable(config, pixels=False) is None
    with pytest.raises(ConfigError, match="does not apply to compositions"):
        require_applicable(load_config(overrides=["method=null_space"]), pixels=False)
