"""The naive way: match the features themselves, behind the activation."""

from patchcollide.methods.matching import Reading, match
from patchcollide.methods.problems import Problem
from patchcollide.networks import CollisionNetwork
from patchcollide.optimise import SearchState
from patchcollide.shapes import Float, Tensor


def match_features(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
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
    goal = _activated(problem.network, problem.search.target.pre_activation[None])[0]
    return match(problem, read, goal)


def activations_of(network: CollisionNetwork) -> Reading:
    """Returns what reads the values behind the layer's activation, with its own gradient."""
    return lambda images: _activated(network, network.pre_activation(images))


def _activated(network: CollisionNetwork, z: Float[Tensor, "batch units"]) -> Tensor:
    # Many networks apply it in place.
    activated: Tensor = network.module.get_submodule(network.layer)(z.clone())
    return activated
