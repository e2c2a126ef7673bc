"""Gradient descent on the distance of anything in a network to what it should be.

That is the target's features behind the activation, the naive way, or, for model metamers, what
noise gives one layer.
"""

import torch

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.images.tensors import pairwise_distances
from patchcollide.networks.activations import activated
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.optimisation.objective import ClassObjective
from patchcollide.optimisation.passes import Reading
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.shapes import Float, Tensor


class MatchObjective(ClassObjective):
    """Half the squared distance of each image's values to a goal, and nothing else.

    Images do not see each other: the loss is the mean over them, and of a mean the gradient of one
    image is its own.

    Args:
        task: Decides the checks, which are for the history.
        read: Returns the values of images, differentiable.
        goal: What they should be.
    """

    def __init__(self, task: DescentTask, read: Reading, goal: Float[Tensor, "values"]) -> None:
        super().__init__(task)
        self._read, self._goal = read, goal

    def values(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch"]:
        """Returns each image's loss."""
        return (self._read(images) - self._goal).square().sum(dim=1) / 2

    def backward(
        self, parameterisation: Parameterisation, step: int, generator: torch.Generator
    ) -> dict[str, float]:
        """See :meth:`ClassObjective.backward`: all steps are alike, and nothing is drawn."""
        del step, generator
        images = parameterisation.images()
        loss = self.values(images).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        row = {"loss": float(loss.detach())}
        distances = pairwise_distances(images.detach())
        return row | ({"distance": float(distances.mean())} if len(distances) else {})


def match(
    problem: Problem, read: Reading, goal: Float[Tensor, "values"]
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves every image on its own towards a goal, for all steps of the settings.

    Optimiser, schedule, checks and checkpoints are those of the default method, so that only the
    loss differs; the checks are for the history and end nothing.
    """
    objective = MatchObjective(problem.task, read, goal)
    return find_vertices(problem.task, problem.parameterisation, problem.checkpoint, objective)


def match_features(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Minimises ``1/2 |relu(z(u)) - relu(z(t))|^2`` over images ``u``, by gradient descent.

    A unit that is inactive at the target is pushed down while it responds, and no longer once it
    does not: its gradient is zero from there on, so images come to rest on the boundary of the
    polytope, not inside it. A unit that is active at the target and inactive at the image has no
    gradient either, though it is wrong; nothing but its neighbours can wake it.

    Source:
        The naive alternative of Li, Zhang and Malik 2019, Section 2; as in feature inversion,
        Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR
        2015, without their regulariser.
    """
    read = activations_of(problem.network)
    goal = activated(problem.network.call.activation, problem.task.target.pre_activation[None])[0]
    return match(problem, read, goal)


def activations_of(network: CollisionNetwork) -> Reading:
    """Returns what reads the values behind the layer's activation, with its own gradient."""
    return lambda images: activated(network.call.activation, network.pre_activation(images))


def find_metamers(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Matches all units of one layer, each image from noise of its own.

    No unit is driven anywhere and nothing parts the images but their noise: one solution a seed, a
    point where the default method finds a polytope. With ``baselines.match = "pre_activation"``
    inactive units have to meet the target's value too, which a collision does not ask;
    with ``"activation"`` this is :func:`match_features` from noise.

    Source:
        Feather, Durango, Gonzalez and McDermott, "Metamers of neural networks reveal divergence
        from human perceptual systems", NeurIPS 2019. They match the values behind the activation
        and let its gradient through where it is blind, which keeps units from dying; matching what
        goes into it has the same effect. Steps and schedule are ours.
    """
    if problem.config.baselines.match == "activation":
        return match_features(problem)
    return match(problem, problem.network.pre_activation, problem.task.target.pre_activation)
