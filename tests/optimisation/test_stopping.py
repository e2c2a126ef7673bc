"""When a descent has found enough, as its validation batches say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from patchcollide.composition.parameterisations import FreePixels
from patchcollide.evaluation.simplex import edge_middles, round_to_8_bits, uniform_weights
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.stopping import far_enough, next_diversity, sure_enough, validate
from patchcollide.randomness import seeded
from tests.helpers.descents import batch_of, batches_seen, parameterise, task_for
from tests.helpers.pictures import picture


@pytest.mark.parametrize(
    ("share", "distance", "factor"),
    [
        (1.0, 50.0, 1.5),  # sure, but near: distance counts for more
        (0.5, 150.0, 1 / 1.5),  # far, but not sure
        (0.5, 50.0, 1.0),
        (1.0, 150.0, 1.0),
    ],
)
def test_the_weight_of_distance_follows_what_is_missing(small_network, share, distance, factor):
    task = task_for(small_network, stop_distance=100.0, stop_probability=0.9)
    row = {
        "validation_success": 1.0,
        "validation_probability": share * task.target_probability,
        "validation_margin": task.target_margin,
        "validation_gap": 0.3,
        "validation_distance": distance,
    }
    sure, far = sure_enough(row, task), far_enough(row, task)
    assert next_diversity(2.0, sure=sure, far=far) == pytest.approx(2 * factor)


@pytest.mark.parametrize(("gap", "expected"), [(0.1, True), (0.2, True), (0.21, False)])
def test_a_hull_whose_features_are_off_is_not_sure(small_network, gap, expected):
    task = task_for(small_network, stop_gap=0.2)
    row = {"validation_success": 1.0, "validation_probability": 1.0, "validation_gap": gap}
    assert sure_enough(row | {"validation_margin": 1.0}, task) is expected


def test_the_descent_stops_as_soon_as_the_validation_batch_collides(small_network):
    task = task_for(
        small_network,
        steps=200,
        check_every=7,
        learning_rate=2.0,
        stop_probability=0.25,
        stop_distance=0.0,
        objective={"active": 100.0, "diversity": 0.0},
    )
    _, progress = find_vertices(task, parameterise("pixels"))
    assert progress.stopped_because == "the validation batch is of the target's class"
    assert progress.step < 200
    assert progress.step % 7 == 0
    assert progress.history[-1]["validation_success"] == 1
    assert progress.history[-1]["validation_probability"] >= 0.25
    assert len(progress.history) == progress.step


@pytest.mark.parametrize("obstacle", ["none", "success", "probability", "margin", "distance"])
def test_each_part_of_the_stop_rule_can_hold_the_descent_up(small_network, obstacle):
    # Vertices that are the target itself: nothing moves, and everything but the obstacle is met.
    with torch.no_grad():
        probabilities = small_network.probabilities(batch_of(picture(2)))[0]
    order = probabilities.argsort(descending=True).tolist()
    rule = {"stop_success": 1.0, "stop_probability": 1e-6, "stop_distance": 0.0}
    changes = {
        "none": {},
        "success": {"target_class": order[1]},
        "probability": {"stop_probability": 0.999},
        "distance": {"stop_distance": 1.0},
        "margin": {"stop_margin": 1.0},
    }
    task = task_for(small_network, learning_rate=1e-30, **(rule | changes[obstacle]))
    if obstacle == "probability":
        task = replace(task, target_probability=1.0)
    if obstacle == "margin":
        task = replace(task, target_margin=task.target_margin + 0.01)
    still = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.0, generator=seeded(0))
    _, progress = find_vertices(task, still)
    assert progress.step == (3 if obstacle == "none" else 6)
    assert ("validation" in progress.stopped_because) == (obstacle == "none")


def test_every_check_measures_the_same_8_bit_samples_and_every_step_new_ones(small_network):
    seen = batches_seen(small_network)
    task = task_for(small_network, learning_rate=1e-30)
    find_vertices(task, parameterise("pixels", num_vertices=2))
    steps = [batch for batch in seen if len(batch) == 7]  # 2 vertices, 5 hull samples
    checks = [batch for batch in seen[1:] if len(batch) != 7]  # 20 samples, 1 edge
    assert [len(batch) for batch in checks] == [8, 8, 5, 8, 8, 5]
    assert torch.equal(checks[0], checks[3])
    assert torch.equal(checks[2], checks[5])
    for batch in checks:
        levels = 255 * batch
        assert (levels - levels.round()).abs().max() < 1e-3
    assert len(steps) == 6
    assert torch.equal(steps[0][:2], steps[5][:2])
    hulls = [batch[2:].numpy().tobytes() for batch in steps]
    assert len(set(hulls)) == 6
    assert (255 * steps[0] - (255 * steps[0]).round()).abs().max() > 0.1


@pytest.mark.parametrize("num_vertices", [1, 2, 3])
@pytest.mark.parametrize("num_samples", [1, 16, 33])
def test_validation_matches_a_loop_over_samples(small_network, num_vertices, num_samples):
    task = task_for(small_network, validation_samples=num_samples)
    parameterisation = parameterise("patches", num_vertices=num_vertices)
    measured = validate(task, parameterisation.images().detach())
    vertices = round_to_8_bits(parameterisation.images().detach())
    hits, total, margins, gaps = 0, 0.0, [], []
    wanted = task.target.pre_activation[task.target.active]
    random = uniform_weights(num_samples, num_vertices, seeded(5, 2))
    every = [*random, *edge_middles(num_vertices, num_samples)]
    for number, weights in enumerate(every):
        sample = sum(
            weight.float() * vertex for weight, vertex in zip(weights, vertices, strict=True)
        )
        with torch.no_grad():
            output = small_network(round_to_8_bits(sample)[None])
        chances = output.probabilities[0]
        gap = (output.pre_activation[0, task.target.active] - wanted).abs().mean()
        gaps.append(float(gap / wanted.mean()))
        hits += int(chances.argmax() == task.target_class)
        total += chances[task.target_class].item() if number < num_samples else 0.0
        others = [chance for index, chance in enumerate(chances) if index != task.target_class]
        margins.append(float(chances[task.target_class] - max(others)))
    assert measured["validation_success"] == pytest.approx(hits / len(every))
    assert measured["validation_margin"] == pytest.approx(min(margins), abs=1e-5)
    assert measured["validation_gap"] == pytest.approx(max(gaps), rel=1e-4)
    assert measured["validation_probability"] == pytest.approx(total / num_samples, abs=1e-5)
    pairs = [
        255 * (vertices[a] - vertices[b]).norm().item()
        for a in range(num_vertices)
        for b in range(a + 1, num_vertices)
    ]
    expected = np.mean(pairs) if pairs else 0.0
    assert measured["validation_distance"] == pytest.approx(expected, rel=1e-5)
