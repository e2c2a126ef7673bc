"""Builds a store's FAISS index shard by shard, so that it can be stopped and goes on.

The work is kept in ``index.partial`` in the store's folder: the basis, the trained empty index (or
the one that is extended), and one filled index for each shard. Each is named after the digest of
its bytes, so that what was damaged meanwhile is made again. Merged they are the index.
"""

import logging
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Index
from patchcollide.errors import IndexMismatchError
from patchcollide.geometry import PatchGrid
from patchcollide.io.files import written_beside
from patchcollide.io.provenance import file_digest
from patchcollide.parallel import LOCAL, Backend, map_shards
from patchcollide.progress import track
from patchcollide.store.descriptors import Basis, fit_basis, sample_ids
from patchcollide.store.faiss_library import (
    has_graph,
    import_faiss,
    num_gpus,
    on_gpu,
    read_index,
    write_index,
)
from patchcollide.store.index_files import (
    BASIS_FILE,
    INDEX_FILE,
    AboutIndex,
    Build,
    build_settings,
    found_index,
    require_same,
    write_about,
)
from patchcollide.store.index_merging import write_merged
from patchcollide.store.index_work import (
    BASIS,
    BEGUN,
    PART,
    claim_work,
    is_whole,
    kept,
    named_by_digest,
    remove_work,
)
from patchcollide.store.patch_sums import PatchSums
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.sums_files import open_sums, read_sums

logger = logging.getLogger(__name__)

_REMEDY = "Run `patchcollide index` again."

