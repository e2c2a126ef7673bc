"""Descents for vertices: what they reach, what they record, and what decides them."""

import math

import numpy as np
import pytest
import torch

from patchcollide.errors import OutOfMemoryError
from patchcollide.evaluation.simplex import combine, uniform_weights
from patchcollide.networks.targets import TargetFeatures
from patchcollide.optimisation.descent import find_vertices, history_columns
from patchcollide.optimisation.objective import HullObjective
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.randomness import seeded
from tests.helpers.descents import KINDS, parameterise, task_for


def active_gap(network, task, images):
    with torch.no_grad():
        z = network(images).pre_activation
    return (z - task.target.pre_activation)[:, task.target.active].abs().mean().item()


@pytest.mark.parametrize(("kind", "rate", "factor"), [("pixels", 2.0, 20), ("patches", 0.5, 2)])
def test_vertices_approach_the_target_and_the_loss_falls(small_network, kind, rate, factor):
    task = task_for(
        small_network, steps=120, check_every=120, learning_rate=rate, objective={"diversity": 0}
    )
    parameterisation = parameterise(kind)
    before = active_gap(small_network, task, parameterisation.images())
    vertices, progress = find_vertices(task, parameterisation)
    assert vertices.shape == (3, 3, 32, 32)
    assert not vertices.requires_grad
    assert vertices.min() >= 0
    assert vertices.max() <= 1 + 1e-6
    assert active_gap(small_network, task, vertices) < before / factor
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]
    assert progress.history[-1]["hull_active"] < progress.history[0]["hull_active"]
    assert progress.step == 120
    assert progress.stopped_because == "all steps were done"


def test_free_pixels_collide_with_the_target_and_so_does_what_lies_between(small_network):
    task = task_for(
        small_network,
        steps=150,
        check_every=150,
        learning_rate=2.0,
        objective={"active": 100.0, "diversity": 0.0},
    )
    vertices, progress = find_vertices(task, parameterise("pixels"))
    assert progress.history[-1]["validation_success"] == 1
    with torch.no_grad():
        middle = small_network(vertices.mean(dim=0, keepdim=True)).logits.argmax().item()
    assert middle == task.target_class


