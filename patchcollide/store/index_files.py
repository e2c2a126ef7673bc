"""The files of an index in a store's folder: what they are named, and whose they are."""

import hashlib
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from patchcollide.config import Digest, Index
from patchcollide.config_files import recorded
from patchcollide.errors import IndexMismatchError, StoreError
from patchcollide.io.encodings import Encoded, require_encoding
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import differences, file_digest, versions
from patchcollide.store.manifest import read_exactly, remedy
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


class Build(TypedDict):
    """All that decides an index.

    Attributes:
        store: Fingerprint of the store.
        seed: Of the samples.
        index: The settings, but for those of searches.
    """

    store: str
    seed: int
    index: dict[str, int | str]


class AboutIndex(Encoded):
    """What ``index.json`` holds.

    Attributes:
        build: What the index was made from.
        factory: FAISS's name of it.
        variance_share: Share of the variance that its components hold.
        digests: SHA-256 of its files, by their names.
        sampled_digest: What :func:`sampled_digest` says of it; indexes of before lack it.
        versions: Of the libraries.
    """

    build: Build
    factory: str
    variance_share: float
    digests: dict[str, Digest]
    sampled_digest: NotRequired[Digest]
    versions: dict[str, str]


def build_settings(store: PatchStore, settings: Index, seed: int) -> Build:
    """Returns all that decides an index."""
    built_with = settings.model_dump(mode="json", exclude={"probes", "rerank"})
    return {"store": store.fingerprint, "seed": seed, "index": built_with}


def write_about(store: PatchStore, build: Build, factory: str, share: float) -> None:
    """Writes ``index.json``, which makes an index complete."""
    about: AboutIndex = {
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


def require_own_files(store: PatchStore, about: AboutIndex) -> None:
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
    expected = {
        index: about.get("sampled_digest", found[index]),
        basis: about["digests"].get(BASIS_FILE),
    }
    for path, digest in expected.items():
        if found[path] != digest:
            raise IndexMismatchError(
                f"{path} is not the file that {ABOUT_FILE} beside it was written of: it is damaged "
                f"or of another index. Run `patchcollide repair {store.path}`."
            )


def found_index(folder: Path) -> AboutIndex | None:
    """Returns what is known of the index in a store's folder; None if there is none.

    Raises:
        IndexMismatchError: If ``index.json`` is damaged, or of another version.
    """
    if not (folder / ABOUT_FILE).exists():
        return None
    path = folder / ABOUT_FILE
    about = read_json(path, error=IndexMismatchError, sealed=True, remedy=remedy(folder))
    other = "Remove it and run `patchcollide index` again."
    require_encoding(about, path, (ENCODING, VERSION), IndexMismatchError, other)
    return recorded(AboutIndex, about, path, IndexMismatchError, remedy(folder))


def read_index_exactly(folder: Path) -> AboutIndex:
    """Returns what is known of an index, with every byte of ``index.json`` checked.

    Raises:
        StoreError: If it is missing or damaged.
    """
    path = folder / ABOUT_FILE
    return recorded(AboutIndex, read_exactly(path), path, StoreError, remedy(folder))


def require_same(folder: Path, build: Build, found: Build) -> None:
    """Raises :class:`IndexMismatchError` if an index was built from something else."""
    changed = differences(build, found)
    if changed:
        raise IndexMismatchError(
            f"{folder} holds an index of other settings ({'; '.join(changed)}). Use those, or "
            f"remove {_ALL} there and run `patchcollide index` again."
        )


def read_about(store: PatchStore, settings: Index) -> AboutIndex:
    """Reads ``index.json`` of an index that fits the store and the settings.

    Raises:
        IndexMismatchError: If there is no index, or it belongs to another store, or was built with
            other settings: those are written into outputs.
    """
    about = found_index(store.path)
    if about is None:
        raise IndexMismatchError(
            f"{store.path} has no index ({ABOUT_FILE} is missing). Run `patchcollide index` on the "
            "same images again, which adds it, or use --engine exact."
        )
    if about["build"]["store"] != store.fingerprint:
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} was built for another store than the one in {store.path}. "
            f"Run `patchcollide index` again if the store was extended; otherwise remove {_ALL} "
            "there first."
        )
    for name in ("components", "kind"):
        wanted, found = getattr(settings, name), about["build"]["index"].get(name)
        if wanted != found:
            raise IndexMismatchError(
                f"{store.path / INDEX_FILE} was built with index.{name} = {found}, but the "
                f"settings have {wanted}. Set index.{name} = {found}, or remove {_ALL} there and "
                "run `patchcollide index` again."
            )
    return about
