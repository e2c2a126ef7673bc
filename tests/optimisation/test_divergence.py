"""Descents end where a loss or a gradient is no number."""

import math

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.composition.parameterisations import FreePixels
from patchcollide.config import Objective, Optimiser
from patchcollide.errors import DivergedError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.randomness import seeded
from tests.helpers.descents import KINDS, at_step, parameterise, task_for


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinite_loss_ends_the_descent_naming_step_and_learning_rate(small_network, kind):
    task = task_for(small_network, learning_rate=0.125, objective={"active": 1e38})
    with pytest.raises(
        DivergedError, match=r"loss is inf at step 0\. Set optimiser\.learning_rate below 0\.125"
    ):
        find_vertices(task, parameterise(kind))


def test_a_loss_that_is_not_a_number_ends_the_descent(small_network):
    task = task_for(small_network)
    with torch.no_grad():
        small_network.module.conv.weight.fill_(math.inf)
    with pytest.raises(DivergedError, match="loss is nan at step 0"):
        find_vertices(task, parameterise("pixels"))


@pytest.mark.parametrize("broken_at", [2, 6])
def test_a_later_divergence_names_its_step_and_keeps_no_broken_state(
    small_network, broken_at, tmp_path
):
    def break_weights():
        with torch.no_grad():
            small_network.module.conv.bias.fill_(math.inf)

    task = task_for(small_network, checkpoint_every=1)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    at_step(small_network, broken_at, break_weights)
    with pytest.raises(DivergedError, match=f"at step {broken_at - 1}"):
        find_vertices(task, parameterise("pixels"), checkpoint)
    with h5py.File(checkpoint.path) as file:
        assert np.isfinite(file["parameter"]).all()


class Root(nn.Module):
    """Finite everywhere on [0, 1], but infinitely steep at 0."""

    def forward(self, images):
        return images.sqrt()


def test_an_infinite_gradient_of_a_finite_loss_ends_the_descent_even_after_the_last_step():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(Root(), nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 2))
    network = CollisionNetwork(
        module, name="root", layer="3", input_size=4, mean=(0.0,) * 3, scale=(1.0,) * 3
    )
    black = np.zeros((4, 4, 3), np.uint8)
    pixels = FreePixels(black, num_vertices=2, output_size=4, noise=0.0, generator=seeded(0))
    target = network(torch.full((1, 3, 4, 4), 0.5)).pre_activation[0]
    task = DescentTask(
        network=network,
        target=TargetFeatures.of(target, network.blind),
        target_class=0,
        target_probability=1.0,
        target_margin=0.5,
        units=torch.tensor([0, 1]),
        objective=Objective(),
        optimiser=Optimiser(steps=1, learning_rate=0.5),
        seed=0,
    )
    with pytest.raises(
        DivergedError, match=r"not finite after step 0\. .*learning_rate below 0\.5"
    ):
        find_vertices(task, pixels)
