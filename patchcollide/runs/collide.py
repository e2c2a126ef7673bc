"""The collision stages: from source and target to a run's folder, and that measured again.

The exact stage: a target's polytope by linear programming, in the folder of a run.
"""

import logging
import time
from pathlib import Path

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import DivergedError, ImageError, InputError, RunError
from patchcollide.images.pictures import read_pixels, read_square
from patchcollide.io.files import output_path, write_json
from patchcollide.networks.feature_files import read_target
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.descent import history_columns
from patchcollide.optimisation.exact import (
    describe_vertices,
    exact_target,
    find_exact_vertices,
    measure_extents,
    vertex_history,
    vertex_images,
    vertex_state,
)
from patchcollide.optimisation.methods.registry import require_applicable
from patchcollide.optimisation.vertices import make_search, search_vertices
from patchcollide.parallel import LOCAL, Backend
from patchcollide.polyhedra.exact_polytope import Vertex
from patchcollide.retrieval.neighbours import Neighbours, require_neighbours
from patchcollide.runs.folder import (
    CONTRIBUTIONS_FILE,
    EXACT_FILE,
    SUMMARY_FILE,
    Run,
    open_run,
    require_files,
    save_history,
    save_vertices,
    start_run,
)
from patchcollide.runs.inputs import (
    CollisionInputs,
    announce,
    network_of,
    require_two_pictures,
    write_pair,
)
from patchcollide.runs.report import write_report
from patchcollide.runs.retrieve import adopt_neighbours, retrieve_neighbours
from patchcollide.runs.summary import record_seconds, write_summary
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
) -> Path:
    """Finds vertices that collide with a target, measures the polytope between them, and reports.

    Interrupted at any point, the same call goes on from the last finished stage or checkpoint.

    Args:
        config: All settings.
        source: The image whose look is kept.
        target: The image whose features are matched, or a file of features, ``.h5`` or ``.npz``.
        out: The run's folder.
        store_path: Where patches come from.
        backend: Where the exact and the certified engine pass over the store.
        neighbours_path: Neighbours found before, in place of a store. The target's own image is
            not kept out of them. With neither, pixels vary freely.
        images: A folder of the data set's images, for the distances and the gaps of random pairs;
            without it they are of the store's images.

    Returns:
        ``out``.

    Raises:
        InputError: If an image, the network, the store or ``out`` cannot be used.
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it; the state is kept.
        DiskFullError: If there is no room left.
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
        require_neighbours(config, source, neighbours_path)
    network = load_network(config.network, config.seed)
    inputs = CollisionInputs(
        source_path=source,
        target_path=target,
        source=read_square(config, source, network.input_size, network.channels),
        target=read_target(config, network, target),
        origin=store or neighbours_path,
        images=images,
    )
    require_two_pictures(config, inputs)
    described = inputs.described(config, network, out)
    run = start_run(out, config, described, inputs.identity(network))
    if run.finished:
        require_files(run, config.optimiser.num_vertices)
        logger.info("%s holds this run already: nothing to do.", out)
        return out
    begun = (run / "checkpoint.h5").exists()
    try:
        _make_run(config, network, inputs, run, backend)
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
    """Does what is left to do in a run's folder, up to its page."""
    announce(config, network, inputs)
    # Before anything long begins: it refuses targets without enough inactive units.
    make_search(config, network, inputs.target)
    write_pair(run, network, inputs.source, inputs.target)
    neighbours = None
    if inputs.origin is not None:
        with run.timed("retrieve"):
            neighbours = _neighbours(config, inputs, inputs.origin, run, backend)
    if not (run / "vertices.h5").exists():
        with run.timed("optimise"):
            optimise_run(config, network, inputs.source, inputs.target, neighbours, run)
    with run.timed("evaluate"):
        write_summary(run, network, inputs.images or inputs.store)
    record_seconds(run)
    with run.timed("report"):
        write_report(run)
    record_seconds(run)


def _neighbours(
    config: Config,
    inputs: CollisionInputs,
    origin: PatchStore | Path,
    run: Run,
    backend: Backend,
) -> Neighbours:
    path = run / "neighbours.h5"
    if isinstance(origin, Path):
        return adopt_neighbours(origin, path)
    others = [inputs.target_path]
    if inputs.target.picture is None:
        others = []
        if config.retrieval.leak_guard:
            logger.warning(
                "the target is given as features, so its own patches are not known and not left "
                "out. If its image is in the store, name it in retrieval.exclude."
            )
    return retrieve_neighbours(config, inputs.source_path, others, origin, path, backend)


