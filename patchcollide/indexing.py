"""The stages that make and keep stores; one process at a time writes to one."""

from pathlib import Path

from patchcollide.config import Config
from patchcollide.files import output_path
from patchcollide.integrity import Inspection, inspect
from patchcollide.locks import locked
from patchcollide.manifest import require_folder
from patchcollide.parallel import LOCAL, Backend
from patchcollide.planner import require_resources
from patchcollide.repair import repair_store
from patchcollide.search.index_builder import build_index
from patchcollide.store_writer import write_store


def index(
    config: Config,
    images: Path,
    out: Path,
    memory: str | None = None,
    extend: bool = False,
    backend: Backend = LOCAL,
) -> Path:
    """Cuts a folder of images into a patch store and indexes it; does nothing when that is done.

    Killed at any point, the same call redoes only what is missing or damaged.

    Args:
        config: Sections ``images``, ``patches``, ``store`` and ``index``, and the seed.
        images: A folder, as ``class/file`` or flat.
        out: The store's folder.
        memory: How much may be used, such as ``8GB``; None for 80 % of what is available.
        extend: Add images that are new in the folder to the store that is there.
        backend: Where shards are written.

    Returns:
        ``out``.

    Raises:
        InputError: If the folder, the settings or what is in ``out`` do not allow it, or another
            process is at it.
        DiskFullError: If there is no room; finished shards are kept.
    """
    require_resources(config, images, out, memory, extend)
    out = output_path(out)
    with locked(out):
        store = write_store(config, images, out, extend, backend)
        build_index(store, config.index, config.seed, backend)
    return out


def verify(store_path: Path, quick: bool = False) -> Inspection:
    """Compares every byte of a store and its index with what was written.

    Args:
        store_path: A store made by :func:`index`.
        quick: Leave out the pixels and the FAISS index, which are most of the bytes.

    Returns:
        What is damaged; see :meth:`patchcollide.integrity.Inspection.require_intact`.

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
        DiskFullError: If there is no room left.
    """
    store_path = store_path.resolve()
    require_folder(store_path)
    with locked(store_path):
        repair_store(store_path, images)
    return store_path
