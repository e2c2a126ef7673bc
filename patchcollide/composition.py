"""The composition stage: vertices of a run, from neighbours or from free pixels."""

import logging
from typing import Any

import numpy as np

from patchcollide.checkpoints import Checkpoint
from patchcollide.config import Config
from patchcollide.evaluation import as_batch
from patchcollide.losses import TargetFeatures
from patchcollide.neighbours import Neighbours
from patchcollide.networks import CollisionNetwork
from patchcollide.optimise import VertexSearch, find_vertices, history_columns
from patchcollide.parameterisations import FreePixels, Parameterisation, PatchMixture
from patchcollide.polytope import seeded
from patchcollide.runs import Run, save_history, save_vertices

logger = logging.getLogger(__name__)


def optimise_run(
    config: Config,
    network: CollisionNetwork,
    pictures: dict[str, np.ndarray],
    neighbours: Neighbours | None,
    run: Run,
) -> None:
    """Finds a run's vertices and writes them, their PNG files and the history.

    Args:
        config: Sections ``composition``, ``objective`` and ``optimiser``, and the seed.
        network: The network under study.
        pictures: ``source`` and ``target`` as the network sees them, uint8 (H, W, 3).
        neighbours: What to compose from; None for free pixels.
        run: Where the results go, and the checkpoint while it lasts.

    Raises:
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it; the state is kept.
        DiskFullError: If there is no room left.
    """
    target_class, _, _ = network.top(pictures["target"])
    pre_activation = network(as_batch(pictures["target"][None])).pre_activation[0]
    search = VertexSearch(
        network=network,
        target=TargetFeatures.of(pre_activation, network.blind),
        target_class=target_class,
        objective=config.objective,
        optimiser=config.optimiser,
        seed=config.seed,
    )
    parameterisation = _parameterisation(config, network, pictures["source"], neighbours)
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
    composed = config.composition.neighbours or None
    return PatchMixture(
        neighbours.patches[:, :composed],
        neighbours.grid,
        margin=neighbours.margin,
        coefficient_size=config.composition.coefficient_size,
        **common,
    )