# Far below a step of 8 bits, far above the rounding of float64.
_ONE_IMAGE = 1e-6


@proof_modes()
def find_exact(
    config: Config,
    target: Path,
    out: Path,
    *,
    source: Path | None = None,
    neighbours_path: Path | None = None,
    images: Path | None = None,
) -> Path:
    """Finds vertices of the exact polytope of a target, measures it, and reports.

    Args:
        config: All settings; sections ``network``, ``exact`` and ``evaluation`` matter, and
            ``composition`` with neighbours.
        target: The image whose features are matched, of the network's own size.
        out: The run's folder.
        source: The image beside which vertices are shown; the target itself by default. With
            neighbours, the image they are of.
        neighbours_path: Neighbours to compose from; None for free pixels.
        images: A folder of the data set's images, to compare with.

    Returns:
        ``out``.

    Raises:
        InputError: If an image, the network, its layer or ``out`` cannot be used, if nothing in
            the space collides, or if the polytope has no end.
        DiskFullError: If there is no room left.
    """
    out = output_path(out)
    source = source or target
    if neighbours_path:
        require_neighbours(config, source, neighbours_path)
    network = load_network(config.network, config.seed)
    for path in (source, target):
        _require_size(path, network)
    inputs = CollisionInputs(
        source_path=source,
        target_path=target,
        source=read_square(config, source, network.input_size, network.channels),
        target=read_target(config, network, target),
        origin=neighbours_path,
        images=images,
        exact=True,
    )
    described = inputs.described(config, network, out)
    run = start_run(out, config, described, inputs.identity(network))
    if run.finished:
        require_files(run, config.optimiser.num_vertices)
        logger.info("%s holds this run already: nothing to do.", out)
        return out
    try:
        _make_exact_run(config, network, inputs, run)
    except InputError:
        # Corrected settings make another run: what the refused one began would be in its way.
        run.discard_unless_found()
        raise
    run.finish()
    return out


def _make_exact_run(
    config: Config, network: CollisionNetwork, inputs: CollisionInputs, run: Run
) -> None:
    announce(config, network, inputs)
    write_pair(run, network, inputs.source, inputs.target)
    neighbours = None
    if isinstance(inputs.origin, Path):
        neighbours = adopt_neighbours(inputs.origin, run / "neighbours.h5")
    with run.timed("optimise"):
        begun = time.perf_counter()
        exact = exact_target(config, network, inputs.target, neighbours)
        vertices = find_exact_vertices(config, exact)
        found = describe_vertices(exact, vertices)
        found |= {"seconds": time.perf_counter() - begun, "extents": None}
    if len(vertices) > 1 and _spread(vertices) < _ONE_IMAGE:
        logger.warning(
            "all vertices are one image: nothing else in this space collides with the target."
        )
    _save(run, network, vertices)
    if config.exact.extents:
        with run.timed("extents"):
            found["extents"] = measure_extents(config.exact, exact, config.seed)
    write_json(run / EXACT_FILE, found)
    with run.timed("evaluate"):
        write_summary(run, network, inputs.images)
    record_seconds(run)
    with run.timed("report"):
        write_report(run)
    record_seconds(run)


def _spread(vertices: list[Vertex]) -> float:
    """Returns how far vertices differ from the first at most, in pixels of 0..1."""
    return max(float(abs(v.image - vertices[0].image).max()) for v in vertices)


def _save(run: Run, network: CollisionNetwork, vertices: list[Vertex]) -> None:
    images, history = vertex_images(network, vertices), vertex_history(vertices)
    save_history(run, history, history_columns(history))
    save_vertices(run, images, vertex_state(vertices))


def _require_size(path: Path, network: CollisionNetwork) -> None:
    height, width = read_pixels(path).shape[:2]
    if (height, width) != (network.input_size, network.input_size):
        size = network.input_size
        raise ImageError(
            f"{path} has {width} x {height} pixels, but {network.full_name} takes {size} x {size}. "
            "An exact polytope is of the image itself, so it is not resized: scale it first."
        )


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
        DiskFullError: If there is no room left.
    """
    checkpoint = Checkpoint(run / "checkpoint.h5", run.fingerprint)
    found = search_vertices(config, network, source, target, neighbours, checkpoint)
    save_history(run, found.history, history_columns(found.history))
    if found.contributions is not None:
        found.contributions.save(run / CONTRIBUTIONS_FILE, run.fingerprint)
    save_vertices(run, found.unrounded, found.state)
    steps, reason = found.state["steps"], found.state["stopped_because"]
    logger.info("Stopped after %d steps: %s.", steps, reason)
