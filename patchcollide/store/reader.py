"""The patch store: images in HDF5 shards, of which every window is a patch.

A store is a folder with two copies of its manifest and ``shard-00000.h5`` ... At stride 12 each
pixel lies in seven windows, so keeping images rather than patches makes a store six times smaller;
a shard's images are one contiguous dataset that is memory-mapped, and its patches are views into
that map. Patch identifiers are those of :class:`patchcollide.geometry.PatchGrid` and never change:
an image that could not be read keeps its number and is marked invalid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import StoreError
from patchcollide.geometry import Canvas, PatchGrid
from patchcollide.images.thumbnails import THUMBNAIL_SIZE
from patchcollide.io.files import require_open_files
from patchcollide.io.hdf5 import Hdf5Reader, open_hdf5
from patchcollide.io.mapped_arrays import MappedArray
from patchcollide.io.seals import digest_without, sealed_digest
from patchcollide.shapes import Bool, Int64, UInt8, ndarray
from patchcollide.store.manifest import (
    MANIFEST,
    VERSION,
    Manifest,
    ShardEntry,
    read_manifest,
    remedy,
)

SHARD_ENCODING = "patchcollide-shard"


@dataclass(frozen=True)
class Shard:
    """A range of a store's images, mapped into memory.

    Attributes:
        first_image: Number of its first image.
        pixels: The images; those of a file are mapped into memory while they are used.
        valid: Which of them could be read.
        names: Where each came from, relative to the folder that was indexed.
        thumbnails: Mean colours of 8 x 8 blocks of each image.
        digests: SHA-256 of each image's pixels, as hexadecimal text.
        origin: What :func:`open_shard` was called with; another process opens it again by that.
    """

    first_image: int
    pixels: MappedArray | UInt8[ndarray, "n side side 3"]
    valid: Bool[ndarray, "n"]
    names: list[str]
    thumbnails: UInt8[ndarray, "n 8 8 3"]
    digests: list[str]
    origin: tuple[Path, int, ShardEntry]

    @property
    def images(self) -> UInt8[ndarray, "n side side 3"]:
        """The pixels, RGB, read-only."""
        return self.pixels.array() if isinstance(self.pixels, MappedArray) else self.pixels

    def __reduce__(self) -> tuple[Any, ...]:
        return open_shard, self.origin

    def read(self, start: int, stop: int) -> UInt8[ndarray, "n side side 3"]:
        """Reads some of the images into memory of its own.

        A pass over a store takes long, and a process that touches a mapped page of a file that was
        cut off meanwhile is killed by the system without a word; whoever reads is told.

        Raises:
            StoreError: If the file no longer holds them.
        """
        if not isinstance(self.pixels, MappedArray):
            return self.pixels[start:stop]
        num_images, *image = self.pixels.shape
        start, stop, _ = slice(start, stop).indices(num_images)
        pixels = np.empty((stop - start, *image), np.uint8)
        folder, _, entry = self.origin
        try:
            with (folder / entry["file"]).open("rb") as file:
                file.seek(self.pixels.offset + start * self.pixels.nbytes // num_images)
                num_read = file.readinto(pixels.reshape(-1).data)
        except OSError as error:
            require_open_files(error, folder / entry["file"])
            raise StoreError(
                f"{folder / entry['file']} can no longer be read ({error.strerror}). "
                f"{remedy(folder)}"
            ) from error
        if num_read < pixels.nbytes:
            self.require_whole()
        return pixels

    def require_whole(self) -> None:
        """Raises :class:`StoreError` if the file is shorter than it was when it was written."""
        if not isinstance(self.pixels, MappedArray):
            return
        folder, _, entry = self.origin
        path = folder / entry["file"]
        found = path.stat().st_size if path.exists() else 0
        if found < entry["num_bytes"]:
            raise StoreError(
                f"{path} is truncated at byte {found} of {entry['num_bytes']} since it was opened. "
                f"{remedy(folder)}"
            )


class PatchStore:
    """A finished store, opened for reading."""

    def __init__(self, path: Path, manifest: Manifest, shards: Sequence[Shard]) -> None:
        self.path = path
        self.manifest = manifest
        self.shards = tuple(shards)
        self.grid = PatchGrid(**manifest["grid"])
        self.fingerprint = manifest["fingerprint"]
        self.generations: dict[str, int] = {
            entry["fingerprint"]: entry["num_images"] for entry in manifest.get("generations", [])
        }
        self.generations.setdefault(self.fingerprint, 0)
        self.num_images = sum(len(shard.valid) for shard in shards)
        self.num_patches = self.num_images * self.grid.num_positions
        self.valid = np.concatenate([shard.valid for shard in shards])
        self.names = [name for shard in shards for name in shard.names]
        self._first_images = np.array([shard.first_image for shard in shards], dtype=np.int64)

    @classmethod
    def open(cls, path: Path) -> "PatchStore":
        """Opens the store in folder ``path``; :mod:`patchcollide.store.integrity` checks its bytes.

        Raises:
            StoreError: If there is none, or it is damaged or of another version.
        """
        manifest = read_manifest(path)
        side = PatchGrid(**manifest["grid"]).image_size
        return cls(path, manifest, [open_shard(path, side, entry) for entry in manifest["shards"]])

    def require_grid(self, grid: PatchGrid, where: str) -> None:
        """Raises :class:`StoreError` if the store was cut with another geometry than ``grid``."""
        if self.grid != grid:
            raise StoreError(
                f"{self.path} was cut with {self.grid}, but {where} asks for {grid}. Change the "
                "settings in sections images and patches, or index the images again."
            )

    def require_fit(self, fit: str) -> None:
        """Raises :class:`StoreError` if the store's images were not made square by ``fit``.

        A source is recognised in the store, and compared with it, only when both are cut alike.
        """
        stored = self.manifest["settings"]["images"]["fit"]
        if stored != fit:
            raise StoreError(
                f"{self.path} was made with images.fit = {stored}, but the settings have {fit}. "
                f"Set images.fit = {stored}, or index the images again."
            )

    def require_valid_images(self) -> None:
        """Raises :class:`StoreError` if no image of the store could be read."""
        if not self.valid.any():
            reasons = {entry["reason"] for entry in self.manifest["invalid"][:3]}
            raise StoreError(
                f"None of the {self.num_images} images of {self.path} could be read, for example: "
                f"{'; '.join(sorted(reasons))} Check the folder that was indexed."
            )

    def blocks(self, size: int) -> Iterator[tuple[int, UInt8[ndarray, "n side side 3"]]]:
        """Yields all images in order, at most ``size`` at a time, with the number of the first."""
        for shard in self.shards:
            for start in range(0, len(shard.images), size):
                yield shard.first_image + start, shard.read(start, start + size)

    def image(self, number: int) -> UInt8[ndarray, "side side 3"]:
        """Returns image ``number``."""
        shard = self.shards[int(np.searchsorted(self._first_images, number, side="right")) - 1]
        place = number - shard.first_image
        return np.asarray(shard.read(place, place + 1)[0])

    def thumbnails(self) -> UInt8[ndarray, "n 8 8 3"]:
        """Returns the mean colours of 8 x 8 blocks of each image."""
        return np.concatenate([shard.thumbnails for shard in self.shards])

    def patches(self, ids: Int64[ndarray, "n"]) -> UInt8[ndarray, "n size size 3"]:
        """Returns the patches with these identifiers, as they are compared."""
        size = self.grid.patch_size
        return self._gather(ids, np.empty((len(ids), size, size, 3), np.uint8), PatchGrid.patches)

    def windows(self, ids: Int64[ndarray, "n"]) -> UInt8[ndarray, "n window window 3"]:
        """Returns the windows behind these identifiers, in the image's full resolution."""
        size = self.grid.window_size
        out = np.empty((len(ids), size, size, 3), np.uint8)
        return self._gather(ids, out, PatchGrid.canvas_windows)

    def supports(
        self, ids: Int64[ndarray, "n"], margin: int
    ) -> UInt8[ndarray, "n support support 3"]:
        """Returns the windows with ``margin`` pixels of their own images on each side.

        Over the border an image is mirrored, its outermost pixels twice, as ``np.pad`` does in
        mode ``"symmetric"``: unlike ``"reflect"`` that gives the same whether an image is scaled
        before or after. Which of them the released code has is not known.

        Raises:
            GeometryError: If the margin is wider than an image.
            StoreError: If there is no such patch.
        """
        support = Canvas.of(self.grid, margin).support
        if not margin:
            return self.windows(ids)
        self._require(ids)
        images, rows, cols = self.grid.locate(ids)
        out = np.empty((len(ids), support, support, 3), np.uint8)
        opened = -1
        for place in np.argsort(images, kind="stable"):
            if images[place] != opened:
                opened = int(images[place])
                widths = (margin, margin), (margin, margin), (0, 0)
                padded = np.pad(self.image(opened), widths, "symmetric")
            top, left = rows[place] * self.grid.stride, cols[place] * self.grid.stride
            out[place] = padded[top : top + support, left : left + support]
        return out

    def shards_of(self, images: Int64[ndarray, "n"]) -> Iterator[tuple[Shard, Bool[ndarray, "n"]]]:
        """Yields the shards that hold some of these images, each with which of them it holds."""
        of_shard = np.searchsorted(self._first_images, images, side="right") - 1
        for number in np.unique(of_shard):
            yield self.shards[number], of_shard == number

    def _require(self, ids: np.ndarray) -> None:
        if len(ids) and (ids.min() < 0 or ids.max() >= self.num_patches):
            raise StoreError(
                f"{self.path} holds patches 0 to {self.num_patches - 1}, but {ids.min()} to "
                f"{ids.max()} were asked for."
            )

    def _gather(self, ids: np.ndarray, out: np.ndarray, view: Any) -> np.ndarray:
        self._require(ids)
        images, rows, cols = self.grid.locate(ids)
        for shard, mask in self.shards_of(images):
            local = images[mask] - shard.first_image
            # Few pages are touched, and soon: only whole passes are read, not mapped.
            shard.require_whole()
            if self.grid.factor == 1:
                # The view copies nothing but the patches asked for.
                out[mask] = view(self.grid, shard.images)[local, rows[mask], cols[mask]]
            else:
                needed, inverse = np.unique(local, return_inverse=True)
                small = view(self.grid, np.asarray(shard.images[needed]))
                out[mask] = small[inverse, rows[mask], cols[mask]]
        return out


