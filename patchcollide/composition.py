"""The composition stage: vertices of a run, from neighbours or from free pixels."""

import logging
from typing import Any

import numpy as np

from patchcollide.checkpoints import Checkpoint
from patchcollide.config import Config
from patchcollide.errors import TargetError
from patchcollide.losses import TargetFeatures
from patchcollide.neighbours import Neighbours
from patchcollide.networks import CollisionNetwork
from patchcollide.optimise import VertexSearch, find_vertices, history_columns
from patchcollide.parameterisations import FreePixels, Parameterisation, PatchMixture
from patchcollide.polytope import seeded
from patchcollide.runs import Run, save_history, save_vertices
from patchcollide.targets import Target

logger = logging.getLogger(__name__)


def optimise_run(
    config: Config,
    network: CollisionNetwork,
    source: np.ndarray,
    target: Target,
    neighbours: Neighbours | None,
    run: Run,
) -> None:
    """Finds a run's vertices and writes them, their PNG files and the history.

    Args:
        config: Sections ``composition``, ``objective`` and ``optimiser``, and the seed.
        network: The network under study.
        source: The source as the network sees it, uint8 (H, W, 3).
        target: What the vertices are to collide with.
        neighbours: What to compose from; None for free pixels.
        run: Where the results go, and the checkpoint while it lasts.

    Raises:
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it; the state is kept.
        DiskFullError: If there is no room left.
    """
    search = VertexSearch(
        network=network,
        target=TargetFeatures.of(target.pre_activation, network.blind),
        target_class=target.class_index,
        objective=config.objective,
        optimiser=config.optimiser,
        seed=config.seed,
    )
    parameterisation = _parameterisation(config, network, source, neighbours)
    checkpoint = Checkpoint(run / "checkpoint.h5", run.fingerprint)
    vertices, progress = find_vertices(search, parameterisation, checkpoint)
    save_history(run, progress.history, history_columns(progress.history))
    images = 255 * vertices.permute(0, 2, 3, 1).cpu()
    save_vertices(
        run,
        images.contiguous().numpy(),
        {"steps": progress.step, "stopped_because": progress.stopped_because},
    )
    logger.info("Stopped after %d steps: %s.", progress.step, progress.stopped_because)


def check_inactive_units(config: Config, network: CollisionNetwork, target: Target) -> None:
    """Refuses or warns of a target with fewer inactive units than vertices.

    Each vertex drives one inactive unit of its own down; with too few of them, vertices share one.
    The hinge objective needs no unit of a vertex's own, so there that is only said.

    Raises:
        TargetError: If the objective has the absolute penalty, which is the sum over all inactive
            units but the vertex's own.
    """
    active = TargetFeatures.of(target.pre_activation, network.blind).active
    inactive, vertices = int((~active).sum()), config.optimiser.num_vertices
    if inactive >= vertices:
        return
    found = (
        f"the target has {inactive} inactive units at layer '{network.layer}' of "
        f"{network.full_name}, fewer than the {vertices} vertices (optimiser.num_vertices)"
    )
    if config.objective.penalty == "absolute":
        fewer = f"set optimiser.num_vertices={inactive}, " if inactive else ""
        raise TargetError(
            f"objective.penalty = 'absolute' gives each vertex an inactive unit of its own, but "
            f"{found}. Choose another layer or target, {fewer}or set objective.penalty=hinge."
        )
    logger.warning(
        "%s: %s.", found, "vertices share them" if inactive else "a collision must match every unit"
    )


def _parameterisation(
    config: Config,
    network: CollisionNetwork,
    source: np.ndarray,
    neighbours: Neighbours | None,
) -> Parameterisation:
    common: dict[str, Any] = {
        "num_vertices": config.optimiser.num_vertices,
        "output_size": network.input_size,
        "noise": config.optimiser.start_noise,
        "generator": seeded(config.seed, 0),
    }
    if neighbours is None:
        return FreePixels(source, **common)
    return PatchMixture(
        neighbours.patches,
        neighbours.grid,
        coefficient_size=config.composition.coefficient_size,
        **common,
    )