@pytest.mark.parametrize("kind", KINDS)
def test_diversity_moves_vertices_apart(small_network, kind):
    distances = []
    for diversity in (0.0, 100.0):
        task = task_for(
            small_network, steps=30, learning_rate=0.1, objective={"diversity": diversity}
        )
        _, progress = find_vertices(task, parameterise(kind))
        distances.append(progress.history[-1]["distance"])
    assert distances[1] > 1.5 * distances[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_on_total_variation_makes_images_smoother(small_network, kind):
    ends = []
    for weight in (1e-9, 1e5):
        task = task_for(
            small_network, steps=20, learning_rate=0.02, objective={"total_variation": weight}
        )
        _, progress = find_vertices(task, parameterise(kind))
        ends.append(progress.history[-1]["total_variation"])
    assert 0 < ends[1] < ends[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
@pytest.mark.parametrize("num_vertices", [1, 2, 3])
@pytest.mark.parametrize("hull_samples", [0, 1])
def test_a_history_has_a_row_for_each_step(
    small_network, kind, penalty, num_vertices, hull_samples
):
    objective = {"penalty": penalty, "hull_samples": hull_samples, "total_variation": 1.0}
    task = task_for(small_network, objective=objective, steps=3, check_every=2)
    _, progress = find_vertices(task, parameterise(kind, num_vertices=num_vertices))
    expected = ["step", "loss", "active", "inactive", "unit"]
    expected += ["hull_active", "hull_inactive"] if hull_samples and num_vertices > 1 else []
    expected += ["distance"] if num_vertices > 1 else []
    expected += ["total_variation", "seconds"]
    checks = ["validation_success", "validation_probability", "validation_margin"]
    checks += ["validation_gap"]
    checks += ["validation_distance", "diversity"]
    assert [list(row) for row in progress.history] == [
        expected,
        expected + checks,
        expected + checks,  # the last step is always checked
    ]
    assert [row["step"] for row in progress.history] == [0, 1, 2]
    assert history_columns(progress.history) == expected + checks
    assert all(math.isfinite(value) for row in progress.history for value in row.values())
    assert (progress.history[-1]["validation_distance"] == 0) == (num_vertices == 1)


def test_the_first_loss_is_the_weighted_sum_of_its_terms(small_network):
    objective = {
        "active": 2.0,
        "inactive": 3.0,
        "diversity": 0.5,
        "total_variation": 7.0,
        "hull_samples": 4,
    }
    task = task_for(small_network, objective=objective, steps=1)
    parameterisation = parameterise("pixels")
    images = parameterisation.images().detach().clone()
    _, progress = find_vertices(task, parameterisation)
    weights = uniform_weights(4, 3, seeded(5, 1))
    target = task.target.pre_activation
    first_blind = [number for number in range(len(target)) if target[number] <= 0][:3]
    active, inactive, unit = [], [], []
    with torch.no_grad():
        rows = small_network(torch.cat([images, combine(weights, images)])).pre_activation.double()
    for number, z in enumerate(rows):
        active.append(((z - target)[target > 0] ** 2).sum().item() / 2)
        inactive.append(z[target <= 0].clamp(min=0).sum().item())
        if number < 3:
            unit.append(z[first_blind[number]].item())
    pairs = [(0, 1), (0, 2), (1, 2)]
    distance = np.mean([255 * (images[a] - images[b]).norm().item() for a, b in pairs])
    row = progress.history[0]
    expected = (
        2 * np.mean(active)
        + 3 * (np.mean(inactive) + np.mean(unit))
        - 0.5 * distance
        + 7 * row["total_variation"]
    )
    assert row["loss"] == pytest.approx(expected, rel=1e-4)
    assert row["active"] == pytest.approx(np.mean(active[:3]), rel=1e-4)
    assert row["hull_active"] == pytest.approx(np.mean(active[3:]), rel=1e-4)
    assert row["inactive"] == pytest.approx(np.mean(inactive[:3]), rel=1e-4)
    assert row["hull_inactive"] == pytest.approx(np.mean(inactive[3:]), rel=1e-4)
    assert row["unit"] == pytest.approx(np.mean(unit), rel=1e-4)
    assert row["distance"] == pytest.approx(distance, rel=1e-4)


def test_the_absolute_penalty_leaves_out_the_unit_that_is_driven_down(small_network):
    task = task_for(small_network, objective={"penalty": "absolute", "hull_samples": 0}, steps=1)
    parameterisation = parameterise("pixels", num_vertices=2)
    with torch.no_grad():
        rows = small_network(parameterisation.images()).pre_activation.double()
    _, progress = find_vertices(task, parameterisation)
    blind = (task.target.pre_activation <= 0).nonzero()[:, 0].tolist()
    expected = [
        sum(abs(float(z[unit])) for unit in blind if unit != blind[number])
        for number, z in enumerate(rows)
    ]
    assert progress.history[0]["inactive"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
def test_a_target_without_blind_units_is_matched_all_the_same(small_network, penalty):
    task = task_for(small_network, objective={"penalty": penalty, "diversity": 0}, steps=20)
    everywhere = task.target.pre_activation.abs() + 0.1
    task = DescentTask(
        network=small_network,
        target=TargetFeatures.of(everywhere, small_network.blind),
        target_class=0,
        target_probability=1.0,
        target_margin=0.5,
        units=torch.empty(0, dtype=torch.int64),
        objective=task.objective,
        optimiser=task.optimiser,
        seed=0,
    )
    _, progress = find_vertices(task, parameterise("pixels"))
    assert progress.history[0]["unit"] == progress.history[0]["inactive"] == 0
    assert progress.history[-1]["active"] < progress.history[0]["active"]


def test_adam_takes_steps_of_the_scheduled_size(small_network):
    task = task_for(small_network, steps=1, learning_rate=0.4, warmup_steps=4)
    parameterisation = parameterise("pixels")
    before = parameterisation.images().detach().clone()
    after, _ = find_vertices(task, parameterisation)
    # Adam's first step is the step size itself, whatever the gradient: a hundredth of the range
    # of pixels, times a learning rate of 0.4, of which warm-up leaves a quarter.
    assert (after - before).abs().max().item() == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
@pytest.mark.parametrize("fits", [1, 2, 4, 7])
def test_where_memory_runs_out_smaller_batches_give_the_same_gradient(
    small_network, kind, penalty, fits, monkeypatch, caplog
):
    objective = {"penalty": penalty, "hull_samples": 4, "diversity": 0.5}
    task = task_for(small_network, objective=objective)
    whole, parts = parameterise(kind), parameterise(kind)
    expected = HullObjective(task).backward(whole, 0, seeded(1))
    run = small_network.pre_activation

    def limited(images):
        if len(images) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(images)

    monkeypatch.setattr(small_network, "pre_activation", limited)
    losses = HullObjective(task)
    row = losses.backward(parts, 0, seeded(1))
    assert row == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(parts.parameter.grad, whole.parameter.grad, rtol=1e-4, atol=1e-6)
    assert ("memory ran out" in caplog.text) == (fits < 7)
    caplog.clear()
    losses.backward(parts, 0, seeded(1))
    assert not caplog.text  # it remembers what fits


def test_a_device_without_memory_for_one_image_ends_the_descent(small_network, monkeypatch):
    def none_fits(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(small_network, "pre_activation", none_fits)
    with pytest.raises(OutOfMemoryError, match=r"one image through small .* --device cpu"):
        find_vertices(task_for(small_network), parameterise("pixels"))


def test_the_descent_is_decided_by_its_seed(small_network):
    def loss(seed):
        task = task_for(small_network, seed=seed)
        return find_vertices(task, parameterise("patches"))[1].history[-1]["loss"]

    assert loss(5) == loss(5)
    assert loss(5) != loss(6)
