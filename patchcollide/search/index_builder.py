"""Builds a store's FAISS index shard by shard, so that it can be stopped and goes on.

The work is kept in ``index.partial`` in the store's folder: the basis, the trained empty index (or
the one that is extended), and one filled index for each shard, named after the digest of its bytes.
Merged they are the index.
"""

import logging
import math
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Index
from patchcollide.descriptors import Basis, fit_basis, sample_ids
from patchcollide.errors import IndexMismatchError
from patchcollide.files import read_json, write_json, written_beside
from patchcollide.geometry import PatchGrid
from patchcollide.parallel import LOCAL, Backend, map_shards
from patchcollide.progress import track
from patchcollide.provenance import file_digest
from patchcollide.search.faiss_library import (
    import_faiss,
    num_gpus,
    on_gpu,
    read_index,
    write_index,
)
from patchcollide.search.index_files import (
    ABOUT_FILE,
    BASIS_FILE,
    INDEX_FILE,
    WORK_FOLDER,
    build_settings,
    found_build,
    require_same,
    write_about,
)
from patchcollide.store import PatchStore, Shard

logger = logging.getLogger(__name__)

_BUILD_FILE = "build.json"
_BEGUN_FILE = "begun.faiss"
_REMEDY = "Run `patchcollide index` again."

_FLAT_UP_TO = 20_000
_IVF_FLAT_UP_TO = 2_000_000
_MOST_LISTS = 16_384
_MOST_LISTS_WITHOUT_GRAPH = 4096
_GRAPH_DEGREE = 32
_LEAST_TRAINING_PATCHES = 39
_CODE_BYTES = 32
_PATCHES_AT_ONCE = 65_536
_IMAGES_AT_ONCE = 256


def build_index(store: PatchStore, settings: Index, seed: int, backend: Backend = LOCAL) -> None:
    """Fits the basis and writes the FAISS index of a store into its folder, unless they are there.

    An index of an earlier generation of the store, before it was extended, is extended likewise.

    Args:
        store: Every readable patch of it is indexed.
        settings: Length of descriptors, kind of the index and sizes of the samples.
        seed: Decides the samples.
        backend: Where shards are described and encoded.

    Raises:
        MissingLibraryError: If FAISS is not installed.
        IndexMismatchError: If the folder holds an index of other settings.
        DiskFullError: If there is no room left; finished work is kept.
    """
    import_faiss()
    build = build_settings(store, settings, seed)
    found = found_build(store.path)
    if found == build:
        logger.info("%s has this index already: nothing to do.", store.path)
        return
    num_indexed = _num_indexed(store, build, found)
    folder = _claim(store, build)
    basis, factory = _begin(store, settings, seed, folder, extends=num_indexed > 0)
    parts = _fill(store, basis, factory, folder, num_indexed, backend)
    index = _merged(folder / _BEGUN_FILE, parts)
    write_index(index, store.path / INDEX_FILE)
    shutil.copyfile(folder / BASIS_FILE, store.path / BASIS_FILE)
    write_about(store, build, factory, basis.variance_share)
    shutil.rmtree(folder)
    logger.info(
        "Indexed %d patches as %s; %d components hold %.1f %% of their variance.",
        index.ntotal,
        factory,
        basis.num_components,
        100 * basis.variance_share,
    )