_FLAT_UP_TO = 20_000
_IVF_FLAT_UP_TO = 2_000_000
_MOST_LISTS = 16_384
_MOST_LISTS_WITHOUT_GRAPH = 4096
GRAPH_DEGREE = 32
"""Neighbours of a centre in the graph of lists."""
_LEAST_TRAINING_PATCHES = 39
CODE_BYTES = 32
"""Bytes of a compressed descriptor, or fewer where components do not divide into so many."""
PATCHES_AT_ONCE = 65_536
"""Patches that are gathered and described at once, to train an index."""
IMAGES_AT_ONCE = 256
"""Images whose patches are added to an index at once."""


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
        DiskFullError: If the disk is full; finished work is kept.
    """
    import_faiss()
    build = build_settings(store, settings, seed)
    found = found_index(store.path)
    if found and found["build"] == build:
        logger.info("%s has this index already: nothing to do.", store.path)
        if remove_work(store.path):
            logger.info("Removed what was left of the work on it.")
        return
    num_indexed = _num_indexed(store, build, found["build"]) if found else 0
    work = claim_work(store, build)
    earlier = found if num_indexed else None
    basis_file, begun, factory = _begin(store, settings, seed, work, earlier)
    basis = Basis.load(basis_file, store=store)
    parts = _fill(store, basis, factory, begun, num_indexed, backend)
    num_patches = write_merged(begun, parts, store.path / INDEX_FILE, _REMEDY)
    with written_beside(store.path / BASIS_FILE) as partial_copy:
        shutil.copyfile(basis_file, partial_copy)
    write_about(store, build, factory, basis.variance_share)
    remove_work(store.path)
    logger.info(
        "Indexed %d patches as %s; %d components hold %.1f %% of their variance.",
        num_patches,
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
    graph = f"_HNSW{GRAPH_DEGREE}" if lists > _MOST_LISTS_WITHOUT_GRAPH and not gpu else ""
    num_bytes = code_bytes(settings.components)
    return {
        "flat": "IDMap,Flat",
        "ivf-flat": f"IVF{lists}{graph},Flat",
        "ivf-pq": f"IVF{lists}{graph},PQ{num_bytes}",
    }[kind]


def code_bytes(components: int) -> int:
    """Returns the bytes of a compressed descriptor of so many components."""
    return math.gcd(components, CODE_BYTES)


def _num_indexed(store: PatchStore, build: Build, found: Build) -> int:
    """Returns how many images are in the index already, of an earlier generation of the store."""
    earlier = store.generations.get(found["store"])
    if earlier is None:
        require_same(store.path, build, found)
        return 0
    require_same(store.path, {**build, "store": found["store"]}, found)
    return earlier


def _begin(
    store: PatchStore, settings: Index, seed: int, folder: Path, earlier: AboutIndex | None
) -> tuple[Path, Path, str]:
    """Makes the basis and the index that parts are added to, or finds them made."""
    if earlier:
        digests = earlier["digests"]

        # The index in place stays as it is until the extended one is whole.
        def copy(name: str, path: Path) -> None:
            _copy_whole(store.path / name, path, digests[name])

        basis_file = kept(folder, BASIS, ".h5", partial(copy, BASIS_FILE))
        begun = kept(folder, BEGUN, ".faiss", partial(copy, INDEX_FILE))
        return basis_file, begun, earlier["factory"]
    factory = index_factory(settings, store.num_patches, gpu=num_gpus() > 0)
    basis_file = kept(folder, BASIS, ".h5", partial(_fit, store, settings, seed))
    train = partial(_train, store, basis_file, factory, settings.training_patches, seed)
    return basis_file, kept(folder, BEGUN, ".faiss", train), factory


def _fit(store: PatchStore, settings: Index, seed: int, path: Path) -> None:
    logger.info("Finding %d principal components", settings.components)
    basis = fit_basis(
        store,
        num_components=settings.components,
        num_patches=settings.basis_patches,
        seed=seed,
    )
    basis.save(path, store=store, settings=build_settings(store, settings, seed))


def _train(
    store: PatchStore, basis_file: Path, factory: str, num_patches: int, seed: int, path: Path
) -> None:
    logger.info("Training %s", factory)
    ids = sample_ids(store, num_patches, seed)
    write_index(_trained(store, Basis.load(basis_file, store=store), factory, ids), path)


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
        starts = range(0, len(ids), PATCHES_AT_ONCE)
        described = [_described(store, basis, ids[n : n + PATCHES_AT_ONCE]) for n in starts]
        index = on_gpu(index, factory)
        if has_graph(factory):
            # Each round of k-means finds the nearest centroids by a graph, too.
            graph = import_faiss().IndexHNSWFlat(basis.num_components, GRAPH_DEGREE)
            index.clustering_index = graph
        index.train(np.concatenate(described))
    return index


def _described(store: PatchStore, basis: Basis, ids: np.ndarray) -> np.ndarray:
    if not basis.blocks:
        return basis.describe_patches(store.patches(ids))
    return basis.describe_rows(PatchSums(store).gather(ids)[0]).numpy()


def _fill(
    store: PatchStore,
    basis: Basis,
    factory: str,
    begun: Path,
    num_indexed: int,
    backend: Backend,
) -> list[Path]:
    """Makes the parts that are missing or damaged; returns all of them, in order."""
    found = begun.parent.glob(f"{PART}*.*.faiss")
    done = {path.name.split(".")[0]: path for path in found}
    numbers = [
        number for number, shard in enumerate(store.shards) if shard.first_image >= num_indexed
    ]
    parts = {number: done.get(_part_name(number)) for number in numbers}
    missing = [number for number, path in parts.items() if not path or not is_whole(path)]
    for path in filter(None, (parts[number] for number in missing)):
        logger.info("%s is damaged: making it again.", path)
        path.unlink()
    work = partial(_fill_part, basis=basis, factory=factory, grid=store.grid, begun=begun)
    made = map_shards(work, [(number, store.shards[number]) for number in missing], backend)
    for number, path in zip(missing, track(made, "Indexing shards", len(missing)), strict=True):
        parts[number] = path
    return [path for path in parts.values() if path]


def _fill_part(
    item: tuple[int, Shard], basis: Basis, factory: str, grid: PatchGrid, begun: Path
) -> Path:
    """Writes the index of one shard's patches; its name holds the digest of its bytes."""
    number, shard = item
    index = on_gpu(read_index(begun, _REMEDY, searched=False), factory)
    index.reset()
    file = open_sums(grid, shard.origin) if basis.blocks else None
    for start in range(0, len(shard.images), IMAGES_AT_ONCE):
        part = slice(start, min(start + IMAGES_AT_ONCE, len(shard.images)))
        numbers = shard.first_image + start + np.flatnonzero(shard.valid[part])
        if basis.blocks:
            sums = read_sums(shard, file, basis.blocks, part)[shard.valid[part]]
            described = basis.describe_sums(sums)
        else:
            images = shard.read(part.start, part.stop)[shard.valid[part]]
            described = basis.describe_images(images, grid)
        ids = numbers[:, None] * grid.num_positions + np.arange(grid.num_positions)
        index.add_with_ids(described, ids.ravel())
    path = begun.parent / f"{_part_name(number)}.faiss"
    write_index(index, path)
    return named_by_digest(path)


def _part_name(number: int) -> str:
    return f"{PART}{number:05d}"
