"""A targeted adversarial example: the target's class with next to no change, for scale.

This module owns Foolbox.
"""

import importlib
import warnings
from typing import Any

import torch
from torch import nn

from patchcollide.errors import MissingLibraryError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor


def import_foolbox() -> Any:
    """Returns the module ``foolbox``; MissingLibraryError if it is not installed."""
    try:
        with warnings.catch_warnings():
            # Foolbox 3.3 takes a filter from where SciPy had it before.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("foolbox")
    except ImportError as error:
        raise MissingLibraryError(
            f"method = 'adversarial' needs Foolbox, which cannot be imported ({error}). Install it "
            "with `pip install 'patchcollide[baselines]'`, or choose another --method."
        ) from error


class _Classifier(nn.Module):
    """Images in ``[0, 1]`` to logits, as Foolbox wants a model."""

    def __init__(self, network: CollisionNetwork) -> None:
        super().__init__()
        self._network = [network]  # In a list, so that it is not taken for a part of this module.

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        return self._network[0](images).logits


def attack(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves images to the target's class within a small distance of the source.

    Projected gradient descent on the cross-entropy of the target's class, from a random point
    within ``baselines.radius`` grey levels of each pixel; features play no part, so nothing says
    that they come any nearer to the target's.

    Source:
        Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to
        Adversarial Attacks", ICLR 2018, as Foolbox has it.
    """
    foolbox = import_foolbox()
    settings, network = problem.config.baselines, problem.network
    starts = problem.parameterisation.images().detach()
    model = foolbox.PyTorchModel(_Classifier(network).eval(), bounds=(0, 1), device=network.device)
    labels = torch.full((len(starts),), problem.task.target_class, device=starts.device)
    descent = foolbox.attacks.LinfProjectedGradientDescentAttack(steps=settings.attack_steps)
    # Foolbox draws from PyTorch's own generator.
    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(seeded(problem.config.seed, Purpose.ADVERSARIAL).initial_seed())
        _, images, reached = descent(
            model,
            starts,
            foolbox.criteria.TargetedMisclassification(labels),
            epsilons=settings.radius / 255,
        )
    share = float(reached.double().mean())
    row = {"step": float(settings.attack_steps), "validation_success": share}
    state = DescentState(settings.attack_steps, history=[row])
    state.stopped_because = (
        f"all steps were done; {share:.0%} of the images reached the target's class"
    )
    return images.detach(), state
