"""The files of an index in a store's folder: what they are named, and whose they are."""

from pathlib import Path
from typing import Any

from patchcollide.config import Index
from patchcollide.errors import IndexMismatchError
from patchcollide.files import read_json, write_json
from patchcollide.provenance import differences, file_digest, versions
from patchcollide.store import PatchStore

ENCODING = "patchcollide-index"
VERSION = "2"
INDEX_FILE = "index.faiss"
ABOUT_FILE = "index.json"
BASIS_FILE = "basis.h5"
WORK_FOLDER = "index.partial"

_ALL = f"{INDEX_FILE}, {ABOUT_FILE} and {BASIS_FILE}"


def build_settings(store: PatchStore, settings: Index, seed: int) -> dict[str, Any]:
    """Returns all that decides an index."""
    built_with = settings.model_dump(mode="json", exclude={"probes", "rerank"})
    return {"store": store.fingerprint, "seed": seed, "index": built_with}


def write_about(store: PatchStore, build: dict[str, Any], factory: str, share: float) -> None:
    """Writes ``index.json``, which makes an index complete."""
    about = {
        "encoding-type": ENCODING,
        "encoding-version": VERSION,
        "build": build,
        "factory": factory,
        "variance_share": share,
        "digests": {name: file_digest(store.path / name) for name in (INDEX_FILE, BASIS_FILE)},
        "versions": versions(),
    }
    write_json(store.path / ABOUT_FILE, about)


def found_build(folder: Path) -> dict[str, Any] | None:
    """Returns what the index in a store's folder was built from; None if there is none."""
    if not (folder / ABOUT_FILE).exists():
        return None
    build = _read(folder).get("build")
    return build if isinstance(build, dict) else {}


def require_same(folder: Path, build: dict[str, Any], found: dict[str, Any]) -> None:
    """Raises :class:`IndexMismatchError` if an index was built from something else."""
    changed = differences(build, found)
    if changed:
        raise IndexMismatchError(
            f"{folder} holds an index of other settings ({'; '.join(changed)}). Use those, or "
            f"remove {_ALL} there and run `patchcollide index` again."
        )


def read_about(store: PatchStore, settings: Index) -> dict[str, Any]:
    """Reads ``index.json`` of an index that fits the store and the settings.

    Raises:
        IndexMismatchError: If there is no index, or it belongs to another store, or was built with
            other settings: those are written into outputs.
    """
    if not (store.path / ABOUT_FILE).exists():
        raise IndexMismatchError(
            f"{store.path} has no index ({ABOUT_FILE} is missing). Run `patchcollide index` on the "
            "same images again, which adds it, or use --engine exact."
        )
    about = _read(store.path)
    build = about.get("build")
    if not isinstance(build, dict) or build.get("store") != store.fingerprint:
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} was built for another store than the one in {store.path}. "
            f"Run `patchcollide index` again if the store was extended; otherwise remove {_ALL} "
            "there first."
        )
    for name in ("components", "kind"):
        wanted, found = getattr(settings, name), build.get("index", {}).get(name)
        if wanted != found:
            raise IndexMismatchError(
                f"{store.path / INDEX_FILE} was built with index.{name} = {found}, but the "
                f"settings have {wanted}. Set index.{name} = {found}, or remove {_ALL} there and "
                "run `patchcollide index` again."
            )
    return about


def _read(folder: Path) -> dict[str, Any]:
    about = read_json(
        folder / ABOUT_FILE,
        error=IndexMismatchError,
        sealed=True,
        remedy=f"Run `patchcollide repair {folder}`.",
    )
    found = (about.get("encoding-type"), about.get("encoding-version"))
    if found != (ENCODING, VERSION):
        raise IndexMismatchError(
            f"{folder / ABOUT_FILE} should be '{ENCODING}' version {VERSION}, but is "
            f"'{found[0]}' version {found[1]}. Remove it and run `patchcollide index` again."
        )
    return about
