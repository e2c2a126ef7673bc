"""Patches as plain arrays in HDF5 files, for programs that do not know stores.

A store keeps images; here each patch is written out, which takes about six times the space.
"""

import glob
import logging
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from patchcollide.errors import StoreError
from patchcollide.io.files import partial_path
from patchcollide.io.hdf5 import open_hdf5, streamed_hdf5
from patchcollide.io.provenance import versions
from patchcollide.progress import track
from patchcollide.shapes import Int64, ndarray
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)

ENCODING = "patchcollide-patches"
VERSION = "1"

_ROWS_PER_CHUNK = 256
_PATCHES_AT_ONCE = 16 * _ROWS_PER_CHUNK
_SAMPLED_CHUNKS = 8
# That of HDF5's gzip.
_GZIP_LEVEL = 4
_SLACK = 1.1


class _Made(TypedDict):
    """What a file of an export is made from."""

    store: str
    start: int
    stop: int
    gzip: bool


@dataclass(frozen=True)
class _Part:
    """One file of an export.

    Attributes:
        path: The file.
        start: Its first patch, counted among the readable ones.
        stop: The first patch that it no longer holds.
        about: What it is made from; two files with equal ones have equal patches.
    """

    path: Path
    start: int
    stop: int
    about: _Made


def export_patches(
    store: PatchStore, out: Path, *, compress: bool, patches_per_shard: int
) -> list[Path]:
    """Writes the patches of all readable images, as they are compared, into HDF5 files.

    Each file has ``patches``, ``(N, size, size, 3)`` uint8 RGB, and ``ids``, ``(N,)`` int64, in
    the order of identifiers. If one file is not enough they are numbered: ``out-00000.h5`` ...
    An export of several files that was stopped goes on after the last finished one.

    Args:
        store: Where the patches come from.
        out: The HDF5 file, or what the names of several begin with.
        compress: Whether to compress the files with gzip.
        patches_per_shard: How many patches a file holds at most.

    Returns:
        The files.

    Raises:
        StoreError: If the store has no readable image, a file is there already, or there is not
            enough space on the disk.
        DiskFullError: If the disk fills up meanwhile; finished files are kept.
    """
    store.require_valid_images()
    parts = _parts(store, out, compress, patches_per_shard)
    missing = _missing(parts, out)
    _require_space(store, missing, compress)
    for part in missing:
        _write(store, part, compress)
    logger.info("Exported %d patches of %s", parts[-1].stop, store.path)
    return [part.path for part in parts]


def _parts(store: PatchStore, out: Path, compress: bool, patches_per_shard: int) -> list[_Part]:
    total = int(store.valid.sum()) * store.grid.num_positions
    starts = range(0, total, patches_per_shard)
    parts = []
    for number, start in enumerate(starts):
        stop = min(start + patches_per_shard, total)
        path = out if len(starts) == 1 else _numbered(out, f"{number:05d}")
        about: _Made = {"store": store.fingerprint, "start": start, "stop": stop, "gzip": compress}
        parts.append(_Part(path, start, stop, about))
    return parts


def _numbered(out: Path, number: str) -> Path:
    return out.with_name(f"{out.stem}-{number}{out.suffix}")


def _missing(parts: Sequence[_Part], out: Path) -> list[_Part]:
    """Returns the files left to write; refuses any there that this export did not begin."""
    pattern = _numbered(Path(glob.escape(str(out))), "[0-9]" * 5).name
    there = {path for path in (out, *out.parent.glob(pattern)) if path.exists()}
    done = [part for part in parts if part.path in there and _is_same(part)]
    strange = there - {part.path for part in done}
    if strange or len(done) == len(parts):
        raise StoreError(
            f"{min(strange or there)} is there already, where the patches go. Remove it, or choose "
            "another --out."
        )
    return [part for part in parts if part not in done]


def _is_same(part: _Part) -> bool:
    try:
        with open_hdf5(part.path, encoding=ENCODING, version=VERSION, error=StoreError) as file:
            return bool(file.attribute("export") == part.about)
    except StoreError:
        return False


def _require_space(store: PatchStore, parts: Sequence[_Part], compress: bool) -> None:
    num_patches = sum(part.stop - part.start for part in parts)
    needed = num_patches * (store.grid.dimension + np.dtype(np.int64).itemsize)
    if compress:
        needed = round(needed * _SLACK * _compressed_share(store, parts[-1].stop))
    for part in parts:
        # What a killed process left would be written over: its space is free.
        partial_path(part.path).unlink(missing_ok=True)
    folder = parts[0].path.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{num_patches} patches of {store.path} need {'about ' if compress else ''}"
            f"{needed / 1e9:.3g} GB, but {folder} has {free / 1e9:.3g} GB free. Free some disk "
            f"space, or choose another --out{'' if compress else ' or --compress'}."
        )


def _compressed_share(store: PatchStore, total: int) -> float:
    """Returns what share of their bytes is left of patches by gzip, from some chunks of them."""
    before = after = 0
    for start in np.linspace(0, max(0, total - _ROWS_PER_CHUNK), _SAMPLED_CHUNKS, dtype=int):
        ids = _readable_ids(store, int(start), min(int(start) + _ROWS_PER_CHUNK, total))
        pixels = store.patches(ids).tobytes()
        before += len(pixels)
        after += len(zlib.compress(pixels, _GZIP_LEVEL))
    return after / before


def _write(store: PatchStore, part: _Part, compress: bool) -> None:
    size = store.grid.patch_size
    rows: dict[str, np.ndarray] = {
        "patches": np.empty((0, size, size, 3), np.uint8),
        "ids": np.empty(0, np.int64),
    }
    attributes = {
        "export": part.about,
        "grid": store.grid.to_dict(),
        "settings": store.manifest["settings"],
        "versions": versions(),
    }
    starts = range(part.start, part.stop, _PATCHES_AT_ONCE)
    with streamed_hdf5(
        part.path,
        encoding=ENCODING,
        version=VERSION,
        rows=rows,
        rows_per_chunk=_ROWS_PER_CHUNK,
        compress=compress,
        attributes=attributes,
    ) as stream:
        for start in track(starts, f"Writing {part.path.name}", len(starts)):
            ids = _readable_ids(store, start, min(start + _PATCHES_AT_ONCE, part.stop))
            stream.append({"patches": store.patches(ids), "ids": ids})


def _readable_ids(store: PatchStore, start: int, stop: int) -> Int64[ndarray, "n"]:
    """Returns the identifiers of some patches, counted among those of readable images."""
    images, positions = np.divmod(np.arange(start, stop), store.grid.num_positions)
    return np.asarray(np.flatnonzero(store.valid)[images] * store.grid.num_positions + positions)
