"""Writes a patch store from images, in folders or archives, shard by shard, and extends it.

Nothing finished is lost: a shard is there whole or not at all, and a run that was stopped, even by
the loss of power, is gone on with from the shards that are undamaged and of the same images.
"""

import functools
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import ImageError, StoreError
from patchcollide.images.listings import Listing, SourceImage, sample_images
from patchcollide.images.sources import find_images
from patchcollide.io.files import half_written, is_occupied, partial_path
from patchcollide.io.provenance import differences, fingerprint, versions
from patchcollide.parallel import LOCAL, Backend, map_in_threads, map_shards
from patchcollide.progress import track
from patchcollide.store.changes import Changes, find_changes
from patchcollide.store.manifest import (
    ENCODING,
    FILES,
    MANIFEST,
    SHARD_FILES,
    VERSION,
    BeyondFolders,
    Manifest,
    keep_backup,
    write_manifest,
)
from patchcollide.store.reader import PatchStore
from patchcollide.store.shards import (
    ShardJob,
    WrittenShard,
    finished_shard,
    plan_shards,
    require_space,
    store_settings,
    write_shard,
)

logger = logging.getLogger(__name__)

_PARTS = ("shard-", "sums-", "manifest.")
_MOST_NAMED = 20
"""How many of the files that were left out the manifest names."""


@dataclass(frozen=True)
class _Source:
    """The images there are, and those of them that a store takes."""

    listing: Listing
    chosen: list[SourceImage]

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.listing.origin


def write_store(
    config: Config,
    images: Path | Listing,
    out: Path,
    extend: bool = False,
    backend: Backend = LOCAL,
) -> PatchStore:
    """Cuts the images of a source into a store; does nothing if ``out`` holds the same one.

    Shards are written into ``out.partial``; a run that was stopped finds them there, keeps the
    finished ones and goes on. It is for the caller to see that there is one writer at a time, with
    :func:`patchcollide.io.locks.locked`.

    Args:
        config: Sections ``images``, ``patches`` and ``store``, and the seed, decide the result.
        images: What :func:`patchcollide.images.sources.find_images` takes, or what it found.
        out: The store's folder.
        extend: Add images that are new in ``images`` to the store in ``out``. Those there keep
            their numbers, also when their files were removed.
        backend: Where shards are written.

    Raises:
        ImageError: If there are no images, or none that can be read.
        StoreError: If ``out`` is there and holds something else, or the disk is too small.
        DiskFullError: If the disk is full.
    """
    listing = images if isinstance(images, Listing) else find_images(images)
    chosen = sample_images(listing.files, config.store.fraction, config.seed)
    source = _Source(listing, chosen)
    if is_occupied(out):
        return _kept_store(config, source, out, extend, backend)
    if extend:
        raise StoreError(f"{out} holds no store that could be extended. Leave out --extend.")
    return _new_store(config, source, out, backend)


def _new_store(config: Config, source: _Source, out: Path, backend: Backend) -> PatchStore:
    partial = partial_path(out)
    _refuse_strange(partial)
    jobs = plan_shards(source.chosen, partial, config.store.images_per_shard)
    manifest = _grown(None, config, source, _write_shards(config, jobs, out, backend))
    _remove_others(partial, manifest)
    if len(manifest["invalid"]) == manifest["num_images"]:
        shutil.rmtree(partial)
        raise ImageError(
            f"None of the {manifest['num_images']} images in {source.folder} could be read, for "
            f"example {manifest['invalid'][0]['reason']}"
        )
    write_manifest(partial, manifest)
    partial.replace(out)
    _summarise(out, manifest, source.listing)
    return PatchStore.open(out)


def _kept_store(
    config: Config, source: _Source, out: Path, extend: bool, backend: Backend
) -> PatchStore:
    store = PatchStore.open(out)
    settings = store_settings(config)
    found = {key: store.manifest["settings"].get(key) for key in settings}
    if other := differences(settings, found, "settings"):
        raise StoreError(
            f"{out} already holds a store made with other settings ({'; '.join(other)}). Choose "
            "another --out, or remove it first."
        )
    changes = find_changes(store, source.listing.files, source.chosen)
    if changes and not extend:
        raise StoreError(
            f"{out} was made from other images than {source.folder} holds now: {changes}. Give "
            "--extend too to add what is new under new numbers, or choose another --out."
        )
    keep_backup(out, store.manifest)
    for path in half_written(out, FILES):
        logger.info("Removing %s, which a killed process left half written.", path)
        path.unlink()
    if not changes:
        logger.info("%s is there already and made from the same images: nothing to do.", out)
        return store
    return _extended_store(config, source, store, changes, backend)


