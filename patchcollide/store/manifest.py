"""A store's manifest, kept twice: what is in the store, and the digests of its shards and its own.

Both copies are equal, so that one that is damaged or lost can be taken from the other. When a
store grows, ``manifest.json`` is replaced after all else: until then the store is the old one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from patchcollide.config import Count, Digest, Position
from patchcollide.config_files import recorded
from patchcollide.errors import GeometryError, StoreError
from patchcollide.geometry import GridSizes, PatchGrid
from patchcollide.io.encodings import Encoded, require_encoding
from patchcollide.io.files import read_json, sealed_json, write_json
from patchcollide.io.seals import open_regular

ENCODING = "patchcollide-store"
VERSION = "2"
MANIFEST = "manifest.json"
BACKUP = "manifest.backup.json"
SHARD_FILES = "shard-*.h5"
"""Pattern of the names of shards."""
SUMS_FILES = "sums-*.dat"
"""Pattern of the names of the files of block sums."""
FILES = ("manifest*.json", SHARD_FILES, SUMS_FILES, "basis.h5", "index.json", "index.faiss")
"""Patterns of the names of all files of a store and its index."""
_SHARD_NAME = re.compile(r"shard-[0-9]{5,9}\.h5", re.ASCII)


class ShardEntry(TypedDict):
    """What the manifest says of a shard.

    Attributes:
        file: Its name.
        first_image: Number of its first image.
        num_images: How many it holds.
        num_bytes: Size of the file.
        pixel_bytes: Where in it the images begin and end.
        digest: Of what it holds; the same wherever and whenever it is made of the same images.
        sha256: Of all bytes of the file.
        sha256_without_pixels: Of those outside ``pixel_bytes``.
        names: Where the images came from, relative to the folder that was indexed.
    """

    file: str
    first_image: Position
    num_images: Count
    num_bytes: Position
    pixel_bytes: list[Position]
    digest: Digest
    sha256: Digest
    sha256_without_pixels: Digest
    names: list[str]


class Unreadable(TypedDict):
    """An image of the store that could not be read, and why."""

    image: Position
    name: str
    reason: str


class Generation(TypedDict):
    """The store as it was before it was extended, or is."""

    fingerprint: Digest
    num_images: Count


class BeyondFolders(TypedDict):
    """What a manifest says of images that did not lie in folders.

    Attributes:
        source_kind: ``tar``, ``tar of tars``, ``webdataset`` or ``parquet``; absent of folders.
        num_parts_refused: Members of archives that were not taken, if there were any.
        parts_refused: The first of these, with the reason.
    """

    source_kind: NotRequired[str]
    num_parts_refused: NotRequired[int]
    parts_refused: NotRequired[list[str]]


class Manifest(Encoded, BeyondFolders):
    """What a manifest holds; :func:`checked_manifest` says how it hangs together.

    Attributes:
        fingerprint: Of all that the store holds.
        generations: What it was so far; stores of before lack them.
        grid: How its images are cut.
        folder: Where they came from: a folder, an archive, or a pattern of several.
        num_images: Those that could not be read included.
        num_patches: Of all images.
        num_links_not_followed: Links in the folder; stores of before do not say.
        num_files_left_out: Files there that are no pictures; likewise.
        files_left_out: The first of these; likewise.
        shards: The files of the store, in order.
        invalid: The images that could not be read.
        removed: Names of images whose files were gone when the store was extended.
        settings: All settings it was made with.
        versions: Of the libraries.
    """

    fingerprint: Digest
    generations: NotRequired[list[Generation]]
    grid: GridSizes
    folder: str
    num_images: Count
    num_patches: Count
    num_links_not_followed: NotRequired[int]
    num_files_left_out: NotRequired[int]
    files_left_out: NotRequired[list[str]]
    shards: list[ShardEntry]
    invalid: list[Unreadable]
    removed: list[str]
    settings: dict[str, Any]
    versions: dict[str, str]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes both copies, with the manifest's digest.

    Raises:
        DiskFullError: If the disk is full.
    """
    write_json(folder / MANIFEST, manifest)
    write_json(folder / BACKUP, manifest)


