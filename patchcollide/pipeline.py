"""The stages: one stage, one function, one path.

They lead from a folder of images to a store, its index and a finished run; the demo, in which a cat
composed from other photographs collides with a cup of espresso, is all of them in a row. One
process at a time writes to a store.
"""

from collections.abc import Sequence
from pathlib import Path

from patchcollide import pipeline
from patchcollide.audit.adequacy import compare_audits
from patchcollide.audit.audit import audit
from patchcollide.config import Config
from patchcollide.config_files import builtin_config, load_config
from patchcollide.errors import ConfigError, RunError
from patchcollide.evaluation.dimensions import measure_dimensions
from patchcollide.images.photographs import photograph, write_photographs
from patchcollide.images.pillow import Picture
from patchcollide.images.sources import find_images
from patchcollide.io.files import output_path
from patchcollide.io.locks import locked
from patchcollide.networks.feature_files import extract_features
from patchcollide.parallel import LOCAL, Backend
from patchcollide.report.side_by_side import side_by_side
from patchcollide.retrieval.planning.footprint import Workload
from patchcollide.retrieval.planning.planner import plan, require_resources
from patchcollide.runs.certify import certify
from patchcollide.runs.collide import collide, evaluate, report
from patchcollide.runs.exact import find_exact
from patchcollide.runs.folder import open_run
from patchcollide.runs.frontier import trace_frontier
from patchcollide.runs.pictures import Crop, choose_picture, warn_of_whole
from patchcollide.runs.prove import prove
from patchcollide.runs.retrieve import (
    import_neighbours,
    require_free,
    retrieve_neighbours_of_each,
)
from patchcollide.runs.summary import read_summary
from patchcollide.store.export import export_patches
from patchcollide.store.index_builder import build_index
from patchcollide.store.integrity import Inspection, inspect
from patchcollide.store.manifest import require_folder
from patchcollide.store.reader import PatchStore, open_store
from patchcollide.store.repair import repair_store
from patchcollide.store.sums_making import make_sums
from patchcollide.store.writer import write_store

__all__ = [
    "audit",
    "certify",
    "collide",
    "compare",
    "compare_audits",
    "evaluate",
    "export",
    "extract_features",
    "find_exact",
    "import_neighbours",
    "index",
    "measure_dimensions",
    "plan",
    "prove",
    "repair",
    "report",
    "retrieve",
    "trace_frontier",
    "verify",
]


def retrieve(
    config: Config,
    sources: Sequence[Path],
    store_path: Path,
    out: Path,
    backend: Backend = LOCAL,
    crop: Crop | None = None,
) -> Path:
    """Finds neighbours for every location of images; writes them, and contact sheets beside.

    The exact and the certified engine pass over the store once for all images.

    Args:
        config: Sections ``images``, ``patches`` and ``retrieval``.
        sources: One image or more: files, or ``imagenet:CLASS/NAME`` of the store.
        store_path: A store made by :func:`index`.
        out: Of one image, the HDF5 file to write; of more, a folder of files named after them. The
            contact sheet has the same name and ``.png``.
        backend: Where the exact and the certified engine pass over the store.
        crop: The part of the image that is meant, if there is one image.

    Returns:
        ``out``.

    Raises:
        InputError: If an image, the store or its index cannot be used.
    """
    out = output_path(out)
    of_each = {out: sources[0]} if len(sources) == 1 else _named_after(sources, out)
    for path in of_each:
        require_free(path)
    if crop is not None and len(sources) > 1:
        raise ConfigError(
            f"Expected one image with --crop, but found {len(sources)}. Retrieve one by one."
        )
    store = open_store(config, store_path)
    pictures: dict[Path, Picture] = {}
    for path, source in of_each.items():
        chosen = choose_picture(config, source, store, crop)
        warn_of_whole(config, chosen)
        pictures[path] = chosen.picture
    retrieve_neighbours_of_each(config, pictures, [], store, backend)
    return out


def compare(folders: Sequence[Path]) -> str:
    """Returns the figures of several finished runs side by side, as tables in Markdown.

    Raises:
        RunError: If a folder holds no finished run, or its summary lacks a figure.
    """
    summaries = {}
    for folder in folders:
        name = folder.name if [other.name for other in folders].count(folder.name) == 1 else folder
        summaries[str(name)] = read_summary(open_run(folder))
    return side_by_side(summaries)


