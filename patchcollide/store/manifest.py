"""A store's manifest, kept twice: what is in the store, and the digests of its shards and its own.

Both copies are equal, so that one that is damaged or lost can be taken from the other. When a
store grows, ``manifest.json`` is replaced after all else: until then the store is the old one.
"""

import re
from pathlib import Path
from typing import Any

from patchcollide.config import Count, Digest, Position, Recorded
from patchcollide.config_files import require_recorded
from patchcollide.errors import GeometryError, StoreError
from patchcollide.geometry import PatchGrid
from patchcollide.io.files import read_json, sealed_json, write_json
from patchcollide.io.seals import open_regular

ENCODING = "patchcollide-store"
VERSION = "2"
MANIFEST = "manifest.json"
BACKUP = "manifest.backup.json"
FILES = ("manifest*.json", "shard-*.h5", "basis.h5", "index.json", "index.faiss")
"""Patterns of the names of all files of a store and its index."""
_SHARD_NAME = re.compile(r"shard-[0-9]{5,9}\.h5", re.ASCII)


class _Grid(Recorded):
    image_size: Count
    window_size: Count
    stride: Count
    patch_size: Count


class _Shard(Recorded):
    file: str
    first_image: Position
    num_images: Count
    num_bytes: Position
    pixel_bytes: list[Position]
    digest: Digest
    sha256: Digest
    sha256_without_pixels: Digest
    names: list[str]


class _Unreadable(Recorded):
    image: Position
    name: str
    reason: str


class _Generation(Recorded):
    fingerprint: Digest
    num_images: Count


class _Manifest(Recorded):
    """What a manifest must hold; :func:`require_sound` says how it hangs together."""

    fingerprint: Digest
    generations: list[_Generation] = []  # noqa: RUF012 -- pydantic copies defaults
    grid: _Grid
    folder: str
    num_images: Count
    num_patches: Count
    shards: list[_Shard]
    invalid: list[_Unreadable]
    removed: list[str]
    settings: dict[str, Any]
    versions: dict[str, str]


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes both copies, with the manifest's digest.

    Raises:
        DiskFullError: If there is no room left.
    """
    write_json(folder / MANIFEST, manifest)
    write_json(folder / BACKUP, manifest)


def keep_backup(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the second copy again where it is not that of ``manifest``.

    That happens when a process is killed after the first and before the second.
    """
    try:
        same = read_json(folder / BACKUP, error=StoreError) == manifest
    except StoreError:
        same = False
    if not same:
        write_json(folder / BACKUP, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
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
    require_sound(path, manifest)
    return manifest


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


def require_version(path: Path, manifest: dict[str, Any]) -> None:
    """Raises :class:`StoreError` if a manifest is of another kind or version."""
    found = (manifest.get("encoding-type"), manifest.get("encoding-version"))
    if found != (ENCODING, VERSION):
        raise StoreError(
            f"{path} should be '{ENCODING}' version {VERSION}, but is '{found[0]}' version "
            f"{found[1]}. Index the images again with this version of patchcollide."
        )


def require_sound(path: Path, manifest: dict[str, Any]) -> None:
    """Refuses a manifest that says what none that was written does; its digest proves nothing.

    Every reader goes by what a manifest says, and repair writes where it says: a shard is a file
    of the store's own folder, and no other's; sizes and numbers fit each other.

    Raises:
        StoreError: If a value is missing, of another type, or no store has such a one.
    """
    what = remedy(path.parent)
    require_recorded(_Manifest, manifest, path, StoreError, what)
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


def _wrong_sizes(entry: dict[str, Any], side: int) -> str:
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
