"""Makes the damaged parts of a store, its block sums and its index again, and nothing else."""

import contextlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from patchcollide.config import Config, Index
from patchcollide.config_files import parse_recorded
from patchcollide.errors import ImageError, StoreError
from patchcollide.images.folders import ImageFile
from patchcollide.images.listings import SourceImage
from patchcollide.images.sources import find_images
from patchcollide.io.files import half_written
from patchcollide.io.provenance import differences, versions
from patchcollide.progress import track
from patchcollide.store.index_builder import build_index
from patchcollide.store.index_files import ABOUT_FILE, WORK_FOLDER, found_index, read_index_exactly
from patchcollide.store.index_work import remove_work
from patchcollide.store.integrity import INDEX_FILES, Inspection, inspect
from patchcollide.store.manifest import (
    BACKUP,
    FILES,
    MANIFEST,
    SUMS_FILES,
    Manifest,
    ShardEntry,
    read_exactly,
    write_manifest,
)
from patchcollide.store.reader import PatchStore
from patchcollide.store.shards import ShardJob, require_space, write_shard
from patchcollide.store.sums_making import make_sums

logger = logging.getLogger(__name__)

_WORK_FOLDER = "repair.partial"


def repair_store(folder: Path, images: Path | None = None) -> None:
    """Makes again what :func:`patchcollide.store.integrity.inspect` finds damaged.

    A shard is made from the original images, and takes the damaged one's place only if it holds
    what that did when it was written. Whatever cannot be made again is left as it is.

    Args:
        folder: The store.
        images: The folder of images, if it is no longer where it was.

    Raises:
        StoreError: If the folder is no store, its images are gone or changed, or both copies of
            its manifest are lost.
        DiskFullError: If the disk is full.
    """
    shutil.rmtree(folder / _WORK_FOLDER, ignore_errors=True)
    for path in half_written(folder, FILES):
        path.unlink()
    found = inspect(folder)
    manifest = found.manifest
    if manifest is None:
        found.require_intact()
        return
    damaged = {damage.file for damage in found.damages}
    _refuse_folders(folder, damaged)
    config = parse_recorded(manifest["settings"], str(folder / MANIFEST))
    if damaged & {MANIFEST, BACKUP}:
        write_manifest(folder, manifest)
    entries = [entry for entry in manifest["shards"] if entry["file"] in damaged]
    if entries:
        _repair_shards(folder, manifest, entries, config, images or Path(manifest["folder"]))
    _repair_sums(folder, damaged)
    if damaged & set(INDEX_FILES):
        _repair_index(folder, config, damaged)
    index = found_index(folder) if found.indexed else None
    if index and index["build"]["store"] == manifest["fingerprint"]:
        remove_work(folder)
    _report(found)


def _refuse_folders(store: Path, damaged: set[str]) -> None:
    for path in (store / name for name in sorted(damaged)):
        if path.is_dir() and not path.is_symlink():
            raise StoreError(
                f"{path} is a folder where a file should be. Move it away, and give the same "
                "command again."
            )


def _report(found: Inspection) -> None:
    if not found.damages:
        logger.info("%s: nothing to repair.", found)
    for damage in found.damages:
        logger.info("Repaired %s.", damage.file)


@dataclass(frozen=True)
class _Originals:
    """A source of images, by the names that stores keep."""

    folder: Path
    files: dict[str, SourceImage]
    unreadable: frozenset[str]

    def job(self, path: Path, entry: ShardEntry) -> ShardJob:
        """Returns how a shard is made; refuses if images are gone that once could be read."""
        gone = [name for name in entry["names"] if name not in self.files]
        if lost := [name for name in gone if name not in self.unreadable]:
            raise StoreError(
                f"{entry['file']} needs {len(entry['names'])} images, but {len(lost)} of them are "
                f"not in {self.folder}, such as {lost[0]}. Give their folder with --images."
            )
        files = tuple(
            self.files.get(name) or ImageFile(self.folder / name, name, "")
            for name in entry["names"]
        )
        states = tuple(file.state() for file in files)
        return ShardJob(path, entry["first_image"], files, states)


def _repair_shards(
    folder: Path,
    manifest: Manifest,
    entries: Sequence[ShardEntry],
    config: Config,
    images: Path,
) -> None:
    originals = _originals(images, manifest)
    require_space(folder, max(entry["num_images"] for entry in entries), config.images.size_px)
    refusals = []
    for entry in track(entries, "Making shards again", len(entries)):
        try:
            entry.update(_made_again(folder, entry, config, originals))
        except StoreError as error:
            refusals.append(str(error))
    # Times of files and versions of libraries are written in a shard, and may be others now.
    if read_exactly(folder / MANIFEST)["shards"] != manifest["shards"]:
        write_manifest(folder, manifest)
    if refusals:
        hint = differences(versions(), manifest["versions"], "versions")
        raise StoreError(" ".join(refusals + hint[:1]))


def _originals(images: Path, manifest: Manifest) -> _Originals:
    try:
        listing = find_images(images)
    except ImageError as error:
        raise StoreError(
            f"{error} Shards are made again from the images that were indexed: give their folder "
            "with --images."
        ) from error
    unreadable = frozenset(bad["name"] for bad in manifest["invalid"])
    # A shard that is made of another file than it was is refused.
    former = {file.former_name: file for file in listing.files}
    files = former | {file.name: file for file in listing.files}
    return _Originals(images, files, unreadable)


def _made_again(
    folder: Path, entry: ShardEntry, config: Config, originals: _Originals
) -> ShardEntry:
    """Makes one shard again in a folder of its own, then moves it to its place."""
    place = folder / _WORK_FOLDER
    job = originals.job(place / entry["file"], entry)
    try:
        made = write_shard(config, job).entry
        if made["digest"] != entry["digest"]:
            raise StoreError(
                f"{folder / entry['file']} cannot be made again from {originals.folder}: its "
                "images there give other pixels than were stored. Bring back the images that were "
                "indexed, or index these into another --out; the damaged shard is kept."
            )
        job.path.replace(folder / entry["file"])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return made


def _repair_sums(folder: Path, damaged: set[str]) -> None:
    wrong = [folder / name for name in damaged if fnmatch(name, SUMS_FILES)]
    for path in wrong:
        path.unlink(missing_ok=True)
    if wrong:
        make_sums(PatchStore.open(folder))


def _repair_index(folder: Path, config: Config, damaged: set[str]) -> None:
    store = PatchStore.open(folder)
    settings, seed, built_for = _index_settings(folder, config)
    if damaged & set(INDEX_FILES) != {ABOUT_FILE} or built_for not in store.generations:
        # What was begun may have been copied from the damaged index.
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        for name in INDEX_FILES:
            (folder / name).unlink(missing_ok=True)
    build_index(store, settings, seed)


def _index_settings(folder: Path, config: Config) -> tuple[Index, int, str]:
    """Returns what an index was built with and for; if it does not say so, what the store does."""
    with contextlib.suppress(StoreError, ValueError):
        build = read_index_exactly(folder)["build"]
        return Index.model_validate(build["index"]), build["seed"], build["store"]
    return config.index, config.seed, ""
