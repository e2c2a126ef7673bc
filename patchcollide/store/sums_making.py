"""Making the block sums that a store lacks: of all its shards, or of those that have lost them."""

import functools
import logging
import shutil
from pathlib import Path

import numpy as np

from patchcollide.errors import DiskFullError
from patchcollide.parallel import LOCAL, Backend, map_in_threads, map_shards, one_thread_each
from patchcollide.progress import track
from patchcollide.store.blocks import Blocks, BlockSums
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.sums_files import SumsFile, open_sums, sums_bytes, sums_file, write_sums

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE = 64
"""Images that a thread sums at once."""

_MARGIN_BYTES = 4 << 20


def lacks_sums(store: PatchStore) -> bool:
    """Says whether shards have no block sums of their own that could have some."""
    return bool(_without_sums(store))


def _without_sums(store: PatchStore) -> list[Shard]:
    if Blocks.of(store.grid) is None:
        return []
    return [shard for shard in store.shards if open_sums(store.grid, shard.origin) is None]


def make_sums(store: PatchStore, backend: Backend = LOCAL, spare_bytes: int = 0) -> None:
    """Writes the block sums of the shards that have none of their own; nothing if all have.

    Where the disk has no room for them a warning says so: everything goes on without. It is for the
    caller to see that nobody else writes to the store meanwhile.

    Args:
        store: The store.
        backend: Where they are summed.
        spare_bytes: What is to be left free on the disk.

    Raises:
        StoreError: If a shard can no longer be read.
    """
    blocks, missing = Blocks.of(store.grid), _without_sums(store)
    if not blocks or not missing:
        return
    num_images = sum(len(shard.valid) for shard in missing)
    try:
        _require_space(store.path, sums_bytes(store.grid, num_images), spare_bytes)
        made = map_shards(functools.partial(_write, blocks=blocks), missing, backend)
        for _ in track(made, "Summing blocks of pixels, by shard", len(missing)):
            pass
    except DiskFullError as error:
        logger.warning("%s Searches go on without block sums, and take longer.", error)


def _require_space(folder: Path, num_bytes: int, spare_bytes: int) -> None:
    needed, free = num_bytes + spare_bytes + _MARGIN_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        more = f", beside {spare_bytes / 1e9:.2f} GB for the index" if spare_bytes else ""
        raise DiskFullError(
            f"{folder} needs {num_bytes / 1e9:.2f} GB for block sums{more}, but its disk has "
            f"{free / 1e9:.2f} GB free."
        )


def _write(shard: Shard, blocks: Blocks) -> None:
    folder, _, entry = shard.origin

    def some(start: int) -> BlockSums:
        return blocks.summed(shard.read(start, start + IMAGES_AT_ONCE))

    with one_thread_each():
        parts = list(map_in_threads(some, range(0, len(shard.valid), IMAGES_AT_ONCE)))
    whole = BlockSums(
        np.concatenate([part.sums for part in parts]),
        np.concatenate([part.norms for part in parts]),
    )
    file = SumsFile(folder / sums_file(entry["file"]), blocks, len(shard.valid))
    write_sums(file, entry, whole)