def _extended_store(
    config: Config, source: _Source, store: PatchStore, changes: Changes, backend: Backend
) -> PatchStore:
    """Writes new shards beside the old ones, then the manifest that knows them."""
    out, size = store.path, config.store.images_per_shard
    jobs = plan_shards(changes.to_store, out, size, len(store.shards), store.num_images)
    written = _write_shards(config, jobs, out, backend)
    manifest = _grown(store.manifest, config, source, written)
    manifest["removed"] = sorted({*changes.removed, *changes.known_removed})
    write_manifest(out, manifest)
    _remove_others(out, manifest)
    logger.info("Extended %s: %s.", out, changes)
    _summarise(out, manifest, source.listing)
    return PatchStore.open(out)


def _grown(
    old: Manifest | None, config: Config, source: _Source, written: list[WrittenShard]
) -> Manifest:
    """Returns the manifest of a store, new or old, after shards were added to it."""
    invalid = [*old["invalid"]] if old else []
    for shard in written:
        first = shard.entry["first_image"]
        invalid += [{**bad, "image": bad["image"] + first} for bad in shard.invalid]
    shards = [*(old["shards"] if old else []), *(shard.entry for shard in written)]
    num_images = sum(entry["num_images"] for entry in shards)
    digest = fingerprint([store_settings(config), [entry["digest"] for entry in shards]])
    generations = [*(old.get("generations", []) if old else [])]
    if written:
        generations.append({"fingerprint": digest, "num_images": num_images})
    return {
        "encoding-type": ENCODING,
        "encoding-version": VERSION,
        "fingerprint": digest,
        "generations": generations,
        "grid": config.grid.to_dict(),
        "folder": str(source.folder.resolve()),
        "num_images": num_images,
        "num_patches": num_images * config.grid.num_positions,
        "num_links_not_followed": source.listing.num_links,
        "num_files_left_out": len(source.listing.others),
        "files_left_out": list(source.listing.others[:_MOST_NAMED]),
        **_beyond_folders(source.listing),
        "shards": shards,
        "invalid": invalid,
        "removed": [],
        "settings": config.model_dump(mode="json"),
        "versions": versions(),
    }


def _beyond_folders(listing: Listing) -> BeyondFolders:
    """Returns what a manifest says of images that are not in folders."""
    if listing.kind == "folders":
        return {}
    refused = listing.refused
    found: BeyondFolders = {"source_kind": listing.kind}
    if refused:
        found["num_parts_refused"] = len(refused)
        found["parts_refused"] = [*refused[:_MOST_NAMED]]
    return found


def _write_shards(
    config: Config, jobs: Sequence[ShardJob], out: Path, backend: Backend
) -> list[WrittenShard]:
    """Writes the shards that are not there yet; returns all of them."""
    found = map_in_threads(functools.partial(finished_shard, config), jobs)
    shards = list(track(found, "Checking finished shards", len(jobs)))
    missing = [number for number, shard in enumerate(shards) if shard is None]
    if len(missing) < len(jobs):
        kept = len(jobs) - len(missing)
        logger.info("Going on with what was begun: %d of %d shards are there.", kept, len(jobs))
    num_images = sum(len(jobs[number].files) for number in missing)
    require_space(out, num_images, config.images.size_px)
    written = map_shards(
        functools.partial(write_shard, config), [jobs[number] for number in missing], backend
    )
    tracked = track(written, "Storing images, by shard", len(missing))
    for number, shard in zip(missing, tracked, strict=True):
        shards[number] = shard
    return [shard for shard in shards if shard is not None]


def _refuse_strange(partial: Path) -> None:
    """Refuses a folder of an unfinished store that holds anything but parts of one."""
    names = sorted(path.name for path in partial.iterdir()) if partial.exists() else []
    strange = [name for name in names if not name.startswith(_PARTS)]
    if strange:
        raise StoreError(
            f"{partial} is where the store is written, but it holds {strange[0]}. Move that away, "
            "or choose another --out."
        )


def _remove_others(folder: Path, manifest: Manifest) -> None:
    """Removes the shards that a stopped run with smaller shards or more images left there."""
    kept = {shard["file"] for shard in manifest["shards"]}
    for path in folder.glob(f"{SHARD_FILES}*"):
        if path.name not in kept:
            path.unlink()


def _summarise(out: Path, manifest: Manifest, listing: Listing) -> None:
    invalid, num_links = manifest["invalid"], listing.num_links
    num_images = manifest["num_images"]
    logger.info("%s holds %d images, %d of them unreadable.", out, num_images, len(invalid))
    for entry in invalid[:5]:
        logger.info("  not readable: %s", entry["reason"])
    if len(invalid) > 5:
        logger.info("  ... and %d more, listed in %s", len(invalid) - 5, out / MANIFEST)
    if num_links:
        logger.info("  %d symbolic links were not followed.", num_links)
    if listing.refused:
        logger.warning(
            "%d parts of %s were not taken, such as: %s.",
            len(listing.refused),
            listing.origin,
            listing.refused[0],
        )
    if listing.others:
        logger.info(
            "  %d files are no pictures by their suffix, and were left out: %s.",
            len(listing.others),
            listing.described_others(),
        )
