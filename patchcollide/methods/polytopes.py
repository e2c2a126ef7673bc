"""The default method: vertices of a polytope whose whole hull collides."""

from patchcollide.methods.problems import Problem
from patchcollide.optimise import SearchState, find_vertices
from patchcollide.shapes import Float, Tensor


def find_polytope(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], SearchState]:
    """Moves vertices until their hull collides; see :func:`patchcollide.optimise.find_vertices`.

    Source:
        Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019.
    """
    return find_vertices(problem.search, problem.parameterisation, problem.checkpoint)
