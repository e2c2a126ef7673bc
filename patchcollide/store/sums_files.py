"""The files of block sums beside the shards: ``sums-00000.dat`` beside ``shard-00000.h5`` ...

A file holds a header, then the sums of all images, the norms of their patches and a checksum of
each image's, and it is sealed. A header is JSON with its own digest; it names the shard by the
digest of what that holds, so that sums of another one are never taken for its own. A pass reads
eight times fewer bytes than of pixels, and compares each image's with its checksum: what is damaged
or missing is summed from the pixels meanwhile, so that no answer depends on it.
"""

import functools
import json
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import TypedDict

from patchcollide.errors import StoreError
from patchcollide.geometry import GridSizes, PatchGrid
from patchcollide.io.encodings import require_encoding
from patchcollide.io.files import require_open_files, take_digest, written_beside
from patchcollide.io.mapped_arrays import MappedArray
from patchcollide.io.provenance import self_digest
from patchcollide.io.seals import open_regular, seal, sealed_digest
from patchcollide.shapes import Int32, ndarray
from patchcollide.store.blocks import Blocks, BlockSums
from patchcollide.store.manifest import SUMS_FILES, ShardEntry
from patchcollide.store.reader import Shard

logger = logging.getLogger(__name__)

ENCODING = "patchcollide-block-sums"
VERSION = "1"
_HEADER_BYTES = 4096


class _Header(TypedDict):
    """What a file says of itself; the digest of it is taken off.

    Attributes:
        shard: Digest of what the shard holds.
        grid: How its images are cut.
        block_px: Width of a block.
        num_images: Images of the shard.
    """

    shard: str
    grid: GridSizes
    block_px: int
    num_images: int


def sums_file(shard: str) -> str:
    """Returns the name of the file of sums of a shard's file."""
    return f"{shard.removesuffix('.h5').replace('shard', 'sums')}.dat"


@dataclass(frozen=True)
class SumsFile:
    """Block sums of one shard in a file.

    Attributes:
        path: The file.
        blocks: Of the store's grid.
        num_images: Images of the shard.
    """

    path: Path
    blocks: Blocks
    num_images: int

    @property
    def num_bytes(self) -> int:
        """Size of the file without its seal."""
        return _HEADER_BYTES + sums_bytes(self.blocks.grid, self.num_images)

    def read(self, start: int, stop: int) -> BlockSums | None:
        """Returns the sums of some images; None if they are damaged or gone."""
        found = self._read(("sums", "norms", "checksums"), start, stop)
        if found is None:
            return None
        sums, norms, expected = found
        fits = np.array_equal(checksums(sums, norms), expected)
        return BlockSums(sums, norms) if fits else None

    def read_norms(self, start: int, stop: int) -> Int32[ndarray, "n positions"] | None:
        """Returns the norms alone; None if they are damaged or gone."""
        found = self._read(("norms", "checksums"), start, stop)
        if found is None:
            return None
        norms, expected = found
        return norms if np.array_equal(checksums(norms)[:, 0], expected[:, 1]) else None

    def maps(self) -> tuple[MappedArray, MappedArray]:
        """Returns sums and norms to be mapped into memory, as they are: nothing is checked."""
        kinds, count = _kept_of_image(self.blocks), (self.num_images,)
        sums = MappedArray(self.path, kinds["sums"], _HEADER_BYTES, count, StoreError)
        first = _HEADER_BYTES + sums.nbytes
        return sums, MappedArray(self.path, kinds["norms"], first, count, StoreError)

    def _read(self, wanted: Sequence[str], start: int, stop: int) -> list[np.ndarray] | None:
        found, first = [], _HEADER_BYTES
        try:
            with self.path.open("rb") as file:
                for name, kind in _kept_of_image(self.blocks).items():
                    if name in wanted:
                        part = np.empty(min(stop, self.num_images) - start, kind)
                        file.seek(first + start * kind.itemsize)
                        if file.readinto(part.view(np.uint8).data) < part.nbytes:
                            return None
                        found.append(part)
                    first += self.num_images * kind.itemsize
        except OSError as error:
            require_open_files(error, self.path)
            return None
        return found


def _kept_of_image(blocks: Blocks) -> dict[str, np.dtype]:
    """Returns what is kept of each image, in the order of the file."""
    num = blocks.per_side
    return {
        "sums": np.dtype(("<i2", (num, num, 3))),
        "norms": np.dtype(("<i4", (blocks.grid.num_positions,))),
        # Of either of them.
        "checksums": np.dtype(("<u4", (2,))),
    }


