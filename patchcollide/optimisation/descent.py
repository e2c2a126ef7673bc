"""The loop that finds vertices, from any parameterisation of the images, and how it moves them.

Parameters move by Adam with our schedule, or by the authors' averaged gradient with theirs.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Objective, Optimiser
from patchcollide.errors import DivergedError, InterruptedWorkError
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.objective import StepLoss
from patchcollide.optimisation.stopping import (
    VertexSearch,
    far_enough,
    next_diversity,
    sure_enough,
    validate,
)
from patchcollide.progress import StopRequest, stop_requests, track
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)

_AVERAGE = 0.99

_LAST_PHASE = 2 / 3


@dataclass
class SearchState:
    """How far the search has come.

    Attributes:
        step: Steps done.
        history: One row a step: the terms of the loss and, at checks, the validation.
        diversity: The weight of the vertices' distance now.
        stopped_because: Why it ended; empty while it goes on.
    """

    step: int = 0
    diversity: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_because: str = ""


@runtime_checkable
class Loss(Protocol):
    """What a step minimises."""

    def backward(
        self,
        parameterisation: Parameterisation,
        objective: Objective,
        generator: torch.Generator,
        /,
    ) -> dict[str, float]:
        """Adds the gradient of the loss to the parameter's; returns ``loss`` and its terms."""
        ...


@proof_modes(grad=True)
def find_vertices(
    search: VertexSearch,
    parameterisation: Parameterisation,
    checkpoint: Checkpoint | None = None,
    loss: Loss | None = None,
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
    """Moves the vertices until their hull collides with the target.

    Args:
        search: What to do.
        parameterisation: Starts where its parameter is, unless ``checkpoint`` holds a later state.
        checkpoint: Where to keep the state; None to keep none.
        loss: What to minimise; None for the objective of the search.

    Returns:
        The vertices, RGB in ``[0, 1]``, and how the search went.

    Raises:
        DivergedError: If the loss or a parameter is infinite or not a number.
        InterruptedWorkError: If the user asked to stop; the state is kept. Without a checkpoint a
            search that is over all the same gives its vertices back.
        OutOfMemoryError: If not even one image fits through the network.
        DiskFullError: If there is no room for the state.
    """
    optimiser = make_optimiser(search.optimiser, parameterisation)
    generator = seeded(search.seed, Purpose.DESCENT)
    progress = SearchState(diversity=search.objective.diversity)
    if checkpoint is not None:
        state = checkpoint.load(parameterisation.parameter, optimiser, generator)
        progress = SearchState(**state) if state else progress
    losses = loss or StepLoss(search)
    with stop_requests() as request:
        _iterate(
            search, losses, parameterisation, optimiser, generator, progress, checkpoint, request
        )
    with torch.no_grad():
        return parameterisation.images().detach().clone(), progress


def _iterate(
    search: VertexSearch,
    losses: Loss,
    parameterisation: Parameterisation,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    progress: SearchState,
    checkpoint: Checkpoint | None,
    request: StopRequest,
) -> None:
    settings = search.optimiser

    def keep() -> None:
        if checkpoint is not None:
            checkpoint.save(parameterisation.parameter, optimiser, generator, vars(progress))

    # A search may have been stopped by the user just when it was over.
    remaining = range(progress.step, 0 if progress.stopped_because else settings.steps)
    for step in track(remaining, "Moving the vertices", len(remaining)):
        row = _step(search, losses, parameterisation, optimiser, generator, progress)
        progress.history.append(row)
        progress.step = step + 1
        if progress.step % settings.check_every == 0 or progress.step == settings.steps:
            _check(search, parameterisation, progress)
        is_over = bool(progress.stopped_because)
        if request.requested or is_over or progress.step % settings.checkpoint_every == 0:
            keep()
        # Where nothing is kept, what is found is better given back than thrown away.
        if request.requested and not (is_over and checkpoint is None):
            raise InterruptedWorkError(_how_to_go_on(progress, settings, checkpoint))
        if is_over:
            return


def _check(search: VertexSearch, parameterisation: Parameterisation, progress: SearchState) -> None:
    """Adds a validation to the last row of the history, and draws its consequences."""
    with torch.no_grad():
        row = validate(search, parameterisation.images())
    progress.history[-1] |= {**row, "diversity": progress.diversity}
    logger.debug("step %d: %s", progress.step, progress.history[-1])
    if search.stops_early and sure_enough(row, search) and far_enough(row, search):
        progress.stopped_because = "the validation batch collides"
    elif progress.step == search.optimiser.steps:
        progress.stopped_because = "all steps were done"
    progress.diversity = next_diversity(progress.diversity, row, search)


def _step(
    search: VertexSearch,
    losses: Loss,
    parameterisation: Parameterisation,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    progress: SearchState,
) -> dict[str, float]:
    started = time.perf_counter()
    settings, step = search.optimiser, progress.step
    for group in optimiser.param_groups:
        group["lr"] = step_size(step, settings, parameterisation)
    optimiser.zero_grad()
    objective = objective_at(step, search.objective, settings)
    objective = objective.model_copy(update={"diversity": progress.diversity})
    row = {"step": float(step), **losses.backward(parameterisation, objective, generator)}
    if not math.isfinite(row["loss"]):
        raise _diverged(f"The loss is {row['loss']} at step {step}", settings)
    optimiser.step()
    parameterisation.project()
    # A finite loss can have an infinite gradient; nobody would notice after the last step.
    if not parameterisation.parameter.isfinite().all():
        raise _diverged(f"The parameters are not finite after step {step}", settings)
    return row | {"seconds": time.perf_counter() - started}


def _diverged(what: str, settings: Optimiser) -> DivergedError:
    return DivergedError(
        f"{what}. Set optimiser.learning_rate below {settings.learning_rate}, or lower the "
        "weights in section objective."
    )


def _how_to_go_on(progress: SearchState, settings: Optimiser, checkpoint: Checkpoint | None) -> str:
    done = f"Stopped after {progress.step} of {settings.steps} steps"
    if checkpoint is None:
        return f"{done}; nothing was kept."
    return f"{done}; the state is in {checkpoint.path}. Run the same command again to go on."


def history_columns(history: Sequence[dict[str, float]]) -> list[str]:
    """Returns the columns of a history, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in history for name in row))


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


def objective_at(step: int, objective: Objective, settings: Optimiser) -> Objective:
    """Returns the weights at a step: the authors' go from 100:10:100 to 1000:1:100 in the end."""
    if settings.method != "authors" or step < _LAST_PHASE * settings.steps:
        return objective
    changed = {"active": 10 * objective.active, "inactive": objective.inactive / 10}
    return objective.model_copy(update=changed)
