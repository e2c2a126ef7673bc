"""What moves the parameters, by how much at each step, and what counts how much.

Parameters move by Adam with our schedule, or by the authors' averaged gradient with theirs.
"""

import math

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Objective, Optimiser

_AVERAGE = 0.99

_LAST_PHASE = 2 / 3


def make_optimiser(
    settings: Optimiser, parameterisation: Parameterisation
) -> torch.optim.Adam | torch.optim.SGD:
    """Returns what moves the parameter.

    ``"authors"`` is the released code's way: the gradient is averaged, 0.99 of the old average and
    0.01 of the new gradient. Where the first average comes from is not known; here it is the first
    gradient.
    """
    if settings.method == "authors":
        return torch.optim.SGD([parameterisation.parameter], momentum=_AVERAGE, dampening=_AVERAGE)
    return torch.optim.Adam([parameterisation.parameter], betas=(0.9, 0.99))


def step_size(step: int, settings: Optimiser, parameterisation: Parameterisation) -> float:
    """Returns the step size of a step, in the units of the parameter.

    Adam's is in units of the parameterisation. The authors' multiplies the gradient of one vertex's
    loss, where ours is of the mean over all.
    """
    rate = settings.learning_rate
    if settings.method == "authors":
        share = authors_schedule(step, settings.steps)
        return rate * share * settings.num_vertices * parameterisation.gradient_unit
    return rate * schedule(step, settings) * parameterisation.unit


def schedule(step: int, settings: Optimiser) -> float:
    """Returns the share of the learning rate at a step: warm-up, plateau, cosine to a twentieth."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    half = settings.steps / 2
    if step < half:
        return rise
    return rise * (0.05 + 0.95 * (1 + math.cos(math.pi * (step - half) / half)) / 2)


def authors_schedule(step: int, steps: int) -> float:
    """Returns the share of the learning rate at a step of the authors' schedule.

    Over the first two thirds from a hundredth to 1 and back, in equal factors; then a hundredth.
    With a learning rate of 0.1 these are the released code's 0.001 to 0.1 and back, and "a smaller
    step" later; where each begins is not recorded, so the shares of the steps are ours.
    """
    phase = step / (_LAST_PHASE * steps)
    return float(0.01 ** min(1.0, abs(2 * phase - 1)))


def weights_at(step: int, weights: Objective, settings: Optimiser) -> Objective:
    """Returns the weights at a step: the authors' go from 100:10:100 to 1000:1:100 in the end."""
    if settings.method != "authors" or step < _LAST_PHASE * settings.steps:
        return weights
    changed = {"active": 10 * weights.active, "inactive": weights.inactive / 10}
    return weights.model_copy(update=changed)