def index_factory(settings: Index, num_patches: int, gpu: bool = False) -> str:
    """Returns FAISS's name of the index for so many patches.

    Small stores are scanned whole; beyond that descriptors go into inverted lists, and beyond
    two million they are compressed to 32 bytes each. Lists number about four times the square
    root of the patches, as FAISS's guidelines have it, with 39 training patches for each at least.
    Where there are many a graph finds the nearest, which takes an eighth of the time; FAISS has
    none on GPUs, which do not need it.
    """
    kind: str = settings.kind
    if kind == "auto":
        limits = {"flat": _FLAT_UP_TO, "ivf-flat": _IVF_FLAT_UP_TO, "ivf-pq": math.inf}
        kind = next(name for name, limit in limits.items() if num_patches <= limit)
    trained_on = min(num_patches, settings.training_patches)
    wanted = round(4 * num_patches**0.5)
    lists = max(1, min(_MOST_LISTS, wanted, trained_on // _LEAST_TRAINING_PATCHES))
    graph = f"_HNSW{_GRAPH_DEGREE}" if lists > _MOST_LISTS_WITHOUT_GRAPH and not gpu else ""
    code_bytes = math.gcd(settings.components, _CODE_BYTES)
    return {
        "flat": "IDMap,Flat",
        "ivf-flat": f"IVF{lists}{graph},Flat",
        "ivf-pq": f"IVF{lists}{graph},PQ{code_bytes}",
    }[kind]


def _num_indexed(store: PatchStore, build: dict[str, Any], found: dict[str, Any] | None) -> int:
    """Returns how many images are in the index already, of an earlier generation of the store."""
    if found is None:
        return 0
    earlier: int | None = store.generations.get(found.get("store", ""))
    if earlier is None:
        require_same(store.path, build, found)
        return 0
    require_same(store.path, {**build, "store": found["store"]}, found)
    return earlier


def _claim(store: PatchStore, build: dict[str, Any]) -> Path:
    """Returns the folder of unfinished work, emptied if that was for another index."""
    folder = store.path / WORK_FOLDER
    about = folder / _BUILD_FILE
    try:
        same = read_json(about, error=IndexMismatchError) == build
    except IndexMismatchError:
        same = False
    if not same:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_json(about, build)
    return folder


def _begin(
    store: PatchStore, settings: Index, seed: int, folder: Path, *, extends: bool
) -> tuple[Basis, str]:
    """Makes the basis and the index that parts are added to, or finds them made."""
    factory = index_factory(settings, store.num_patches, gpu=num_gpus() > 0)
    if extends:
        about = read_json(store.path / ABOUT_FILE, error=IndexMismatchError)
        factory = str(about["factory"])
        # The index in place stays as it is until the extended one is whole.
        for name, copy in ((BASIS_FILE, BASIS_FILE), (INDEX_FILE, _BEGUN_FILE)):
            if not (folder / copy).exists():
                _copy_whole(store.path / name, folder / copy, about["digests"][name])
        return Basis.load(folder / BASIS_FILE, store=store), factory
    try:
        basis = Basis.load(folder / BASIS_FILE, store=store)
    except IndexMismatchError:
        logger.info("Finding %d principal components", settings.components)
        basis = fit_basis(
            store,
            num_components=settings.components,
            num_patches=settings.basis_patches,
            seed=seed,
        )
        made_with = build_settings(store, settings, seed)
        basis.save(folder / BASIS_FILE, store=store, settings=made_with)
    if not (folder / _BEGUN_FILE).exists():
        logger.info("Training %s", factory)
        ids = sample_ids(store, settings.training_patches, seed)
        write_index(_trained(store, basis, factory, ids), folder / _BEGUN_FILE)
    return basis, factory


def _copy_whole(path: Path, copy: Path, digest: str) -> None:
    """Copies a file, unless its bytes are not those that were written."""
    if not path.exists() or file_digest(path) != digest:
        raise IndexMismatchError(
            f"{path} is missing or damaged, so it cannot be extended: its digest should be "
            f"{digest[:12]}. Run `patchcollide repair {path.parent}` first."
        )
    with written_beside(copy) as partial_copy:
        shutil.copyfile(path, partial_copy)


def _trained(store: PatchStore, basis: Basis, factory: str, ids: np.ndarray) -> Any:
    """Returns an empty index, trained on a random sample: first images are all of one class."""
    index = import_faiss().index_factory(basis.num_components, factory)
    if not index.is_trained:
        starts = range(0, len(ids), _PATCHES_AT_ONCE)
        described = [
            basis.describe_patches(store.patches(ids[start : start + _PATCHES_AT_ONCE]))
            for start in starts
        ]
        index = on_gpu(index, factory)
        if "_HNSW" in factory:
            # Each round of k-means finds the nearest centroids by a graph, too.
            graph = import_faiss().IndexHNSWFlat(basis.num_components, _GRAPH_DEGREE)
            index.clustering_index = graph
        index.train(np.concatenate(described))
    return index


def _fill(
    store: PatchStore,
    basis: Basis,
    factory: str,
    folder: Path,
    num_indexed: int,
    backend: Backend,
) -> list[Path]:
    """Makes the parts that are missing or damaged; returns all of them, in order."""
    done = {path.name.split(".")[0]: path for path in folder.glob("part-*.faiss")}
    numbers = [
        number for number, shard in enumerate(store.shards) if shard.first_image >= num_indexed
    ]
    parts = {number: done.get(_part_name(number)) for number in numbers}
    missing = [number for number, path in parts.items() if not path or not _is_whole(path)]
    work = partial(_fill_part, basis=basis, factory=factory, grid=store.grid, folder=folder)
    made = map_shards(work, [(number, store.shards[number]) for number in missing], backend)
    for number, path in zip(missing, track(made, "Indexing shards", len(missing)), strict=True):
        parts[number] = path
    return [path for path in parts.values() if path]


def _fill_part(
    item: tuple[int, Shard], basis: Basis, factory: str, grid: PatchGrid, folder: Path
) -> Path:
    """Writes the index of one shard's patches; its name holds the digest of its bytes."""
    number, shard = item
    index = on_gpu(read_index(folder / _BEGUN_FILE, _REMEDY), factory)
    index.reset()
    for start in range(0, len(shard.images), _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        numbers = shard.first_image + start + np.flatnonzero(shard.valid[part])
        images = shard.images[part][shard.valid[part]]
        ids = numbers[:, None] * grid.num_positions + np.arange(grid.num_positions)
        index.add_with_ids(basis.describe_images(images, grid), ids.ravel())
    path = folder / f"{_part_name(number)}.faiss"
    write_index(index, path)
    return path.rename(folder / f"{_part_name(number)}.{file_digest(path)}.faiss")


def _part_name(number: int) -> str:
    return f"part-{number:05d}"


def _is_whole(part: Path) -> bool:
    return part.name.split(".")[1] == file_digest(part)


def _merged(begun: Path, parts: Sequence[Path]) -> Any:
    index = read_index(begun, _REMEDY)
    for path in track(parts, "Merging", len(parts)):
        index.merge_from(read_index(path, _REMEDY), 0)
    return index