def keep_backup(folder: Path, manifest: Manifest) -> None:
    """Writes the second copy again where it is not that of ``manifest``.

    That happens when a process is killed after the first and before the second.
    """
    try:
        same = read_json(folder / BACKUP, error=StoreError) == manifest
    except StoreError:
        same = False
    if not same:
        write_json(folder / BACKUP, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of the store in ``folder``.

    Raises:
        StoreError: If there is no store, or the manifest is damaged or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        require_folder(folder)
        raise StoreError(f"{path} is missing, but its copy {BACKUP} is there. {remedy(folder)}")
    try:
        manifest = read_json(path, error=StoreError, remedy=remedy(folder), sealed=True)
    except StoreError:
        # The first version had no digests.
        require_version(path, read_json(path, error=StoreError, remedy=remedy(folder)))
        raise
    require_version(path, manifest)
    return checked_manifest(path, manifest)


def require_folder(folder: Path) -> None:
    """Raises :class:`StoreError` if ``folder`` holds neither copy of a manifest."""
    if not any((folder / name).is_file() for name in (MANIFEST, BACKUP)):
        raise StoreError(
            f"{folder} is not a patch store: it holds no {MANIFEST}. Check the path, or make a "
            f"store with `patchcollide index IMAGES --out {folder}`."
        )


def read_exactly(path: Path) -> dict[str, Any]:
    """Reads a JSON object that carries its own digest, and checks every byte of the file.

    Raises:
        StoreError: If it is missing, is no file, or a bit of it is not as it was written.
    """
    with open_regular(path):
        pass
    value = read_json(path, error=StoreError, sealed=True)
    # What parses to the same value, as 1e5 and 1E5 do, is not what was written either.
    if path.read_text(encoding="utf-8") != sealed_json(value):
        raise StoreError(f"{path} is damaged (it is not written as it was).")
    return value


def require_version(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises :class:`StoreError` if a manifest is of another kind or version."""
    what = "Index the images again with this version of patchcollide."
    require_encoding(manifest, path, (ENCODING, VERSION), StoreError, what)


def checked_manifest(path: Path, found: object) -> Manifest:
    """Returns what a file holds as a manifest, if a store was written that has such a one.

    The digest of a file proves nothing. Every reader goes by what a manifest says, and repair
    writes where it says: a shard is a file of the store's own folder, and no other's; sizes and
    numbers fit each other.

    Raises:
        StoreError: If a value is missing, of another type, or no store has such a one.
    """
    what = remedy(path.parent)
    manifest = recorded(Manifest, found, path, StoreError, what)
    try:
        side = PatchGrid(**manifest["grid"]).image_size
    except (TypeError, GeometryError) as error:
        raise StoreError(f"{path} is damaged ({error}). {what}") from error
    files, expected = set(), 0
    for entry in manifest["shards"]:
        file, first = entry["file"], entry["first_image"]
        if not _SHARD_NAME.fullmatch(file):
            raise StoreError(
                f"{path} names a shard outside its folder: {file!r}, not such as shard-00000.h5. "
                f"{what}"
            )
        if file in files:
            raise StoreError(f"{path} names a shard twice: {file}. {what}")
        if first != expected:
            raise StoreError(
                f"{path} should go on with image {expected}, but names a shard that begins with "
                f"image {first}. {what}"
            )
        if wrong := _wrong_sizes(entry, side) or _wrong_names(entry["names"]):
            raise StoreError(f"{path} is damaged ({file}: {wrong}). {what}")
        files.add(file)
        expected += entry["num_images"]
    if manifest["num_images"] != expected:
        raise StoreError(
            f"{path} is damaged (its shards hold {expected} images, but num_images = "
            f"{manifest['num_images']}). {what}"
        )
    return manifest


def _wrong_sizes(entry: ShardEntry, side: int) -> str:
    """Returns what is wrong with the sizes of a shard whose images are ``side`` pixels wide."""
    count, needed = entry["num_images"], entry["num_images"] * side * side * 3
    start, *stops = entry["pixel_bytes"] or [0]
    if stops != [start + needed]:
        return f"{count} images of {side} pixels take {needed} bytes, not {entry['pixel_bytes']}"
    if entry["num_bytes"] < stops[0]:
        return f"its pixels end at byte {stops[0]} of {entry['num_bytes']}"
    if len(entry["names"]) != count:
        return f"it has {count} images, but {len(entry['names'])} names"
    return ""


def _wrong_names(names: list[str]) -> str:
    """Returns which name of an image leads out of the folder of images; repair reads there."""
    for name in names:
        # Most names need no second look.
        if ".." in name or "//" in name or name[:1] in ("", "/") or "\0" in name:
            parts = name.split("/")
            if "\0" in name or not set(parts).isdisjoint(("", ".", "..")):
                return f"{name!r} is no image in a folder"
    return ""


def remedy(folder: Path) -> str:
    """Returns what to do about a damaged store."""
    return f"Run `patchcollide repair {folder}`."
