"""The stage `certify`: a finished run's claims, beyond what is measured when it is made."""

import logging
from pathlib import Path

from patchcollide.evaluation.claims import images_needed
from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.networks.network import CollisionNetwork
from patchcollide.runs.claims import add_claims
from patchcollide.runs.folder import SUMMARY_FILE, Run, open_run
from patchcollide.runs.networks import network_of
from patchcollide.runs.report import write_report
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store.manifest import MANIFEST
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)


@proof_modes()
def certify(
    folder: Path,
    *,
    images: Path | None = None,
    num_pairs: int | None = None,
    num_edges: int | None = None,
    max_pieces: int = 64,
) -> Path:
    """Adds to a finished run's summary what costs more, and draws its page again.

    These are the distances of other images to the target, and walks along the edges between
    vertices.

    Args:
        folder: The run's folder.
        images: A folder of images or a store, for other images; None for the run's own store.
        num_pairs: At most how many pairs of these, of as few images as have so many; None for those
            of ``evaluation.null_images`` images.
        num_edges: How many edges to walk, those with the smallest sampled margins; None for all.
        max_pieces: How many pieces of an edge to walk at most.

    Raises:
        RunError: If the folder holds no finished run, or its vertices are not those measured.
        ImageError: If ``images`` is no folder of images.
        NetworkError: If the network cannot be had, or is not piecewise linear.
    """
    run = open_run(folder)
    network = network_of(run)
    count = run.config.evaluation.null_images if num_pairs is None else images_needed(num_pairs)
    add_claims(
        run,
        network,
        _null_images(run, images, count, network),
        num_pairs=num_pairs,
        num_edges=num_edges,
        max_pieces=max_pieces,
    )
    write_report(run)
    return run / SUMMARY_FILE


def _null_images(
    run: Run, place: Path | None, count: int, network: CollisionNetwork
) -> list[UInt8[ndarray, "side side channels"]]:
    """Returns images from a place, from what the run was made with, or none if that is gone."""
    named = run.inputs.get("images") or run.inputs["store"]
    if place is None and named and Path(named).exists():
        place = Path(named)
    if place is not None:
        origin = PatchStore.open(place) if (place / MANIFEST).exists() else place
        return DatasetImages(origin, run.config, network).draw(count)
    logger.warning(
        "There is no store to take other images from, so their distances are not measured "
        "again. Name a folder of images or a store with --images."
    )
    return []
