"""A store's manifest, kept twice: what is in the store, and the digests of its shards and its own.

Both copies are equal, so that one that is damaged or lost can be taken from the other. When a
store grows, ``manifest.json`` is replaced after all else: until then the store is the old one.
"""

import json
from pathlib import Path
from typing import Any

from patchcollide.errors import StoreError
from patchcollide.files import read_json, write_json
from patchcollide.provenance import self_digest
from patchcollide.seals import open_regular

ENCODING = "patchcollide-store"
VERSION = "2"
MANIFEST = "manifest.json"
BACKUP = "manifest.backup.json"


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes both copies, with the manifest's digest.

    Raises:
        DiskFullError: If there is no room left.
    """
    content = {**manifest, "digest": self_digest(manifest)}
    write_json(folder / MANIFEST, content)
    write_json(folder / BACKUP, content)


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
    manifest = read_json(path, error=StoreError)
    require_version(path, manifest)
    if not _has_own_digest(manifest):
        raise StoreError(
            f"{path} is damaged (its content does not have its digest). {remedy(folder)}"
        )
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
    value = read_json(path, error=StoreError)
    if not _has_own_digest(value):
        raise StoreError(f"{path} is damaged (its content does not have its digest).")
    # What parses to the same value, as 1e5 and 1E5 do, is not what was written either.
    if path.read_text(encoding="utf-8") != json.dumps(value, indent=2) + "\n":
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


def remedy(folder: Path) -> str:
    """Returns what to do about a damaged store."""
    return f"Run `patchcollide repair {folder}`."


def _has_own_digest(value: dict[str, Any]) -> bool:
    try:
        return bool(value.get("digest") == self_digest(value))
    except (ValueError, RecursionError):  # NaN, which JSON does not know but Python reads.
        return False
