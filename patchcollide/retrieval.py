"""The retrieval stage: neighbours of an image in a store, in a file and on a contact sheet."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import RetrievalError
from patchcollide.files import written_beside
from patchcollide.images import read_image
from patchcollide.list_import import ListOptions, neighbours_from_lists
from patchcollide.neighbour_search import find_neighbours_of_each
from patchcollide.neighbours import Neighbours
from patchcollide.parallel import LOCAL, Backend
from patchcollide.report.pictures import write_neighbour_sheet
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


def read_square(
    config: Config, path: Path, size: int, channels: int = 3
) -> UInt8[ndarray, "size size channels"]:
    """Reads a picture as section ``images`` says; ImageError if it cannot be read."""
    fit, max_pixels = config.images.fit, config.images.max_pixels
    return read_image(path, size=size, fit=fit, max_pixels=max_pixels, channels=channels)


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
    return [_load(out) for out in sources]


def import_neighbours(
    config: Config,
    lists: Path,
    source: Path,
    store: PatchStore,
    out: Path,
    options: ListOptions,
) -> Neighbours:
    """Writes neighbours that another program found into a file of this one's, with a contact sheet.

    Args:
        config: Sections ``images``, ``patches``, ``retrieval`` and ``composition``.
        lists: What it found; see :mod:`patchcollide.released_lists`.
        source: The image that it searched for.
        store: Holds the images it searched in.
        out: The HDF5 file to write. The contact sheet goes beside.
        options: How the lists are taken over.

    Raises:
        InputError: If the image or the lists cannot be used, or do not agree with the store.
    """
    picture = read_square(config, source, config.images.size_px)
    found = neighbours_from_lists(config, lists, picture, store, options)
    settings = config.model_dump(mode="json")
    found.save(out, settings=settings, seed=config.seed, store=store.fingerprint)
    return _load(out)


def require_neighbours(config: Config, source: Path, path: Path) -> None:
    """Checks that a file of neighbours can be composed under the settings.

    Args:
        config: Sections ``images``, ``patches``, ``retrieval`` and ``composition``.
        source: The image they must be of.
        path: A file that :func:`retrieve_neighbours` or :func:`import_neighbours` wrote.

    Raises:
        RetrievalError: If it is missing or damaged, or made with another source, geometry or
            margin, or holds fewer neighbours than are to be composed.
        ImageError: If the source cannot be read.
    """
    picture = read_square(config, source, config.images.size_px)
    require_neighbours_of(config, picture, Neighbours.load(path), f"{path}", f"{source}")


def require_neighbours_of(
    config: Config,
    picture: UInt8[ndarray, "side side 3"],
    found: Neighbours,
    name: str,
    source: str,
) -> None:
    """Does what :func:`require_neighbours` does, of what is in memory.

    Args:
        config: See there.
        picture: The image they must be of, at ``images.size_px``.
        found: The neighbours.
        name: What they are called in errors.
        source: What the image is called in errors.
    """
    grid = config.grid.with_stride(config.retrieval.query_stride_px)
    expected = (grid, config.composition.margin_px)
    if (found.grid, found.margin) != expected:
        raise RetrievalError(
            f"{name} holds neighbours on {found.grid} with a margin of {found.margin} pixels, but "
            f"the settings ask for {grid} with {expected[1]}. Change the settings "
            "(composition.margin_px, retrieval.query_stride_px, patches, images.size_px), or "
            "retrieve again."
        )
    if not np.array_equal(found.source, picture):
        raise RetrievalError(
            f"{name} holds the neighbours of another picture than {source}, or of that one made "
            "square in another way. Give --source as it was then, with the same images.fit."
        )
    if found.ids.shape[1] < config.composition.neighbours:
        raise RetrievalError(
            f"{name} holds {found.ids.shape[1]} neighbours of each location, but "
            f"composition.neighbours = {config.composition.neighbours}. Set it to at most that."
        )


def adopt_neighbours(path: Path, out: Path) -> Neighbours:
    """Copies a file of neighbours to ``out`` unless that is there, and draws the contact sheet."""
    if not out.exists():
        with written_beside(out) as partial:
            shutil.copyfile(path, partial)
    return _load(out)


def _load(path: Path) -> Neighbours:
    """Reads a file of neighbours and draws its contact sheet beside."""
    neighbours = Neighbours.load(path)
    write_neighbour_sheet(path.with_suffix(".png"), neighbours)
    return neighbours


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
