"""Whether work fits into memory and disk; what to change where it does not."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from patchcollide.config import Config, Index, Store
from patchcollide.errors import ConfigError, StoreError
from patchcollide.formats import format_size, parse_size
from patchcollide.io.files import partial_path
from patchcollide.io.system import available_memory
from patchcollide.retrieval.planning.footprint import Workload, stage_bytes
from patchcollide.store.index_files import WORK_FOLDER
from patchcollide.store.manifest import SHARD_FILES

_SHARE = 0.8
_SHARDS = (1024, 512, 256, 128, 64)
_TRAINING_PATCHES = (163_840, 40_960)
_BASIS_PATCHES = 5_000
_BEGUN = (SHARD_FILES, f"{WORK_FOLDER}/*.faiss")

_DOING = {
    "extraction": "Storing",
    "basis": "Finding the principal components of",
    "training": "Training the index of",
    "filling": "Indexing",
    "merging": "Merging the index of",
}


def memory_budget(given: str | None) -> int:
    """Returns the bytes that ``--memory`` says, or 80 % of what this machine has available.

    Raises:
        ConfigError: If ``given`` is no size.
    """
    return parse_size(given) if given is not None else int(_SHARE * available_memory())


def require_memory(work: Workload, budget: int) -> None:
    """Refuses to make a store and its index that need more memory than there may be.

    Raises:
        ConfigError: If a stage does not fit; it says what would.
    """
    name, needed = _largest(work)
    if needed <= budget:
        return
    problem = (
        f"{name} {work.num_images} images needs {format_size(needed)} of memory, but the budget is "
        f"{format_size(budget)}"
    )
    for smaller in _smaller(work.config):
        _, suffices = _largest(Workload(smaller, work.num_images, work.cores))
        if suffices <= budget:
            raise ConfigError(
                f"{problem}. Give --memory {format_size(needed)} where there is as much, or "
                f"{_changes(work.config, smaller)}, with which {format_size(suffices)} suffice."
            )
    smallest, suffices = min(
        ((c, _largest(Workload(c, work.num_images, work.cores))[1]) for c in _smaller(work.config)),
        key=lambda pair: pair[1],
        default=(work.config, needed),
    )
    changes = _changes(work.config, smallest)
    settings = f" and {changes}" if changes else ""
    raise ConfigError(
        f"{problem}, too small for any index of them: the smallest that works is --memory "
        f"{format_size(suffices)}{settings}. Give that, or fewer images."
    )


def require_disk(work: Workload, out: Path) -> None:
    """Refuses to begin a store and an index for which the disk has no space.

    Raises:
        StoreError: If it has less than is left to write.
    """
    out = out.resolve()
    begun = sum(_bytes_in(folder) for folder in (out, partial_path(out)))
    # Block sums are written where there is room for them, and searches go on without.
    needed = max(work.disk_bytes - work.sums_bytes - begun, 0)
    free = shutil.disk_usage(existing_folder(out)).free
    if needed > free:
        raise StoreError(
            f"{out} needs {format_size(needed)} of disk: {format_size(work.store_bytes)} for the "
            f"store and twice {format_size(work.index_bytes)} for the index and its parts, but "
            f"{format_size(free)} are free there. Free some, choose another --out, or take fewer "
            "images with --fraction."
        )


def existing_folder(path: Path) -> Path:
    """Returns the nearest folder above ``path``, or itself, that is there."""
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _largest(work: Workload) -> tuple[str, int]:
    peaks = stage_bytes(work)
    name = max(peaks, key=lambda stage: peaks[stage])
    return _DOING[name], peaks[name]


def _smaller(config: Config) -> Iterator[Config]:
    """Yields settings that need less memory: first those that change an answer least."""
    index, shard = config.index, config.store.images_per_shard
    shards = [shard, *(size for size in _SHARDS if size < shard)]
    bases = [
        index.basis_patches,
        *(size for size in [_BASIS_PATCHES] if size < index.basis_patches),
    ]
    trained = index.training_patches
    trainings = [trained, *(size for size in _TRAINING_PATCHES if size < trained)]
    kinds = dict.fromkeys([index.kind, "ivf-pq"])
    # The last changes fastest.
    for kind, training, basis, size in itertools.product(kinds, trainings, bases, shards):
        changes = {"kind": kind, "training_patches": training, "basis_patches": basis}
        yield config.model_copy(
            update={
                "index": Index(**{**index.model_dump(), **changes}),
                "store": Store(**{**config.store.model_dump(), "images_per_shard": size}),
            }
        )


def _changes(config: Config, smaller: Config) -> str:
    """Returns the options of the command line that lead from one to the other."""
    before, after = config.model_dump(), smaller.model_dump()
    return " ".join(
        f"--set {section}.{name}={value}"
        for section in ("store", "index")
        for name, value in after[section].items()
        if value != before[section][name]
    )


def _bytes_in(folder: Path) -> int:
    """Returns the bytes of shards and parts of an index; a whole one stays while it is extended."""
    files = (path for pattern in _BEGUN for path in folder.glob(pattern))
    return sum(path.stat().st_size for path in files)
