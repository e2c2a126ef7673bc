"""Finds every flipped bit, missing file and foreign part of a store, its block sums and its index.

Whatever is found damaged is not given to HDF5 or FAISS: the first may never end, the second crash.
"""

import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from patchcollide.errors import StoreError
from patchcollide.geometry import GridSizes, PatchGrid
from patchcollide.images.folders import source_digest
from patchcollide.io.files import half_written
from patchcollide.io.provenance import array_digest
from patchcollide.io.seals import digest_without, open_regular, sealed_digest
from patchcollide.parallel import map_in_threads
from patchcollide.progress import track
from patchcollide.store.index_files import (
    ABOUT_FILE,
    BASIS_FILE,
    INDEX_FILE,
    WORK_FOLDER,
    read_index_exactly,
)
from patchcollide.store.manifest import (
    BACKUP,
    FILES,
    MANIFEST,
    SHARD_FILES,
    Manifest,
    ShardEntry,
    checked_manifest,
    read_exactly,
    remedy,
    require_version,
)
from patchcollide.store.reader import open_shard
from patchcollide.store.sums_files import has_sums, sums_damage, sums_file

logger = logging.getLogger(__name__)

INDEX_FILES = (INDEX_FILE, ABOUT_FILE, BASIS_FILE)
_NAMED = 5


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written.

    Attributes:
        file: Its name in the store's folder.
        what: What is wrong with it, and with which images if that is known.
    """

    file: str
    what: str


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes:
        store: The store's folder.
        manifest: What should be there; None when both copies are lost.
        indexed: Whether there is an index, or a part of one.
        damages: What is damaged; nothing in a store that is as it was written.
    """

    store: Path
    manifest: Manifest | None
    indexed: bool
    damages: tuple[Damage, ...]

    def __str__(self) -> str:
        num_images = self.manifest["num_images"] if self.manifest else 0
        num_shards = len(self.manifest["shards"]) if self.manifest else 0
        counts = f"{num_images} images, {num_shards} shards"
        index = "index" if self.indexed else "no index"
        if not self.damages:
            return f"{counts}, {index}: all intact"
        return f"{counts}, {index}: {len(self.damages)} files damaged"

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.manifest is not None:
            return remedy(self.store)
        return (
            f"Rename {self.store} to {self.store}.partial, remove {', '.join(INDEX_FILES)} there, "
            "and give the same `patchcollide index` command again: it keeps undamaged shards."
        )

    def require_intact(self) -> None:
        """Raises :class:`StoreError` if anything is damaged."""
        if self.damages:
            names = ", ".join(damage.file for damage in self.damages[:_NAMED])
            raise StoreError(
                f"{self.store} should be as it was written, but {len(self.damages)} of its files "
                f"are damaged or missing: {names}. {self.remedy}"
            )


def inspect(folder: Path, *, quick: bool = False) -> Inspection:
    """Compares every byte of a store and its index with the digests taken when it was written.

    Args:
        folder: The store.
        quick: Leave out the pixels, their sums and the FAISS index, which are most of the bytes.

    Raises:
        StoreError: If the folder is no store, or one of another version.
    """
    manifest, damages = _inspect_manifests(folder)
    _tell_of_leftovers(folder, manifest)
    indexed = any(os.path.lexists(folder / name) for name in INDEX_FILES)
    if manifest is not None:
        shards = manifest["shards"]
        found = map_in_threads(
            functools.partial(_shard_damage, folder, manifest["grid"], quick), shards
        )
        damages += [damage for damage in track(found, "Checking shards", len(shards)) if damage]
        damages += _inspect_sums(folder, manifest, quick) if has_sums(folder) else []
        damages += _inspect_index(folder, manifest, quick) if indexed else []
    return Inspection(folder, manifest, indexed, tuple(damages))


def _tell_of_leftovers(folder: Path, manifest: Manifest | None) -> None:
    """Warns of what killed processes left: it is no damage, and no part of the store either."""
    if strange := _unlisted(folder, manifest):
        logger.warning(
            "%s holds %d shards that are no part of it, such as %s: an extension was stopped, and "
            "goes on with `patchcollide index IMAGES --out %s --extend`.",
            folder,
            len(strange),
            strange[0],
            folder,
        )
    if half := half_written(folder, FILES):
        logger.warning(
            "%s holds %d half written files, such as %s, of a process that was killed: "
            "`patchcollide repair %s` removes them.",
            folder,
            len(half),
            half[0].name,
            folder,
        )
    if (folder / WORK_FOLDER).exists():
        logger.warning(
            "%s is what was done of an index before it was stopped: `patchcollide index IMAGES "
            "--out %s` goes on with it, or removes it if the index is complete.",
            folder / WORK_FOLDER,
            folder,
        )


