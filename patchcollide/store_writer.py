"""Writes a patch store from a folder of images, shard by shard."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import ImageError, StoreError
from patchcollide.files import is_occupied, partial_path, write_json
from patchcollide.hdf5 import open_hdf5, write_hdf5
from patchcollide.images import read_image
from patchcollide.leak_guard import thumbnail
from patchcollide.listing import ImageFile, find_images, sample_images
from patchcollide.parallel import map_in_threads
from patchcollide.progress import track
from patchcollide.provenance import array_digest, differences, fingerprint, versions
from patchcollide.store import ENCODING, MANIFEST, SHARD_ENCODING, VERSION, PatchStore

logger = logging.getLogger(__name__)


def write_store(config: Config, folder: Path, out: Path) -> PatchStore:
    """Cuts the images of a folder into a store; does nothing if ``out`` holds the same one.

    Shards are written into ``out.partial``; a run that was stopped finds them there, keeps the
    finished ones and goes on.

    Args:
        config: Sections ``images``, ``patches`` and ``store``, and the seed, decide the result.
        folder: Images, as ``class/file`` or flat.
        out: The store's folder.

    Raises:
        ImageError: If the folder holds no images, or none that can be read.
        StoreError: If ``out`` is there and holds something else.
        DiskFullError: If there is no room left.
    """
    listing = find_images(folder)
    files = sample_images(listing.files, config.store.fraction, config.seed)
    inputs = _inputs(config, files)
    if is_occupied(out):
        return _same_store(out, inputs)
    partial = partial_path(out)
    _claim(partial)
    shards = _write_shards(config, files, partial)
    _remove_others(partial, {shard["file"] for shard in shards})
    invalid = [entry for shard in shards for entry in shard.pop("invalid")]
    if len(invalid) == len(files):
        shutil.rmtree(partial)
        raise ImageError(
            f"None of the {len(files)} images in {folder} could be read, for example "
            f"{invalid[0]['reason']}"
        )
    write_json(
        partial / MANIFEST,
        {
            "encoding-type": ENCODING,
            "encoding-version": VERSION,
            "fingerprint": fingerprint([inputs["settings"], [s["digest"] for s in shards]]),
            "grid": config.grid.to_dict(),
            "folder": str(folder.resolve()),
            "num_images": len(files),
            "num_patches": len(files) * config.grid.num_positions,
            "num_links_not_followed": listing.num_links,
            "inputs": inputs,
            "shards": shards,
            "invalid": invalid,
            "settings": config.model_dump(mode="json"),
            "versions": versions(),
        },
    )
    partial.replace(out)
    _summarise(out, len(files), invalid, listing.num_links)
    return PatchStore.open(out)


def _claim(partial: Path) -> None:
    """Makes the folder of an unfinished store; refuses one that holds anything but shards."""
    partial.mkdir(parents=True, exist_ok=True)
    strange = [path.name for path in partial.iterdir() if not path.name.startswith("shard-")]
    if strange:
        raise StoreError(
            f"{partial} is where the store is written, but it holds {strange[0]}. Move that away, "
            "or choose another --out."
        )


def _inputs(config: Config, files: Sequence[ImageFile]) -> dict[str, Any]:
    """What a store is made from, cheap enough to compare before any work is done."""
    stats = [file.path.stat() for file in files]
    listing = [
        [file.name, stat.st_size, stat.st_mtime_ns] for file, stat in zip(files, stats, strict=True)
    ]
    settings = config.model_dump(mode="json", include={"seed", "images", "patches", "store"})
    return {"settings": settings, "num_files": len(files), "files": fingerprint(listing)}


def _same_store(out: Path, inputs: dict[str, Any]) -> PatchStore:
    store = PatchStore.open(out)
    changed = differences(inputs, store.manifest.get("inputs", {}))
    if changed:
        raise StoreError(
            f"{out} already holds a store made from other images or settings "
            f"({'; '.join(changed)}). Choose another --out, or remove it first."
        )
    logger.info("%s is there already and made from the same images: nothing to do.", out)
    return store


def _write_shards(config: Config, files: Sequence[ImageFile], folder: Path) -> list[dict[str, Any]]:
    size = config.store.images_per_shard
    entries = []
    starts = range(0, len(files), size)
    for number, start in enumerate(track(starts, "Storing images, by shard", len(starts))):
        path = folder / f"shard-{number:05d}.h5"
        chunk = files[start : start + size]
        inputs = fingerprint(_inputs(config, chunk))
        entry = _finished_shard(path, inputs) or _write_shard(config, chunk, path, inputs)
        entries.append({"first_image": start, **entry})
        for bad in entry["invalid"]:
            bad["image"] += start
    return entries


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Removes the shards that a stopped run with smaller shards or more images left there."""
    for path in folder.glob("shard-*.h5*"):
        if path.name not in kept:
            path.unlink()


def _finished_shard(path: Path, inputs: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with open_hdf5(path, encoding=SHARD_ENCODING, version=VERSION, error=StoreError) as file:
            if file.attribute("inputs") != inputs:
                return None
            file.memory_map("images", np.uint8, (None, None, None, 3))
            entry: dict[str, Any] = file.attribute("entry")
            return entry
    except StoreError:
        return None


def _write_shard(
    config: Config, files: Sequence[ImageFile], path: Path, inputs: str
) -> dict[str, Any]:
    side = config.images.size_px
    images = np.zeros((len(files), side, side, 3), np.uint8)
    valid = np.ones(len(files), np.bool_)
    invalid = []
    decoded = map_in_threads(lambda file: _decode(config, file), files)
    for number, result in enumerate(decoded):
        if isinstance(result, str):
            valid[number] = False
            invalid.append({"image": number, "name": files[number].name, "reason": result})
        else:
            images[number] = result
    digests = [array_digest(image) for image in images]
    entry = {
        "file": path.name,
        "num_images": len(files),
        # Names count: retrieval.exclude goes by them.
        "digest": fingerprint([digests, valid.tolist(), [file.name for file in files]]),
        "invalid": invalid,
    }
    write_hdf5(
        path,
        encoding=SHARD_ENCODING,
        version=VERSION,
        datasets={
            "images": images,
            "valid": valid,
            "names": [file.name for file in files],
            "labels": [file.label for file in files],
            "thumbnails": np.stack([thumbnail(image) for image in images]),
            "digests": digests,
        },
        attributes={
            "inputs": inputs,
            "entry": entry,
            "grid": config.grid.to_dict(),
            "settings": config.model_dump(mode="json"),
            "versions": versions(),
        },
    )
    return entry


def _decode(config: Config, file: ImageFile) -> Any:
    """Returns the pixels, or the reason why there are none."""
    settings = config.images
    try:
        return read_image(
            file.path, size=settings.size_px, fit=settings.fit, max_pixels=settings.max_pixels
        )
    except ImageError as error:
        return str(error)


def _summarise(out: Path, num_images: int, invalid: list[dict[str, Any]], num_links: int) -> None:
    logger.info("%s holds %d images, %d of them unreadable.", out, num_images, len(invalid))
    for entry in invalid[:5]:
        logger.info("  not readable: %s", entry["reason"])
    if len(invalid) > 5:
        logger.info("  ... and %d more, listed in %s", len(invalid) - 5, out / MANIFEST)
    if num_links:
        logger.info("  %d symbolic links were not followed.", num_links)
