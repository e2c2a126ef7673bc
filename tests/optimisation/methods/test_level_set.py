"""Level Set Traversal: its steps against a plain loop, and what it promises of its images."""

import numpy as np
import pytest
import torch

from patchcollide.config_files import load_config
from patchcollide.errors import TargetError
from patchcollide.networks.targets import Target
from patchcollide.optimisation.methods.level_set import Walkers
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.optimisation.methods.registry import method_of
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from tests.conftest import SMALL


def picture(seed):
    return np.random.default_rng(seed).integers(1, 255, (32, 32, 3), dtype=np.uint8)


def batch(rng, count=3):
    return torch.from_numpy(rng.random((count, 2, 3, 4)))


def traversed(network, *overrides, target=None):
    settings = ["method=level_set", "optimiser.steps=60", *overrides]
    config = load_config(overrides=[*SMALL, *settings])
    target = target or Target.of_picture(network, picture(2))
    task = make_task(config, network, target)
    start = make_parameterisation(config, network, picture(1), None)
    problem = Problem(config, network, target, task, start)
    images, state = method_of(config)(problem)
    return problem, images, state


@pytest.mark.parametrize("seed", range(4))
def test_a_step_is_that_of_the_paper_value_by_value(seed):
    rng = np.random.default_rng(seed)
    images, destinations, gradients = batch(rng), batch(rng), 20 * (batch(rng) - 0.5)
    gradients[1] = 0
    pushes = 0.02 * (batch(rng) - 0.5)
    moved, pushed = Walkers(destinations, 0.1, 0.01).step(images, pushes, gradients)
    for number in range(3):
        g = gradients[number].ravel().tolist()
        way = (destinations[number] - images[number]).ravel().tolist()
        square = sum(value * value for value in g)
        along = sum(a * b for a, b in zip(g, way, strict=True)) / square if square else 0.0
        for place, (x, push) in enumerate(
            zip(images[number].ravel().tolist(), pushes[number].ravel().tolist(), strict=True)
        ):
            expected = min(0.01, max(-0.01, push - 0.01 * g[place]))
            assert pushed[number].ravel()[place] == pytest.approx(expected)
            x += 0.1 * (way[place] - along * g[place]) + expected
            assert moved[number].ravel()[place] == pytest.approx(min(1.0, max(0.0, x)))


def test_where_the_class_is_linear_all_of_the_way_across_it_is_gone_and_nothing_along():
    rng = np.random.default_rng(0)
    start, destinations = 0.4 + 0.2 * batch(rng, 1), 0.4 + 0.2 * batch(rng, 1)
    direction = torch.from_numpy(rng.normal(size=start.shape))
    images, pushes = start, torch.zeros_like(start)
    walkers = Walkers(destinations, 0.05, 0.0)
    for _ in range(600):
        images, pushes = walkers.step(images, pushes, direction)
    assert float((images * direction).sum()) == pytest.approx(float((start * direction).sum()))
    left = destinations - images
    along = (left * direction).sum() / direction.square().sum()
    torch.testing.assert_close(left, along * direction, rtol=0, atol=1e-10)


def test_images_come_nearer_to_the_source_and_stay_as_sure_of_the_class(small_network):
    problem, images, state = traversed(small_network)
    network, target = small_network, problem.target
    with torch.no_grad():
        found = network.probabilities(images)[:, target.class_index]
    assert (found >= target.probability - 0.2).all()
    ways = [row["way_left"] for row in state.history]
    assert ways[-1] < 0.7 * ways[0]
    assert len({image.numpy().tobytes() for image in images}) == len(images)
    assert "of 5 images would have left" in state.stopped_because


def test_no_image_moves_where_the_class_may_not_become_less_sure(small_network):
    overrides = ["baselines.confidence_drop=0", "baselines.traversal_push=0"]
    problem, images, state = traversed(small_network, *overrides)
    with torch.no_grad():
        found = small_network.probabilities(images)[:, problem.target.class_index]
    assert (found >= problem.target.probability - 1e-6).all()
    assert "5 of 5 images would have left" in state.stopped_because


def test_a_target_without_a_picture_is_refused(small_network):
    target = Target.of_features(small_network, torch.randn(small_network.units))
    with pytest.raises(TargetError, match=r"'level_set' moves the target's image.*Give --target"):
        traversed(small_network, target=target)