def open_shard(folder: Path, side: int, entry: ShardEntry) -> Shard:
    """Opens a shard of the store in ``folder``, whose images are ``side`` pixels wide.

    Args:
        folder: The store.
        side: Width of an image.
        entry: What the manifest says of the shard.

    Raises:
        StoreError: If it is missing, damaged, of another store, or cannot be mapped into memory.
    """
    name = entry["file"]
    require_undamaged(folder, entry)
    with open_hdf5(
        folder / name, encoding=SHARD_ENCODING, version=VERSION, error=StoreError, checked=False
    ) as file:
        count = int(entry["num_images"])
        return Shard(
            first_image=int(entry["first_image"]),
            pixels=map_images(folder / name, file, (count, side, side, 3)),
            valid=file.array("valid", np.bool_, (count,)),
            names=file.strings("names", count),
            thumbnails=file.array(
                "thumbnails", np.uint8, (count, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
            ),
            digests=file.strings("digests", count),
            origin=(folder, side, entry),
        )


def require_undamaged(folder: Path, entry: ShardEntry) -> None:
    """Raises :class:`StoreError` if a shard is cut off, or damaged anywhere but in its pixels.

    Those are most of its bytes, and left to :mod:`patchcollide.store.integrity`. The others steer
    HDF5, which may never end at damaged ones.
    """
    path = folder / entry["file"]
    without_pixels = digest_without(path, *entry["pixel_bytes"])
    size = path.stat().st_size
    if size < entry["num_bytes"]:
        what = f"is truncated at byte {size} of {entry['num_bytes']}"
    elif without_pixels == entry["sha256_without_pixels"]:
        return
    elif sealed_digest(path) is not None:
        what = f"is a shard of another store than {folder / MANIFEST} is of"
    else:
        what = "is damaged: it does not hold the bytes that were written"
    raise StoreError(f"{path} {what}. {remedy(folder)}")


def map_images(path: Path, file: Hdf5Reader, shape: tuple[int | None, ...]) -> MappedArray:
    """Returns the pixels of the shard at ``path``, which were mapped into memory once.

    Raises:
        StoreError: If its file system cannot do that, or the dataset is not as it should be.
    """
    try:
        pixels = file.memory_map("images", np.uint8, shape)
        pixels.array()
    except OSError as error:
        require_open_files(error, path)
        raise StoreError(
            f"{path} cannot be mapped into memory ({error.strerror}), which its file system may "
            "not support. Move the store to a local disk."
        ) from error
    return pixels


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