def checksums(*parts: np.ndarray) -> np.ndarray:
    """Returns the checksum of each image's share of the parts, as files of sums hold them."""
    return np.array(
        [[zlib.crc32(few) for few in of_image] for of_image in zip(*parts, strict=True)]
    )


def open_sums(grid: PatchGrid, origin: tuple[Path, int, ShardEntry]) -> SumsFile | None:
    """Returns the file of a shard's sums; None unless there is one of this very shard.

    Its header is checked, and its size; each image's sums are when they are read.

    Args:
        grid: The geometry of the store.
        origin: That of the shard.
    """
    folder, _, entry = origin
    try:
        return _opened(folder, grid, entry)
    except StoreError:
        return None


def _opened(folder: Path, grid: PatchGrid, entry: ShardEntry) -> SumsFile:
    path, blocks = folder / sums_file(entry["file"]), Blocks.of(grid)
    if blocks is None:
        raise StoreError(f"{path} holds sums of blocks, of which {grid} has none.")
    found = SumsFile(path, blocks, entry["num_images"])
    with open_regular(path) as file:
        size, text = os.fstat(file.fileno()).st_size, file.read(_HEADER_BYTES)
    try:
        value = json.loads(text)
        fits = isinstance(value, dict) and "digest" in value and take_digest(value)
    except (ValueError, RecursionError):
        fits = False
    if not fits:
        raise StoreError(f"{path} is damaged at its header.")
    require_encoding(value, path, (ENCODING, VERSION), StoreError, "It is made again when needed.")
    expected = _header(found, entry)
    if {key: value.get(key) for key in expected} != expected:
        raise StoreError(f"{path} is undamaged, but of another shard.")
    if size < found.num_bytes:
        raise StoreError(f"{path} is truncated at byte {size} of {found.num_bytes}.")
    return found


def _header(found: SumsFile, entry: ShardEntry) -> _Header:
    return {
        "shard": entry["digest"],
        "grid": found.blocks.grid.to_dict(),
        "block_px": found.blocks.side,
        "num_images": found.num_images,
    }


def sums_damage(folder: Path, grid: PatchGrid, entry: ShardEntry, *, quick: bool) -> str:
    """Returns what is wrong with a file of sums; nothing if it is as it was written.

    Args:
        folder: The store.
        grid: Its geometry.
        entry: What the manifest says of the shard.
        quick: Leave out the sums themselves.
    """
    path = folder / sums_file(entry["file"])
    try:
        _opened(folder, grid, entry)
        whole = quick or sealed_digest(path) is not None
    except StoreError as error:
        return str(error).removeprefix(f"{path} ").rstrip(".")
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if whole else "does not hold the bytes that were written"


def has_sums(folder: Path) -> bool:
    """Says whether a store has block sums, or some of them; those made before have none."""
    return any(folder.glob(SUMS_FILES))


def sums_bytes(grid: PatchGrid, num_images: int) -> int:
    """Returns the bytes on disk of the block sums of so many images; 0 if a grid has none."""
    blocks = Blocks.of(grid)
    each = sum(kind.itemsize for kind in _kept_of_image(blocks).values()) if blocks else 0
    return num_images * each


def write_sums(file: SumsFile, entry: ShardEntry, whole: BlockSums) -> None:
    """Writes the sums of all images of a shard, sealed.

    Args:
        file: Where to.
        entry: What the manifest says of the shard.
        whole: The sums.
    """
    header = {"encoding-type": ENCODING, "encoding-version": VERSION, **_header(file, entry)}
    text = json.dumps({**header, "digest": self_digest(header)})
    with written_beside(file.path) as beside:
        with beside.open("wb") as out:
            out.write(text.ljust(_HEADER_BYTES - 1).encode() + b"\n")
            out.write(whole.sums.astype("<i2").data)
            out.write(whole.norms.astype("<i4").data)
            out.write(checksums(whole.sums, whole.norms).astype("<u4").data)
        seal(beside)


def read_sums(shard: Shard, file: SumsFile | None, blocks: Blocks, part: slice) -> BlockSums:
    """Returns the sums of some of a shard's images, from the pixels if there is no better way.

    Raises:
        StoreError: If the shard can no longer be read.
    """
    found = file.read(part.start, part.stop) if file else None
    if found is None:
        if file:
            _tell_damage(file.path)
        found = blocks.summed(shard.read(part.start, part.stop))
    return found


@functools.cache
def _tell_damage(path: Path) -> None:
    """Warns of a file, once however often it is read."""
    logger.warning(
        "%s is damaged: what it should hold is computed from the images meanwhile. Run "
        "`patchcollide repair %s`.",
        path,
        path.parent,
    )
