"""Vertices of a run, from neighbours or from free pixels."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from patchcollide.composition.contributions import Contributions
from patchcollide.composition.parameterisations import FreePixels, Parameterisation, PatchMixture
from patchcollide.config import Config
from patchcollide.errors import GeometryError
from patchcollide.evaluation.summary import Ending
from patchcollide.images.tensors import to_channels
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.methods.problem import Problem, begin
from patchcollide.optimisation.methods.registry import method_of
from patchcollide.optimisation.stopping import DescentTask
from patchcollide.optimisation.units import driven_units
from patchcollide.polyhedra.image_spaces import PatchSimplex
from patchcollide.proofs.shrinking import require_bounds, shrink_until_proved
from patchcollide.randomness import Purpose, seeded
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.shapes import Float32, ndarray
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundVertices:
    """What a descent ended with.

    Attributes:
        unrounded: The vertices, 0 to 255.
        state: How the descent ended.
        history: One row a step.
        contributions: Which neighbours pixels come from; None of free pixels.
    """

    unrounded: Float32[ndarray, "vertices height width channels"]
    state: Ending
    history: list[dict[str, float]]
    contributions: Contributions | None


@proof_modes(grad=True)
def find_by_method(
    config: Config,
    network: CollisionNetwork,
    source: np.ndarray,
    target: Target,
    neighbours: Neighbours | None,
    checkpoint: Checkpoint | None = None,
) -> FoundVertices:
    """Finds vertices by the method that the settings name; arguments and errors as above."""
    task = make_task(config, network, target)
    if config.objective.proved:
        require_bounds(network)
    begun, start = begin(config, source, target)
    parameterisation = make_parameterisation(begun, network, start, neighbours)
    problem = Problem(config, network, target, task, parameterisation, checkpoint)
    vertices, progress = method_of(config)(problem)
    images = 255 * vertices.permute(0, 2, 3, 1).cpu()
    contributions = None
    if isinstance(parameterisation, PatchMixture):
        contributions = parameterisation.contributions()
    unrounded, state = images.contiguous().numpy(), progress.end
    if config.objective.proved:
        gamma = config.objective.tightness or None
        unrounded, scale = shrink_until_proved(
            network, unrounded, target, gamma=gamma, seed=config.seed
        )
        state = {**state, "shrunk_to": scale}
    return FoundVertices(
        unrounded=unrounded,
        state=state,
        history=progress.history,
        contributions=contributions,
    )


def make_task(config: Config, network: CollisionNetwork, target: Target) -> DescentTask:
    """Returns the task that the settings describe.

    Methods other than the default drive no unit anywhere and, but for that of the class, do all
    their steps: where they end is what is asked of them. With a bound on features nothing but
    their distance parts vertices.

    Raises:
        TargetError: If there are fewer inactive units than vertices, or a unit that is named in
            the settings is not inactive.
    """
    features = target.features(network)
    return DescentTask(
        network=network,
        target=features,
        target_class=target.class_index,
        target_probability=target.probability,
        target_margin=target.margin,
        units=driven_units(config, features),
        objective=config.objective,
        optimiser=config.optimiser,
        seed=config.seed,
        stops_early=config.method in ("polytope", "class"),
    )


def make_parameterisation(
    config: Config,
    network: CollisionNetwork,
    source: np.ndarray,
    neighbours: Neighbours | None,
) -> Parameterisation:
    """Returns the parameters that the settings describe, at the start.

    Args:
        config: Sections ``composition`` and ``optimiser``, and the seed.
        network: The network under study.
        source: The source as the network sees it, uint8 (H, W, channels).
        neighbours: What to compose from; None for free pixels.
    """
    make: Callable[..., Parameterisation]
    if neighbours is None:
        make = functools.partial(FreePixels, source)
    else:
        composed = config.composition.neighbours or None
        make = functools.partial(
            PatchMixture,
            to_channels(neighbours.patches[:, :composed], network.channels),
            neighbours.grid,
            margin=neighbours.margin,
            coefficient_size=config.composition.coefficient_size,
            tint=config.composition.tint,
        )
    return make(
        num_vertices=config.optimiser.num_vertices,
        output_size=network.input_size,
        noise=config.optimiser.start_noise,
        generator=seeded(config.seed, Purpose.START),
        device=network.device,
    )


def mixing_space(config: Config, network: CollisionNetwork, neighbours: Neighbours) -> PatchSimplex:
    """Returns all compositions of neighbours, for exact polytopes.

    Args:
        config: Section ``composition``.
        network: Decides the size and the channels of images.
        neighbours: What to compose from.

    Raises:
        GeometryError: If images are not affine in the coefficients, or are not of the network's
            size.
    """
    grid, side = neighbours.grid, neighbours.grid.positions_per_side
    covered = grid.stride * (side - 1) + grid.window_size
    whole = neighbours.patches.shape[2] == grid.window_size
    if neighbours.margin or not whole or covered != network.input_size:
        raise GeometryError(
            f"Exact compositions should cover {network.input_size} pixels, the input of "
            f"{network.name}, without margins, but the neighbours' {side} windows of "
            f"{grid.window_size} at stride {grid.stride} cover {covered}, with margins of "
            f"{neighbours.margin}, from patches of {neighbours.patches.shape[2]}. Set "
            "images.size_px, patches and composition.margin_px so."
        )
    composed = config.composition.neighbours or None
    patches = to_channels(neighbours.patches[:, :composed], network.channels)
    count, window = patches.shape[1:3]
    # In float64: a target of these very patches must be met exactly.
    tiles = patches.reshape(side, side, count, window, window, -1).transpose(2, 5, 0, 1, 3, 4) / 255
    return PatchSimplex.of(tiles, grid.stride, config.composition.coefficient_size).reduced()
