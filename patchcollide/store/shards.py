"""Writes one shard of a store, or finds it finished.

A shard is written whole or not at all, and sealed. What it holds depends on its images and on the
settings that decide a store alone, so a shard that is made again has the same bytes. Whether the
disk has space for all of them is asked before hours are spent.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import ImageError, StoreError
from patchcollide.images.listings import PictureFile, SourceImage
from patchcollide.images.pictures import read_image
from patchcollide.images.sources import in_reading_order
from patchcollide.images.thumbnails import thumbnail
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.io.provenance import array_digest, fingerprint, versions
from patchcollide.io.seals import digest_without, sealed_digest
from patchcollide.parallel import map_in_threads
from patchcollide.store.manifest import VERSION, ShardEntry, Unreadable
from patchcollide.store.reader import SHARD_ENCODING, map_images

# Names, digests and thumbnails of an image, and one unfinished shard's structure.
_BYTES_BESIDE_PIXELS = 2048

_MARGIN_BYTES = 4 << 20


@dataclass(frozen=True)
class ShardJob:
    """A shard to be written.

    Attributes:
        path: Where it goes.
        first_image: Number of its first image.
        files: Its images.
        states: Size and modification time, in nanoseconds, of each of them.
    """

    path: Path
    first_image: int
    files: tuple[SourceImage, ...]
    states: tuple[tuple[int, int], ...]


def plan_shards(
    files: Sequence[SourceImage],
    folder: Path,
    size: int,
    first_shard: int = 0,
    first_image: int = 0,
) -> list[ShardJob]:
    """Cuts a list of images into shards of ``size`` images, numbered from ``first_shard`` on."""
    jobs = []
    for number, start in enumerate(range(0, len(files), size), first_shard):
        chunk = tuple(files[start : start + size])
        states = tuple(file.state() for file in chunk)
        jobs.append(ShardJob(folder / f"shard-{number:05d}.h5", first_image + start, chunk, states))
    return jobs


class StoreSettings(TypedDict):
    """The settings that decide what a store holds."""

    seed: int
    images: dict[str, int | str]
    patches: dict[str, int]
    store: dict[str, int | float]


def store_settings(config: Config) -> StoreSettings:
    """Returns those of the settings that decide what a store holds."""
    return {
        "seed": config.seed,
        "images": config.images.model_dump(mode="json"),
        "patches": config.patches.model_dump(mode="json"),
        "store": config.store.model_dump(mode="json"),
    }


@dataclass(frozen=True)
class WrittenShard:
    """A finished shard.

    Attributes:
        entry: What the manifest says of it.
        invalid: Its images that could not be read, counted within it.
    """

    entry: ShardEntry
    invalid: list[Unreadable]


def write_shard(config: Config, job: ShardJob) -> WrittenShard:
    """Decodes the images of a shard and writes it.

    Raises:
        DiskFullError: If the disk is full.
    """
    return _describe(job, _write(config, job))


def finished_shard(config: Config, job: ShardJob) -> WrittenShard | None:
    """Returns what :func:`write_shard` returned for a shard; None if it is to be written.

    It is if it is missing, if any of its bytes changed, and if it was made of something else.
    """
    try:
        digest = sealed_digest(job.path)
        if digest is None or _stored_inputs(job.path) != _inputs(config, job):
            return None
        return _describe(job, digest)
    except (StoreError, OSError):  # A bad spot on a disk is damage like any other.
        return None


def _stored_inputs(path: Path) -> Any:
    with open_hdf5(
        path, encoding=SHARD_ENCODING, version=VERSION, error=StoreError, checked=False
    ) as file:
        return file.attribute("inputs")


def _describe(job: ShardJob, digest: str) -> WrittenShard:
    """Returns what is known of a shard whose bytes are as they were written."""
    with open_hdf5(
        job.path, encoding=SHARD_ENCODING, version=VERSION, error=StoreError, checked=False
    ) as file:
        images = map_images(job.path, file, (len(job.files), None, None, 3))
        stored = file.attribute("entry")
    start, stop = images.offset, images.offset + images.nbytes
    entry: ShardEntry = {
        "digest": stored["digest"],
        "file": stored["file"],
        "num_images": stored["num_images"],
        "first_image": job.first_image,
        "num_bytes": job.path.stat().st_size,
        "sha256": digest,
        # With these, damage is told apart without HDF5, which may never end at damaged bytes.
        "pixel_bytes": [start, stop],
        "sha256_without_pixels": digest_without(job.path, start, stop),
        "names": [file.name for file in job.files],
    }
    return WrittenShard(entry, stored["invalid"])


def _inputs(config: Config, job: ShardJob) -> str:
    """What a shard is made from, cheap enough to compare before any work is done."""
    files = [[file.name, *state] for file, state in zip(job.files, job.states, strict=True)]
    return fingerprint({"settings": store_settings(config), "files": files})


@dataclass(frozen=True)
class _Extract:
    """What a shard keeps of an image beside its pixels; the reason if it could not be read."""

    reason: str | None
    digest: str
    thumbnail: np.ndarray
    source_digest: str


def _write(config: Config, job: ShardJob) -> str:
    side = config.images.size_px
    images = np.zeros((len(job.files), side, side, 3), np.uint8)
    by_number = {}
    # Each picture is decoded where its bytes are read, in whatever order they lie.
    extracted = map_in_threads(
        lambda each: (each[0], *_extract(config, each[1])), in_reading_order(job.files)
    )
    for number, pixels, extract in extracted:
        images[number] = pixels
        by_number[number] = extract
    extracts = [by_number[number] for number in range(len(job.files))]
    names = [file.name for file in job.files]
    valid = np.array([extract.reason is None for extract in extracts])
    digests = [extract.digest for extract in extracts]
    return write_hdf5(
        job.path,
        encoding=SHARD_ENCODING,
        version=VERSION,
        datasets={
            "images": images,
            "valid": valid,
            "names": names,
            "labels": [file.label for file in job.files],
            "thumbnails": np.stack([extract.thumbnail for extract in extracts]),
            "digests": digests,
            "source_sizes": np.array([size for size, _ in job.states], np.int64),
            "source_times": np.array([time for _, time in job.states], np.int64),
            "source_digests": [extract.source_digest for extract in extracts],
        },
        attributes={
            "inputs": _inputs(config, job),
            "entry": {
                "file": job.path.name,
                "num_images": len(names),
                # Names count: retrieval.exclude goes by them.
                "digest": fingerprint([digests, valid.tolist(), names]),
                "invalid": [
                    {"image": number, "name": names[number], "reason": extract.reason}
                    for number, extract in enumerate(extracts)
                    if extract.reason is not None
                ],
            },
            "grid": config.grid.to_dict(),
            "settings": store_settings(config),
            "versions": versions(),
        },
    )


def _extract(config: Config, file: PictureFile) -> tuple[np.ndarray, _Extract]:
    settings, reason = config.images, None
    try:
        pixels = read_image(
            file, size=settings.size_px, fit=settings.fit, max_pixels=settings.max_pixels
        )
    except ImageError as error:
        reason = str(error)
        pixels = np.zeros((settings.size_px, settings.size_px, 3), np.uint8)
    digests = array_digest(pixels), file.digest()
    return pixels, _Extract(reason, digests[0], thumbnail(pixels), digests[1])


def require_space(out: Path, num_images: int, side: int) -> None:
    """Refuses to begin what the disk is too small for.

    Args:
        out: The store's folder, which need not be there yet.
        num_images: Images that are still to be stored.
        side: Their width in pixels.

    Raises:
        StoreError: If the disk has less space than they take.
    """
    if not num_images:
        return
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    needed = num_images * (side * side * 3 + _BYTES_BESIDE_PIXELS) + _MARGIN_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StoreError(
            f"{out} needs {needed / 1e9:.2f} GB for the {num_images} images still to be stored, "
            f"but the disk of {place} has {free / 1e9:.2f} GB free. Free some, choose another "
            "--out, or take fewer images with --fraction."
        )
