"""Small descents on seeded pictures, and a look into their steps."""

import numpy as np
import torch

from patchcollide.composition.parameterisations import FreePixels, PatchMixture
from patchcollide.config import Objective, Optimiser
from patchcollide.geometry import PatchGrid
from patchcollide.networks.targets import TargetFeatures
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.optimisation.units import choose_units
from patchcollide.randomness import seeded
from tests.helpers.pictures import picture

GRID = PatchGrid(32, 8, 4, 8)
KINDS = ["pixels", "patches"]


def batch_of(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def parameterise(kind, *, num_vertices=3, seed=5):
    options = {
        "num_vertices": num_vertices,
        "output_size": 32,
        "noise": 0.1,
        "generator": seeded(seed, 0),
    }
    if kind == "pixels":
        return FreePixels(picture(1), **options)
    shape = (GRID.num_positions, 6, 8, 8, 3)
    coarse = np.random.default_rng(9).integers(0, 256, (*shape[:2], 2, 2, 3), dtype=np.uint8)
    patches = coarse.repeat(4, axis=2).repeat(4, axis=3)
    return PatchMixture(patches, GRID, coefficient_size=4, **options)


def task_for(network, *, objective=None, target_class=None, seed=5, **optimiser):
    settings = {"steps": 6, "check_every": 3, "validation_samples": 20, "stop_distance": 1e9}
    with torch.no_grad():
        output = network(batch_of(picture(2)))
    target = TargetFeatures.of(output.pre_activation[0], network.blind)
    return DescentTask(
        network=network,
        target=target,
        target_class=int(output.logits.argmax()) if target_class is None else target_class,
        target_probability=float(output.logits.softmax(dim=1).max()),
        target_margin=float(output.logits.softmax(dim=1)[0].topk(2).values.diff().abs()),
        units=choose_units(target, "first", 3, seeded(seed)),
        objective=Objective(**(objective or {})),
        optimiser=Optimiser(**(settings | optimiser)),
        seed=seed,
    )


def batches_seen(network):
    """Returns a list that every batch is added to, as 0..1, when the network gets it."""
    seen = []
    network.module.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].detach() * 0.25 + 0.5)
    )
    return seen


def at_step(network, number, action):
    """Calls ``action`` within the network's pass of a step; validation passes do not count."""
    passes: list[None] = []

    def hook(*_):
        if torch.is_grad_enabled():
            passes.append(None)
            if len(passes) == number:
                action()

    return network.module.register_forward_pre_hook(hook)
