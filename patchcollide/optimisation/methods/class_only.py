"""The control of a sceptic: vertices for the target's class alone, whatever features do.

How far the features of these are from the target's says how much of a collision of features comes
with the class.
"""

import math
from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.images.tensors import pairwise_distances
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.optimisation.objective import ClassObjective, with_hull_samples
from patchcollide.optimisation.passes import Passes
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.shapes import Float, Tensor


class LogitsObjective(ClassObjective):
    """``-mean log p - w D``: the class all over the hull, and vertices far apart.

    ``p`` is the probability of the target's class, of vertices and of fresh random points between
    them; ``D`` the mean distance of the vertices as a share of the value range, since a logarithm
    has no unit either; ``w`` goes by the checks, as in the default objective.

    Args:
        task: What to do.
    """

    def __init__(self, task: DescentTask) -> None:
        # A gap that the settings ask for is one of features.
        settings = task.optimiser.model_copy(update={"stop_gap": math.inf})
        super().__init__(replace(task, optimiser=settings))
        count = task.optimiser.num_vertices + task.objective.hull_samples
        self._passes = Passes(task.network, count, lambda images: task.network(images).logits)

    def backward(
        self, parameterisation: Parameterisation, step: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See :meth:`ClassObjective.backward`: the generator draws the points between vertices.

        Returns:
            The loss, the mean of ``-log p``, and the mean distance of vertices in 0..255.

        Raises:
            OutOfMemoryError: If not even one image fits through the network.
        """
        del step
        images = parameterisation.images()
        batch = with_hull_samples(images, self.task.objective.hull_samples, generator)
        terms, gradient = self._passes.gradient(batch.detach(), self._terms)
        row = {"cross_entropy": float(terms["cross_entropy"].mean())}
        row["loss"] = row["cross_entropy"]
        # Its gradient in the images is that of the network's part; its value means nothing.
        surrogate = (batch * gradient).sum() / len(batch)
        distances = pairwise_distances(images)
        if len(distances):
            weight = self.state["diversity"] / (255 * math.sqrt(images[0].numel()))
            surrogate = surrogate - weight * distances.mean()
            row["distance"] = float(distances.detach().mean())
            row["loss"] -= weight * row["distance"]
        surrogate.backward()  # type: ignore[no-untyped-call]
        return row

    def _terms(
        self, logits: Float[Tensor, "part classes"], first: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        del first
        wanted = torch.full((len(logits),), self.task.target_class, device=logits.device)
        found = cross_entropy(logits, wanted, reduction="none")
        return found.sum(), {"cross_entropy": found}


def reach_class(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves vertices until their hull is of the target's class; features play no part.

    Everything but the loss is as in the default method: vertices, points between them, optimiser,
    schedule, checks and the rule that ends the descent, without its ``stop_gap``.
    """
    objective = LogitsObjective(problem.task)
    return find_vertices(problem.task, problem.parameterisation, problem.checkpoint, objective)
