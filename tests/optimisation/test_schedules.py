import math
from typing import Any

import pytest
import torch
from torch import nn

from patchcollide.config import Objective, Optimiser
from patchcollide.optimisation.schedules import (
    authors_schedule,
    make_optimiser,
    schedule,
    step_size,
    weights_at,
)


class Parameters:
    """Three numbers to move."""

    unit = 0.01
    gradient_unit = 0.5
    source = None
    block = 1

    def __init__(self):
        self.parameter = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))

    def images(self):
        raise NotImplementedError

    roughness = project = parting = images


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (0, 0.1),  # warming up over 10 steps
        (4, 0.5),
        (9, 1.0),
        (49, 1.0),
        (50, 1.0),  # the cosine begins
        (75, 0.525),  # half way between 1 and a twentieth
        (100, 0.05),
    ],
)
def test_the_step_size_rises_stays_and_falls_as_a_cosine(step, share):
    settings = Optimiser(steps=100, warmup_steps=10)
    assert schedule(step, settings) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 10), (2, 0), (7, 3), (300, 10)])
def test_the_step_size_is_positive_and_never_above_the_learning_rate(steps, warmup):
    settings = Optimiser(steps=steps, warmup_steps=warmup)
    shares = [schedule(step, settings) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    falling = shares[max(warmup, math.ceil(steps / 2)) :]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.01), (50, 0.1), (100, 1.0), (150, 0.1), (200, 0.01), (299, 0.01)]
)
def test_the_authors_step_rises_in_equal_factors_and_falls_back(step, share):
    assert authors_schedule(step, 300) == pytest.approx(share)


def test_the_authors_weights_change_in_the_last_third():
    objective = Objective(active=100.0, inactive=10.0, total_variation=100.0)
    settings = Optimiser(method="authors", steps=300)
    assert weights_at(199, objective, settings) == objective
    later = weights_at(200, objective, settings)
    assert (later.active, later.inactive, later.total_variation) == (1000, 1, 100)
    assert weights_at(299, objective, Optimiser(steps=300)) == objective


def test_the_authors_way_averages_gradients_and_adam_does_not_follow_their_size():
    gradients = [torch.tensor([1.0, -4.0, 0.5]) * scale for scale in (1, -3, 7, 0)]
    settings = Optimiser(method="authors", steps=400, learning_rate=0.1, num_vertices=4)
    parameters: Any = Parameters()
    optimiser = make_optimiser(settings, parameters)
    expected, average = parameters.parameter.detach().clone(), None
    for step, gradient in enumerate(gradients):
        rate = step_size(step, settings, parameters)
        # The loss is a mean over 4 vertices: each one's own gradient is 4 times as large.
        assert rate == pytest.approx(0.1 * authors_schedule(step, 400) * 4 * 0.5)
        optimiser.param_groups[0]["lr"] = rate
        parameters.parameter.grad = gradient.clone()
        optimiser.step()
        average = gradient if average is None else 0.99 * average + 0.01 * gradient
        expected -= rate * average
        torch.testing.assert_close(parameters.parameter.detach(), expected)


def test_adam_steps_in_units_of_the_parameterisation():
    settings = Optimiser(steps=100, learning_rate=3.0, warmup_steps=0)
    parameters: Any = Parameters()
    assert isinstance(make_optimiser(settings, parameters), torch.optim.Adam)
    assert step_size(0, settings, parameters) == pytest.approx(0.03)