def _unlisted(folder: Path, manifest: Manifest | None) -> list[str]:
    listed = {entry["file"] for entry in manifest["shards"]} if manifest else set()
    return sorted({path.name for path in folder.glob(SHARD_FILES)} - listed) if listed else []


def _inspect_manifests(folder: Path) -> tuple[Manifest | None, list[Damage]]:
    """Returns the manifest, from its second copy if need be, and what is wrong with both."""
    copies: dict[str, Manifest] = {}
    damages = []
    for name in (MANIFEST, BACKUP):
        try:
            found = read_exactly(folder / name)
        except StoreError as error:
            damages.append(Damage(name, _reason(folder / name, error)))
            continue
        require_version(folder / name, found)
        try:
            copies[name] = checked_manifest(folder / name, found)
        except StoreError as error:
            damages.append(Damage(name, _reason(folder / name, error)))
    if len(copies) == 2 and copies[MANIFEST] != copies[BACKUP]:
        damages.append(Damage(BACKUP, f"is not the copy of {MANIFEST} that it should be"))
    return copies.get(MANIFEST, copies.get(BACKUP)), damages


def _shard_damage(folder: Path, grid: GridSizes, quick: bool, entry: ShardEntry) -> Damage | None:
    path, last = folder / entry["file"], entry["first_image"] + entry["num_images"] - 1
    images = f"images {entry['first_image']} to {last}"
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        without_pixels = digest_without(path, *entry["pixel_bytes"])
        same_around = without_pixels == entry["sha256_without_pixels"]
        if same_around and (quick or source_digest(path) == entry["sha256"]):
            return None
        if size < entry["num_bytes"]:
            what = f"is truncated at byte {size} of {entry['num_bytes']} ({images})"
        elif sealed_digest(path) is not None:
            what = f"is undamaged, but a shard of another store ({images})"
        elif same_around:
            what = f"has flipped bits in {_damaged_images(folder, grid, entry)}"
        else:
            what = f"has flipped bits outside its pixels ({images})"
    except StoreError as error:
        what = f"{_reason(path, error)} ({images})"
    except OSError as error:
        what = f"cannot be read ({error.strerror}; {images})"
    return Damage(entry["file"], what)


def _reason(path: Path, error: StoreError) -> str:
    """Returns what an error says of a file, without the file and without advice."""
    text = str(error).removeprefix(f"{path} ")
    for advice in ("Make it again.", remedy(path.parent)):
        text = text.removesuffix(f" {advice}")
    return text.rstrip(".")


def _damaged_images(folder: Path, grid: GridSizes, entry: ShardEntry) -> str:
    """Names the damaged images of a shard whose pixels alone are damaged."""
    shard = open_shard(folder, PatchGrid(**grid).image_size, entry)
    names = [
        f"{shard.first_image + number} ({shard.names[number]})"
        for number, digest in enumerate(shard.digests)
        if array_digest(shard.read(number, number + 1)[0]) != digest
    ]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} images: {', '.join(names[:_NAMED])}{more}"


def _inspect_sums(folder: Path, manifest: Manifest, quick: bool) -> list[Damage]:
    shards = manifest["shards"]
    look = functools.partial(sums_damage, folder, PatchGrid(**manifest["grid"]), quick=quick)
    found = zip(shards, map_in_threads(look, shards), strict=True)
    return [Damage(sums_file(entry["file"]), what) for entry, what in found if what]


def _inspect_index(folder: Path, manifest: Manifest, quick: bool) -> list[Damage]:
    try:
        about = read_index_exactly(folder)
    except StoreError as error:
        return [Damage(ABOUT_FILE, _reason(folder / ABOUT_FILE, error))]
    damages, digests, built_for = [], about["digests"], about["build"]["store"]
    if built_for != manifest["fingerprint"]:
        generations = manifest.get("generations", [])
        earlier = any(built_for == each["fingerprint"] for each in generations)
        whose = "the store before it was extended" if earlier else "another store"
        damages.append(Damage(ABOUT_FILE, f"belongs to an index of {whose}"))
    checked = (BASIS_FILE,) if quick else (BASIS_FILE, INDEX_FILE)
    missing = [name for name in (BASIS_FILE, INDEX_FILE) if not (folder / name).is_file()]
    wrong = [name for name in checked if source_digest(folder / name) != digests.get(name)]
    return damages + [
        Damage(
            name, "is missing" if name in missing else "does not hold the bytes that were written"
        )
        for name in sorted({*missing, *wrong})
    ]
