"""The collision stages: from source and target to a run's folder, and that measured again."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import DivergedError, InputError, RunError
from patchcollide.io.files import output_path
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.methods.registry import require_applicable
from patchcollide.optimisation.vertices import find_by_method, make_task
from patchcollide.parallel import LOCAL, Backend
from patchcollide.retrieval.engines import named_engine
from patchcollide.retrieval.neighbours import Neighbours, require_neighbours
from patchcollide.runs.folder import (
    SUMMARY_FILE,
    Run,
    open_run,
    require_files,
    start_run,
)
from patchcollide.runs.inputs import (
    CollisionInputs,
    announce,
    require_two_pictures,
    write_pair,
)
from patchcollide.runs.networks import network_of
from patchcollide.runs.pictures import WHOLE, Crops, choose_picture
from patchcollide.runs.prove import prove_once
from patchcollide.runs.report import write_report
from patchcollide.runs.retrieve import adopt_neighbours, retrieve_neighbours
from patchcollide.runs.summary import record_seconds, write_summary
from patchcollide.runs.vertices import save_found
from patchcollide.store.reader import PatchStore, open_store
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


@proof_modes(grad=True)
def collide(
    config: Config,
    source: Path,
    target: Path,
    out: Path,
    store_path: Path | None = None,
    backend: Backend = LOCAL,
    neighbours_path: Path | None = None,
    images: Path | None = None,
    crops: Crops = WHOLE,
) -> Path:
    """Finds vertices that collide with a target, measures the polytope between them, and reports.

    Interrupted at any point, the same call goes on from the last finished stage or checkpoint.

    Args:
        config: All settings.
        source: The image whose look is kept: a file, or ``imagenet:CLASS/NAME`` of the store.
        target: The image whose features are matched, likewise, or a file of features, ``.h5`` or
            ``.npz``.
        out: The run's folder.
        store_path: Where patches come from.
        backend: Where the exact and the certified engine pass over the store.
        neighbours_path: Neighbours found before, in place of a store. The target's own image is
            not kept out of them. With neither, pixels vary freely.
        images: A folder of the data set's images, for the distances and the gaps of random pairs;
            without it they are of the store's images.
        crops: The parts of source and target that are meant.

    Returns:
        ``out``.

    Raises:
        InputError: If an image, the network, the store or ``out`` cannot be used.
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it; the state is kept.
        DiskFullError: If the disk is full.
    """
    out = output_path(out)
    require_applicable(config, pixels=not (store_path or neighbours_path))
    if store_path and neighbours_path:
        raise RunError(
            f"Patches come from a store or from neighbours found before, but {store_path} and "
            f"{neighbours_path} were given. Give one of --store and --neighbours."
        )
    store = open_store(config, store_path) if store_path else None
    if neighbours_path:
        seen = choose_picture(config, source, store, crops.source)
        require_neighbours(config, seen.picture, neighbours_path)
    network, origin = load_network(config.network, config.seed), store or neighbours_path
    inputs = CollisionInputs.read(
        config, network, source, target, origin, images=images, crops=crops
    )
    require_two_pictures(config, inputs)

    def make(run: Run) -> None:
        _make_run(config, network, inputs, run, backend)

    make_whole(config, network, inputs, out, make)
    if config.objective.proved:
        prove_once(out)
    return out


def make_whole(
    config: Config,
    network: CollisionNetwork,
    inputs: CollisionInputs,
    out: Path,
    make: Callable[[Run], None],
) -> Path:
    """Makes a run, or what is left of one that was begun; nothing if it is there.

    Args:
        config: All settings.
        network: The network under study.
        inputs: What the run is made from.
        out: Its folder.
        make: Writes what is not there yet into the folder, up to the vertices' PNG files; the
            measures and the page are made here.

    Returns:
        ``out``.

    Raises:
        InputError: If something else is at ``out``, or as ``make`` does.
    """
    described = inputs.described(config, network, out)
    run = start_run(out, config, described, inputs.identity(network))
    if run.finished:
        require_files(run, config.optimiser.num_vertices)
        logger.info("%s holds this run already: nothing to do.", out)
        return out
    begun = (run / "checkpoint.h5").exists()
    try:
        announce(config, network, inputs)
        make(run)
        with run.timed("evaluate"):
            write_summary(run, network, inputs.images or inputs.store)
        record_seconds(run)
        with run.timed("report"):
            write_report(run)
        record_seconds(run)
    except (InputError, DivergedError):
        # Corrected settings make another run: what the refused one began would be in its way.
        if not begun:
            run.discard_unless_found()
        raise
    run.finish()
    return out


@proof_modes()
def evaluate(folder: Path) -> Path:
    """Measures a finished run again, from its PNG files; rewrites ``summary.json`` and the page.

    Raises:
        RunError: If the folder holds no finished run.
        NetworkError: If its network cannot be had, or its weights are others now.
    """
    run = open_run(folder)
    write_summary(run, network_of(run))
    write_report(run)
    return run / SUMMARY_FILE


def report(folder: Path) -> Path:
    """Draws a finished run's figures and page again; returns the page's path."""
    return write_report(open_run(folder))


def _make_run(
    config: Config,
    network: CollisionNetwork,
    inputs: CollisionInputs,
    run: Run,
    backend: Backend,
) -> None:
    """Does what is left to do in a run's folder, up to its vertices."""
    # Before anything long begins: it refuses targets without enough inactive units.
    make_task(config, network, inputs.target)
    write_pair(run, network, inputs.source, inputs.target)
    neighbours = None
    if inputs.origin is not None:
        with run.timed("retrieve"):
            neighbours = _neighbours(config, inputs, inputs.origin, run, backend)
    if not (run / "vertices.h5").exists():
        with run.timed("optimise"):
            optimise_run(config, network, inputs.source, inputs.target, neighbours, run)


def _neighbours(
    config: Config,
    inputs: CollisionInputs,
    origin: PatchStore | Path,
    run: Run,
    backend: Backend,
) -> Neighbours:
    path = run / "neighbours.h5"
    if isinstance(origin, Path):
        return adopt_neighbours(config, origin, path)
    others = [inputs.target_picture]
    if inputs.target.picture is None:
        others = []
        if config.retrieval.leak_guard:
            logger.warning(
                "the target is given as features, so its own patches are not known and not left "
                "out. If its image is in the store, name it in retrieval.exclude."
            )
    if "engine" in run.inputs:
        config = named_engine(config, run.inputs["engine"])
    return retrieve_neighbours(config, inputs.source_picture, others, origin, path, backend)


@proof_modes(grad=True)
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
        config: ``method``, sections ``composition``, ``objective``, ``optimiser`` and
            ``baselines``, and the seed.
        network: The network under study.
        source: The source as the network sees it, uint8 (H, W, channels).
        target: What the vertices are to collide with.
        neighbours: What to compose from; None for free pixels.
        run: Where the results go, and the checkpoint while it lasts.

    Raises:
        InputError: If the method does not apply to the layer or the target.
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it; the state is kept.
        DiskFullError: If the disk is full.
    """
    checkpoint = Checkpoint(run / "checkpoint.h5", run.fingerprint)
    found = find_by_method(config, network, source, target, neighbours, checkpoint)
    save_found(run, found)
    steps, reason = found.state["steps"], found.state["stopped_because"]
    logger.info("Stopped after %d steps: %s.", steps, reason)
