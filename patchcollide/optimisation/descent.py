"""The loop that finds vertices, from any parameterisation of the images."""

import logging
import math
import time
from collections.abc import Sequence

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Optimiser
from patchcollide.errors import DivergedError, InterruptedWorkError
from patchcollide.io.system import freed_memory_kept
from patchcollide.optimisation.checkpoints import Checkpoint, DescentState
from patchcollide.optimisation.objective import HullObjective, Objective
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.progress import StopRequest, note, stop_requests, track
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


@proof_modes(grad=True)
def find_vertices(
    task: DescentTask,
    parameterisation: Parameterisation,
    checkpoint: Checkpoint | None = None,
    objective: Objective | None = None,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves the vertices until their hull collides with the target.

    Args:
        task: What to do.
        parameterisation: Starts where its parameter is, unless ``checkpoint`` holds a later state.
        checkpoint: Where to keep the state; None to keep none.
        objective: What to minimise; None for that of the descent's own settings.

    Returns:
        The vertices, RGB in ``[0, 1]``, and how the descent went.

    Raises:
        DivergedError: If the loss or a parameter is infinite or not a number.
        InterruptedWorkError: If the user asked to stop; the state is kept. Without a checkpoint a
            descent that is over all the same gives its vertices back.
        OutOfMemoryError: If not even one image fits through the network.
        DiskFullError: If the disk is full.
    """
    descent = Descent(objective or HullObjective(task), parameterisation, checkpoint)
    with stop_requests() as request, freed_memory_kept():
        descent.run(request)
    with torch.no_grad():
        descent.take_the_best()
        return parameterisation.images().detach().clone(), descent.state


class Descent:
    """Steps on one objective, from where its parameters are or a checkpoint left them.

    Args:
        objective: What to minimise, and the settings.
        parameterisation: What moves.
        checkpoint: Where to keep the state; None to keep none.

    Attributes:
        state: How far it has come.

    Raises:
        RunError: If the checkpoint is damaged or belongs to another run.
    """

    def __init__(
        self,
        objective: Objective,
        parameterisation: Parameterisation,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._objective, self._parameterisation = objective, parameterisation
        self._settings, self._checkpoint = objective.task.optimiser, checkpoint
        self._optimiser = objective.optimiser(parameterisation)
        self._generator = seeded(objective.task.seed, Purpose.DESCENT)
        self.state = DescentState()
        if checkpoint is not None:
            moving = parameterisation.parameter, self._optimiser, self._generator
            self.state = checkpoint.load(*moving) or self.state
        objective.state |= self.state.weights
        self.state.weights = objective.state
        objective.kept = self.state.kept

    def run(self, request: StopRequest) -> None:
        """Goes on until the objective is reached or all steps are done.

        Raises:
            DivergedError: If the loss or a parameter is infinite or not a number.
            InterruptedWorkError: If ``request`` asked to stop; see :func:`find_vertices`.
        """
        settings, state = self._settings, self.state
        # A descent may have been stopped by the user just when it was over.
        remaining = range(state.step, 0 if state.stopped_because else settings.steps)
        for step in track(remaining, "Moving the vertices", len(remaining)):
            state.history.append(self._step())
            state.step = step + 1
            is_due = state.step == settings.steps or self._objective.is_due(state.step)
            if is_due or state.step % settings.check_every == 0:
                self._check()
            row = state.history[-1]
            tau = row.get("tau", row.get("validation_tau_max"))
            note(step=state.step, loss=row["loss"], tau=tau)
            is_over = bool(state.stopped_because)
            if request.requested or is_over or state.step % settings.checkpoint_every == 0:
                self._keep()
            # Where nothing is kept, what is found is better given back than thrown away.
            if request.requested and not (is_over and self._checkpoint is None):
                raise InterruptedWorkError(_how_to_go_on(state, settings, self._checkpoint))
            if is_over:
                return

    def take_the_best(self) -> None:
        """Puts the parameters where the objective found them best."""
        if self._objective.kept is not None:
            self._parameterisation.parameter.copy_(self._objective.kept)

    def _keep(self) -> None:
        if self._checkpoint is not None:
            parameter = self._parameterisation.parameter
            self.state.kept = self._objective.kept
            self._checkpoint.save(parameter, self._optimiser, self._generator, self.state)

    def _check(self) -> None:
        """Adds a check to the last row of the history, and ends the descent if it says so."""
        state = self.state
        with torch.no_grad():
            row, state.stopped_because = self._objective.check(self._parameterisation, state.step)
        state.history[-1] |= row
        logger.debug("step %d: %s", state.step, state.history[-1])
        if self._objective.begins_anew:
            for average in self._optimiser.state[self._parameterisation.parameter].values():
                average.zero_()

    def _step(self) -> dict[str, float]:
        started = time.perf_counter()
        settings, step, parameterisation = self._settings, self.state.step, self._parameterisation
        for group in self._optimiser.param_groups:
            group["lr"] = self._objective.step_size(step, parameterisation)
        for _ in range(self._objective.moves):
            self._optimiser.zero_grad()
            terms = self._objective.backward(parameterisation, step, self._generator)
            if not math.isfinite(terms["loss"]):
                raise _diverged(f"The loss is {terms['loss']} at step {step}", settings)
            self._optimiser.step()
            parameterisation.project()
        # A finite loss can have an infinite gradient; nobody would notice after the last step.
        if not parameterisation.parameter.isfinite().all():
            raise _diverged(f"The parameters are not finite after step {step}", settings)
        return {"step": float(step), **terms, "seconds": time.perf_counter() - started}


def _diverged(what: str, settings: Optimiser) -> DivergedError:
    return DivergedError(
        f"{what}. Set optimiser.learning_rate below {settings.learning_rate}, or lower the "
        "weights in section objective."
    )


def _how_to_go_on(state: DescentState, settings: Optimiser, checkpoint: Checkpoint | None) -> str:
    done = f"Stopped after {state.step} of {settings.steps} steps"
    if checkpoint is None:
        return f"{done}; nothing was kept."
    return f"{done}; the state is in {checkpoint.path}. Run the same command again to go on."


def history_columns(history: Sequence[dict[str, float]]) -> list[str]:
    """Returns the columns of a history, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in history for name in row))
