"""The files of an index in a store's folder: what they are named, and whose they are."""

import hashlib
from pathlib import Path
from typing import Any

from patchcollide.config import Index
from patchcollide.errors import IndexMismatchError
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import differences, file_digest, versions
from patchcollide.store.reader import PatchStore

ENCODING = "patchcollide-index"
VERSION = "2"
INDEX_FILE = "index.faiss"
ABOUT_FILE = "index.json"
BASIS_FILE = "basis.h5"
WORK_FOLDER = "index.partial"

_NUM_SAMPLES = 64
_SAMPLE_BYTES = 4096
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
        "sampled_digest": sampled_digest(store.path / INDEX_FILE),
        "versions": versions(),
    }
    write_json(store.path / ABOUT_FILE, about)


def sampled_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's size and of a few thousand bytes at 64 places of it.

    It is had in an instant, and tells one index from another; flipped bits it may miss.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(size - _SAMPLE_BYTES, 0)
    with path.open("rb") as file:
        for place in range(_NUM_SAMPLES):
            file.seek(last * place // (_NUM_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def require_own_files(store: PatchStore, about: dict[str, Any]) -> None:
    """Raises :class:`IndexMismatchError` if files are not those that ``index.json`` was written of.

    Of the FAISS index a few bytes are compared, and only of one that was built since they are
    written down; ``patchcollide verify`` compares all bytes of all of them.
    """
    index, basis = store.path / INDEX_FILE, store.path / BASIS_FILE
    found = {}
    for path, digest_of in ((index, sampled_digest), (basis, file_digest)):
        try:
            found[path] = digest_of(path)
        except OSError as error:
            raise IndexMismatchError(
                f"{path} is missing or damaged ({error.strerror}). Run `patchcollide repair "
                f"{store.path}`."
            ) from error
    expected = {index: about.get("sampled_digest", found[index])}
    expected[basis] = about.get("digests", {}).get(BASIS_FILE)
    for path, digest in expected.items():
        if found[path] != digest:
            raise IndexMismatchError(
                f"{path} is not the file that {ABOUT_FILE} beside it was written of: it is damaged "
                f"or of another index. Run `patchcollide repair {store.path}`."
            )


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
