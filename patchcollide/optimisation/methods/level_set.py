"""Level Set Traversal: the target's picture moved towards the source while its class stays sure.

Written from the paper; features play no part, so nothing says that they stay near the target's.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import cross_entropy

from patchcollide.errors import InterruptedWorkError, TargetError
from patchcollide.images.tensors import as_batch
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.optimisation.passes import Passes
from patchcollide.progress import stop_requests, track
from patchcollide.shapes import Float, Tensor

_TINY = 1e-30


@dataclass(frozen=True)
class Walkers:
    """Images on their way, and how they go.

    Attributes:
        destinations: Where they go, in ``[0, 1]``.
        rate: The share of the way that is left which a step goes.
        push: What a step goes back towards the class at most, in ``[0, 1]``, at each value.
    """

    destinations: Float[Tensor, "vertices channels height width"]
    rate: float
    push: float

    def step(
        self,
        images: Float[Tensor, "vertices channels height width"],
        pushes: Float[Tensor, "vertices channels height width"],
        gradients: Float[Tensor, "vertices channels height width"],
    ) -> tuple[
        Float[Tensor, "vertices channels height width"],
        Float[Tensor, "vertices channels height width"],
    ]:
        """Returns the images after a step, and their pushes (the paper's Algorithm 1).

        The way is gone orthogonally to the gradient, so that the class is as sure as before to
        first order; the push makes good what is lost beyond that.

        Args:
            images: In ``[0, 1]``.
            pushes: Those of the step before.
            gradients: Of the cross-entropy of the class.
        """
        ways = self.destinations - images
        squares = gradients.square().sum(dim=(1, 2, 3), keepdim=True)
        along = (gradients * ways).sum(dim=(1, 2, 3), keepdim=True) / squares.clamp_min(_TINY)
        pushes = (pushes - self.push * gradients).clamp(-self.push, self.push)
        # Departs from the paper in that images stay in their range.
        moved = images + self.rate * (ways - along * gradients) + pushes
        return moved.clamp(0, 1), pushes


def _terms(logits: Tensor, first: int, target_class: int) -> tuple[Tensor, dict[str, Tensor]]:
    del first
    wanted = torch.full((len(logits),), target_class, device=logits.device)
    losses = cross_entropy(logits, wanted, reduction="none")
    return losses.sum(), {"loss": losses}


def traverse(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves the target's picture towards the source, and stops where the class becomes less sure.

    Vertices differ by the noise of their destinations, ``optimiser.start_noise``: the paper makes
    one image of each pair. An image stops before its class's probability falls by more than
    ``baselines.confidence_drop`` below the target's own.

    Source:
        Balasubramanian, Sriramanan, Sadasivan and Feizi, "Exploring Geometry of Blind Spots in
        Vision Models", NeurIPS 2023, Algorithm 1.

    Raises:
        TargetError: If only the target's features are known.
        InterruptedWorkError: If the user stopped it.
    """
    if problem.target.picture is None:
        raise TargetError(
            "method = 'level_set' moves the target's image, but only its features were given. Give "
            "--target an image, or choose another --method."
        )
    settings, network, task = problem.config.baselines, problem.network, problem.task
    destinations = problem.parameterisation.images().detach()
    walkers = Walkers(destinations, settings.traversal_rate, settings.traversal_push / 255)
    image = as_batch(problem.target.picture[None]).to(destinations)
    images = image.repeat(len(destinations), 1, 1, 1)
    passes = Passes(network, len(images), lambda batch: network(batch).logits)
    terms = partial(_terms, target_class=task.target_class)
    state = DescentState()
    before, pushes = images, torch.zeros_like(images)
    moving = torch.ones(len(images), dtype=torch.bool, device=images.device)
    least = task.target_probability - settings.confidence_drop
    with stop_requests() as request:
        for step in track(range(task.optimiser.steps + 1), "Traversing", task.optimiser.steps + 1):
            found, gradients = passes.gradient(images, terms)
            moving = moving & (found["loss"].neg().exp() >= least)
            images = torch.where(moving[:, None, None, None], images, before)
            ways = (images - destinations).square().mean(dim=(1, 2, 3)).sqrt()
            row = {"step": float(step), "loss": float(found["loss"].mean())}
            state.history.append(row | {"way_left": 255 * float(ways.mean())})
            state.step = step
            if not moving.any() or step == task.optimiser.steps:
                break
            if request.requested:
                raise InterruptedWorkError(
                    f"Stopped after {step} of {task.optimiser.steps} steps. A traversal is short "
                    "and nothing of it is kept: give the command again, and it begins anew."
                )
            before = images
            stepped, pushes = walkers.step(images, pushes, gradients)
            images = torch.where(moving[:, None, None, None], stepped, images)
    stopped = int((~moving).sum())
    state.stopped_because = (
        f"{stopped} of {len(images)} images would have left the target's class, or been less sure "
        f"of it by {settings.confidence_drop:g}; the others did all steps"
    )
    return images, state
