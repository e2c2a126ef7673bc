"""The exact stage: a target's polytope by linear programming, in the folder of a run."""

import logging
import time
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import ImageError, InputError
from patchcollide.images.pictures import read_pixels, read_square
from patchcollide.io.files import output_path, write_json
from patchcollide.networks.feature_files import read_target
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
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
from patchcollide.polyhedra.exact_polytope import Vertex
from patchcollide.retrieval.neighbours import require_neighbours
from patchcollide.runs.folder import EXACT_FILE, Run, require_files, start_run
from patchcollide.runs.inputs import CollisionInputs, announce, write_pair
from patchcollide.runs.report import write_report
from patchcollide.runs.retrieve import adopt_neighbours
from patchcollide.runs.summary import record_seconds, write_summary
from patchcollide.runs.vertices import save_history, save_vertices
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)

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
