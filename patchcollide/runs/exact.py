"""The exact stage: a target's polytope by linear programming, in the folder of a run."""

import logging
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.images.pictures import read_pixels
from patchcollide.io.files import output_path, write_json
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.exact import as_found, measure_extents, solve_vertices
from patchcollide.polyhedra.exact_polytope import Vertex
from patchcollide.retrieval.neighbours import require_neighbours
from patchcollide.runs.collide import make_whole
from patchcollide.runs.folder import EXACT_FILE, Run
from patchcollide.runs.inputs import CollisionInputs, write_pair
from patchcollide.runs.retrieve import adopt_neighbours
from patchcollide.runs.vertices import save_found
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
        DiskFullError: If the disk is full.
    """
    out = output_path(out)
    source = source or target
    if neighbours_path:
        require_neighbours(config, source, neighbours_path)
    network = load_network(config.network, config.seed)
    for path in (source, target):
        _require_size(path, network)
    inputs = CollisionInputs.read(
        config, network, source, target, neighbours_path, images=images, exact=True
    )
    return make_whole(config, network, inputs, out, lambda run: _make(config, network, inputs, run))


def _make(config: Config, network: CollisionNetwork, inputs: CollisionInputs, run: Run) -> None:
    """Writes all that stands in a run's folder before it is measured."""
    write_pair(run, network, inputs.source, inputs.target)
    neighbours = None
    if isinstance(inputs.origin, Path):
        neighbours = adopt_neighbours(config, inputs.origin, run / "neighbours.h5")
    with run.timed("optimise"):
        exact, vertices, figures = solve_vertices(config, network, inputs.target, neighbours)
    if len(vertices) > 1 and _spread(vertices) < _ONE_IMAGE:
        logger.warning(
            "all vertices are one image: nothing else in this space collides with the target."
        )
    save_found(run, as_found(network, vertices))
    if config.exact.extents:
        with run.timed("extents"):
            figures["extents"] = measure_extents(config.exact, exact, config.seed)
    write_json(run / EXACT_FILE, figures)


def _spread(vertices: list[Vertex]) -> float:
    """Returns how far vertices differ from the first at most, in pixels of 0..1."""
    return max(float(abs(v.image - vertices[0].image).max()) for v in vertices)


def _require_size(path: Path, network: CollisionNetwork) -> None:
    height, width = read_pixels(path).shape[:2]
    if (height, width) != (network.input_size, network.input_size):
        size = network.input_size
        raise ImageError(
            f"{path} has {width} x {height} pixels, but {network.full_name} takes {size} x {size}. "
            "An exact polytope is of the image itself, so it is not resized: scale it first."
        )