def _named_after(sources: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Returns a file in ``folder`` for each image."""
    of_each: dict[Path, Path] = {}
    for source in sources:
        path = folder / f"{source.stem}.h5"
        if path in of_each:
            raise RunError(
                f"The neighbours of {of_each[path]} and {source} would both go to {path}. Retrieve "
                "images of one name one after the other, or rename one."
            )
        of_each[path] = source
    return of_each


def export(store_path: Path, out: Path, *, compress: bool, patches_per_shard: int) -> list[Path]:
    """Writes the patches of a store into plain HDF5 files, for other programs; returns the files.

    Args:
        store_path: A store made by :func:`index`.
        out: The file to write, or what the names of several begin with.
        compress: Whether to compress with gzip.
        patches_per_shard: How many patches a file holds at most.

    Raises:
        InputError: If the store cannot be used, or ``out`` is there or has no space.
        DiskFullError: If the disk fills up meanwhile; finished files are kept.
    """
    store = PatchStore.open(store_path)
    return export_patches(
        store, output_path(out), compress=compress, patches_per_shard=patches_per_shard
    )


def index(
    config: Config,
    images: Path,
    out: Path,
    memory: str | None = None,
    extend: bool = False,
    backend: Backend = LOCAL,
    classes: str | None = None,
) -> Path:
    """Cuts images into a patch store and indexes it; does nothing when that is done.

    The sums of the images' blocks are kept beside them where the disk has room.

    Killed at any point, the same call redoes only what is missing or damaged.

    Args:
        config: Sections ``images``, ``patches``, ``store`` and ``index``, and the seed.
        images: A folder, as ``class/file`` or flat, or an archive or more of them; see
            :func:`patchcollide.images.sources.find_images`.
        out: The store's folder.
        memory: How much may be used, such as ``8GB``; None for 80 % of what is available.
        extend: Add images that are new in the folder to the store that is there.
        backend: Where shards are written.
        classes: Take these alone, separated by commas.

    Returns:
        ``out``.

    Raises:
        InputError: If the images, the settings or what is in ``out`` do not allow it, or another
            process is at it.
        DiskFullError: If the disk is full; finished shards are kept.
    """
    # Other machines have other working folders.
    listing = find_images(images if backend == LOCAL else images.absolute(), classes)
    require_resources(config, listing, out, memory, extend)
    out = output_path(out)
    with locked(out):
        store = write_store(config, listing, out, extend, backend)
        # The index comes after, and cannot be done without.
        make_sums(store, backend, Workload(config, store.num_images).indexing_bytes)
        build_index(store, config.index, config.seed, backend)
    return out


def verify(store_path: Path, quick: bool = False) -> Inspection:
    """Compares every byte of a store and its index with what was written.

    Args:
        store_path: A store made by :func:`index`.
        quick: Leave out the pixels and the FAISS index, which are most of the bytes.

    Returns:
        What is damaged; see :meth:`patchcollide.store.integrity.Inspection.require_intact`.

    Raises:
        StoreError: If there is no store, or it is being written.
    """
    store_path = store_path.resolve()
    require_folder(store_path)
    with locked(store_path, shared=True):
        return inspect(store_path, quick=quick)


def repair(store_path: Path, images: Path | None = None) -> Path:
    """Makes the damaged parts of a store and its index again, from the images it was made of.

    Args:
        store_path: A store made by :func:`index`.
        images: The folder of images, if it is no longer where it was.

    Returns:
        The store.

    Raises:
        InputError: If there is no store, it is being written, or the images are gone or changed.
        DiskFullError: If the disk is full.
    """
    store_path = store_path.resolve()
    require_folder(store_path)
    with locked(store_path):
        repair_store(store_path, images)
    return store_path


def run_demo(out: Path) -> Path:
    """Indexes the libraries' photographs and makes a collision; does nothing when it is there.

    Args:
        out: The run's folder; photographs and store go beside it, as ``OUT-photographs`` and
            ``OUT-store``.

    Returns:
        ``out``.
    """
    config = load_config(builtin_config("demo"))
    photographs = out.with_name(f"{out.name}-photographs")
    store = out.with_name(f"{out.name}-store")
    write_photographs(photographs)
    pipeline.index(config, photographs, store)
    return pipeline.collide(config, photograph("chelsea"), photograph("coffee"), out, store)
