"""The retrieval stage: neighbours of an image in a store, in a file and on a contact sheet."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from patchcollide.config import Config
from patchcollide.images import read_image
from patchcollide.neighbour_search import find_neighbours_of_each
from patchcollide.neighbours import Neighbours
from patchcollide.parallel import LOCAL, Backend
from patchcollide.report.figures import write_contact_sheet
from patchcollide.search import open_searcher
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store import PatchStore

logger = logging.getLogger(__name__)


def open_store(config: Config, path: Path) -> PatchStore:
    """Opens a store that has the geometry of the settings and at least one readable image.

    Raises:
        StoreError: If it has not.
    """
    store = PatchStore.open(path)
    store.require_grid(config.grid, "the settings")
    store.require_fit(config.images.fit)
    store.require_valid_images()
    return store


def read_square(config: Config, path: Path, size: int) -> UInt8[ndarray, "size size 3"]:
    """Reads a picture as section ``images`` says; ImageError if it cannot be read."""
    return read_image(path, size=size, fit=config.images.fit, max_pixels=config.images.max_pixels)


def retrieve_neighbours(
    config: Config,
    source: Path,
    others: Sequence[Path],
    store: PatchStore,
    out: Path,
    backend: Backend = LOCAL,
) -> Neighbours:
    """Finds the neighbours of an image, or reads those found before.

    Args:
        config: Sections ``images``, ``index`` and ``retrieval``.
        source: The image.
        others: Images that must not lend their patches either.
        store: Where patches come from.
        out: The HDF5 file; if it is there it is read instead. The contact sheet goes beside.
        backend: Where the exact and the certified engine pass over the store.

    Raises:
        InputError: If an image or the index cannot be used.
    """
    return retrieve_neighbours_of_each(config, {out: source}, others, store, backend)[0]


def retrieve_neighbours_of_each(
    config: Config,
    sources: Mapping[Path, Path],
    others: Sequence[Path],
    store: PatchStore,
    backend: Backend = LOCAL,
) -> list[Neighbours]:
    """Does what :func:`retrieve_neighbours` does, for several images in one pass over the store.

    Args:
        config: See there.
        sources: By HDF5 file to write, the image.
        others: Images that must not lend their patches to any.
        store: See there.
        backend: See there.
    """
    missing = [out for out in sources if not out.exists()]
    if missing:
        size = config.images.size_px
        found = find_neighbours_of_each(
            config,
            [read_square(config, sources[out], size) for out in missing],
            [read_square(config, path, size) for path in others],
            store,
            open_searcher(config, store, backend),
        )
        settings = config.model_dump(mode="json")
        for out, neighbours in zip(missing, found, strict=True):
            _log(neighbours)
            neighbours.save(out, settings=settings, seed=config.seed, store=store.fingerprint)
    every = [Neighbours.load(out) for out in sources]
    for out, neighbours in zip(sources, every, strict=True):
        write_contact_sheet(
            out.with_suffix(".png"),
            source=neighbours.source,
            patches=neighbours.patches,
            squared_distances=neighbours.squared_distances,
            locations=neighbours.grid.corners_px(),
            window_px=neighbours.grid.window_size,
        )
    return every


def _log(found: Neighbours) -> None:
    logger.info(
        "Found %d neighbours for each of %d locations, %s; left out: %d images that are the source "
        "or the target, %d excluded by name, %d overlapping patches.",
        found.ids.shape[1],
        found.ids.shape[0],
        "all proven nearest" if found.certified.all() else "by approximate search",
        found.omissions.leaked_images,
        found.omissions.excluded_images,
        found.omissions.overlapping_patches,
    )
