"""Model metamers: noise that comes to give one layer what the target gives it."""

from patchcollide.methods.features import match_features
from patchcollide.methods.matching import match
from patchcollide.methods.problems import Problem
from patchcollide.optimise import SearchState
from patchcollide.shapes import Float, Tensor


def find_metamers(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
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
    return match(problem, problem.network.pre_activation, problem.search.target.pre_activation)
