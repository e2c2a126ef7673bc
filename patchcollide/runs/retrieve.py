"""The retrieval stage: neighbours of an image in a store, in a file and on a contact sheet."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import RunError
from patchcollide.images.pictures import read_square
from patchcollide.images.pillow import Picture
from patchcollide.io.files import output_path, written_beside
from patchcollide.parallel import LOCAL, Backend
from patchcollide.retrieval.engines import open_searcher, with_engine
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.retrieval.policy import find_neighbours_of_each
from patchcollide.retrieval.released_lists import ListOptions, neighbours_from_lists
from patchcollide.runs.report import write_neighbour_sheet
from patchcollide.store.reader import PatchStore, open_store

logger = logging.getLogger(__name__)

_FEW_IMAGES = 20
"""Of a store with fewer, what is near to a source is near by chance; the paper's has 128,066."""


def retrieve_neighbours(
    config: Config,
    source: Picture,
    others: Sequence[Picture],
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
    sources: Mapping[Path, Picture],
    others: Sequence[Picture],
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
        _warn_of_few_images(store)
        size = config.images.size_px
        config = with_engine(config, store, len(missing))
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
    return [_load(out, config) for out in sources]


def import_neighbours(
    config: Config,
    lists: Path,
    source: Path,
    store_path: Path,
    out: Path,
    options: ListOptions,
) -> Path:
    """Turns the authors' released lists into neighbours that a collision composes.

    Args:
        config: Sections ``images``, ``patches``, ``retrieval`` and ``composition``.
        lists: An ``.npz`` file with ``finalidx``, ``finalpos`` and ``finaldist``; see
            :mod:`patchcollide.retrieval.released_lists`.
        source: The image that the lists are of.
        store_path: A store of the images that they name.
        out: The HDF5 file to write; the contact sheet has the same name and ``.png``.
        options: How the lists are taken over.

    Returns:
        ``out``.

    Raises:
        InputError: If the image, the lists or the store cannot be used, or do not agree.
    """
    out = output_path(out)
    require_free(out)
    store = open_store(config, store_path)
    picture = read_square(config, source, config.images.size_px)
    found = neighbours_from_lists(config, lists, picture, store, options)
    settings = config.model_dump(mode="json")
    found.save(out, settings=settings, seed=config.seed, store=store.fingerprint)
    _load(out, config)
    return out


def require_free(path: Path) -> None:
    """Raises :class:`RunError` if neighbours and their contact sheet cannot go to ``path``."""
    for taken in (path, path.with_suffix(".png")):
        if taken.exists():
            raise RunError(
                f"{taken} is there already, and the neighbours go to {path}, their contact "
                f"sheet to {path.with_suffix('.png').name} beside. Choose another --out."
            )
    if path.suffix == ".png":
        name = path.with_suffix(".h5").name
        raise RunError(f"{path} should be an HDF5 file, such as {name}.")


def adopt_neighbours(config: Config, path: Path, out: Path) -> Neighbours:
    """Copies a file of neighbours to ``out`` unless that is there, and draws the contact sheet."""
    if not out.exists():
        with written_beside(out) as partial:
            shutil.copyfile(path, partial)
    return _load(out, config)


def _load(path: Path, config: Config) -> Neighbours:
    """Reads a file of neighbours and draws its contact sheet beside."""
    neighbours = Neighbours.load(path)
    write_neighbour_sheet(path.with_suffix(".png"), neighbours, config.grid.num_positions)
    return neighbours


def _warn_of_few_images(store: PatchStore) -> None:
    """Warns of a store whose patches are of few images."""
    if store.num_images < _FEW_IMAGES:
        logger.warning(
            "%s holds %d images (the paper's 128,066): the nearest of so few patches may be far "
            "from the source, and little but themselves can be composed of them. Index more "
            "images for collisions that look like the source.",
            store.path,
            store.num_images,
        )


def _log(found: Neighbours) -> None:
    logger.info(
        "Found %d neighbours for each of %d locations, %s; left out: %d images that are the source "
        "or the target, %d excluded by name, %d overlapping patches.",
        found.ids.shape[1],
        found.ids.shape[0],
        "all proven nearest" if found.proven.all() else "by approximate search",
        found.omissions.leaked_images,
        found.omissions.excluded_images,
        found.omissions.overlapping_patches,
    )
