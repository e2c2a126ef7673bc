"""Gradient descent on the distance of anything in a network to what it should be."""

from collections.abc import Callable

import torch

from patchcollide.config import Objective
from patchcollide.losses import pairwise_distances
from patchcollide.methods.problems import Problem
from patchcollide.optimise import SearchState, find_vertices
from patchcollide.parameterisations import Parameterisation
from patchcollide.shapes import Float, Tensor

Reading = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch values"]]


class MatchLoss:
    """Half the squared distance of each image's values to a goal, and nothing else.

    Images do not see each other: the loss is the mean over them, and of a mean the gradient of one
    image is its own.

    Args:
        read: Returns the values of images, differentiable.
        goal: What they should be.
    """

    def __init__(self, read: Reading, goal: Float[Tensor, "values"]) -> None:
        self._read, self._goal = read, goal

    def values(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch"]:
        """Returns each image's loss."""
        return (self._read(images) - self._goal).square().sum(dim=1) / 2

    def backward(
        self, parameterisation: Parameterisation, _: Objective, __: torch.Generator
    ) -> dict[str, float]:
        """Adds the gradient of the loss to the parameter's; returns the loss of the step."""
        images = parameterisation.images()
        loss = self.values(images).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        row = {"loss": float(loss.detach())}
        distances = pairwise_distances(images.detach())
        return row | ({"distance": float(distances.mean())} if len(distances) else {})


def match(
    problem: Problem, read: Reading, goal: Float[Tensor, "values"]
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
    """Moves every image on its own towards a goal, for all steps of the settings.

    Optimiser, schedule, checks and checkpoints are those of the default method, so that only the
    loss differs; the checks are for the history and end nothing.
    """
    loss = MatchLoss(read, goal)
    return find_vertices(problem.search, problem.parameterisation, problem.checkpoint, loss)
