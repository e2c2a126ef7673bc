"""Approximate search: FAISS shortlists on descriptors, re-ranked by exact integer distances."""

import importlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Index
from patchcollide.descriptors import Basis, fit_basis, sample_patches
from patchcollide.errors import IndexMismatchError, MissingLibraryError
from patchcollide.files import read_json, write_json, written_beside
from patchcollide.progress import track
from patchcollide.provenance import differences, file_digest, versions
from patchcollide.search.searcher import (
    NO_DISTANCE,
    Searcher,
    SearchResult,
    distances_in_store,
    nearest_first,
)
from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store import PatchStore

logger = logging.getLogger(__name__)

ENCODING = "patchcollide-index"
VERSION = "1"
INDEX_FILE = "index.faiss"
ABOUT_FILE = "index.json"
BASIS_FILE = "basis.h5"

_FLAT_UP_TO = 200_000
_IVF_FLAT_UP_TO = 2_000_000
_MOST_LISTS = 4096
_CODE_BYTES = 32
_BLOCK_IMAGES = 256


@dataclass(frozen=True)
class AnnSearcher(Searcher):
    """Finds candidates by descriptor, then sorts them by exact distance, ties by identifier.

    Attributes:
        store: The store the index belongs to.
        basis: Turns patches into descriptors.
        index: The FAISS index; the identifiers in it are patch identifiers.
        rerank: Candidates a query that are compared exactly.
        probes: Lists that are visited when the index has lists.
    """

    store: PatchStore
    basis: Basis
    index: Any
    rerank: int
    probes: int

    def search(
        self,
        queries: UInt8[ndarray, "queries size size 3"],
        k: int,
        exclude: Int64[ndarray, "excluded"],
    ) -> SearchResult:
        """See :meth:`patchcollide.search.searcher.Searcher.search`."""
        allowed = self.store.valid.copy()
        allowed[exclude] = False
        num_candidates = min(max(self.rerank, 2 * k), self.store.num_patches)
        descriptors = self.basis.describe_patches(queries)
        candidates = self._shortlist(descriptors, num_candidates, allowed)
        return self._rerank(queries.reshape(len(queries), -1), candidates, k)

    def _shortlist(
        self, descriptors: np.ndarray, num_candidates: int, allowed: np.ndarray
    ) -> np.ndarray:
        faiss = _import_faiss()
        selector, bitmap = None, None
        if not allowed.all():
            bits = np.repeat(allowed, self.store.grid.num_positions)
            bitmap = np.packbits(bits, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
        if isinstance(self.index, faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=self.probes)
        else:
            parameters = faiss.SearchParameters(sel=selector)
        _, ids = self.index.search(descriptors, num_candidates, params=parameters)
        del bitmap  # FAISS reads it during the search only
        return np.asarray(ids)

    def _rerank(self, flat: np.ndarray, candidates: np.ndarray, k: int) -> SearchResult:
        distances = np.full(candidates.shape, NO_DISTANCE, np.int64)
        rows, columns = np.nonzero(candidates >= 0)
        ids = candidates[rows, columns]
        distances[rows, columns] = distances_in_store(self.store, flat, rows, ids)
        return nearest_first(distances, candidates, k)


def build_index(store: PatchStore, settings: Index, seed: int) -> None:
    """Fits the basis and writes the FAISS index of a store into its folder, unless they are there.

    Args:
        store: Every readable patch of it is indexed.
        settings: Length of descriptors, kind of the index and sizes of the samples.
        seed: Decides the samples.

    Raises:
        MissingLibraryError: If FAISS is not installed.
        IndexMismatchError: If the folder holds an index of other settings.
        DiskFullError: If there is no room left.
    """
    faiss = _import_faiss()
    build = _build_settings(store, settings, seed)
    if (store.path / ABOUT_FILE).exists():
        _require_same(store.path, build)
        logger.info("%s has this index already: nothing to do.", store.path)
        return
    basis = fit_basis(
        store, num_components=settings.components, num_patches=settings.basis_patches, seed=seed
    )
    basis.save(store.path / BASIS_FILE, store=store, settings=build)
    factory = index_factory(settings, store.num_patches)
    index = _filled_index(store, basis, factory, settings.training_patches, seed)
    with written_beside(store.path / INDEX_FILE) as partial:
        faiss.write_index(index, str(partial))
    write_json(
        store.path / ABOUT_FILE,
        {
            "encoding-type": ENCODING,
            "encoding-version": VERSION,
            "build": build,
            "factory": factory,
            "variance_share": basis.variance_share,
            "digests": {n: file_digest(store.path / n) for n in (INDEX_FILE, BASIS_FILE)},
            "versions": versions(),
        },
    )
    logger.info(
        "Indexed %d patches as %s; %d components hold %.1f %% of their variance.",
        store.num_patches,
        factory,
        basis.num_components,
        100 * basis.variance_share,
    )


def open_index(store: PatchStore, settings: Index) -> AnnSearcher:
    """Opens the FAISS index in a store's folder.

    Raises:
        MissingLibraryError: If FAISS is not installed.
        IndexMismatchError: If there is no index, or it belongs to another store.
    """
    faiss = _import_faiss()
    if not (store.path / ABOUT_FILE).exists():
        raise IndexMismatchError(
            f"{store.path} has no index ({ABOUT_FILE} is missing). Run `patchcollide index` on the "
            "same images again, which adds it, or use --engine exact."
        )
    about = read_json(store.path / ABOUT_FILE, error=IndexMismatchError)
    found = (about.get("encoding-type"), about.get("encoding-version"))
    if found != (ENCODING, VERSION):
        raise IndexMismatchError(
            f"{store.path / ABOUT_FILE} should be '{ENCODING}' version {VERSION}, but is "
            f"'{found[0]}' version {found[1]}. Remove it and run `patchcollide index` again."
        )
    build = about.get("build")
    if not isinstance(build, dict) or build.get("store") != store.fingerprint:
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} was built for another store than the one in {store.path}. "
            f"Remove {INDEX_FILE}, {ABOUT_FILE} and {BASIS_FILE} there and run `patchcollide "
            "index` again."
        )
    _require_index_settings(store, settings, build)
    basis = Basis.load(store.path / BASIS_FILE, store=store)
    path = str(store.path / INDEX_FILE)
    try:
        # Mapped into memory by versions of FAISS that can.
        index = faiss.read_index(path, getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    except RuntimeError as error:
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} is missing or damaged ({error}). Remove "
            f"{store.path / ABOUT_FILE} and run `patchcollide index` again."
        ) from error
    if (index.d, index.ntotal) != (basis.num_components, store.num_patches):
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} holds {index.ntotal} descriptors of {index.d} values, but "
            f"the store has {store.num_patches} patches and its basis {basis.num_components} "
            f"components. Remove {store.path / ABOUT_FILE} and run `patchcollide index` again."
        )
    return AnnSearcher(store, basis, index, rerank=settings.rerank, probes=settings.probes)


def _require_index_settings(store: PatchStore, settings: Index, build: dict[str, Any]) -> None:
    """Refuses an index other than the one the settings describe: they are written into outputs."""
    built_with = build.get("index", {})
    for name in ("components", "kind"):
        wanted, found = getattr(settings, name), built_with.get(name)
        if wanted != found:
            raise IndexMismatchError(
                f"{store.path / INDEX_FILE} was built with index.{name} = {found}, but the "
                f"settings have {wanted}. Set index.{name} = {found}, or remove {INDEX_FILE}, "
                f"{ABOUT_FILE} and {BASIS_FILE} there and run `patchcollide index` again."
            )


def index_factory(settings: Index, num_patches: int) -> str:
    """Returns FAISS's name of the index for so many patches.

    Small stores are scanned whole; beyond that descriptors go into inverted lists, and beyond
    two million they are compressed to 32 bytes each. Lists number about four times the square
    root of the patches, as FAISS's guidelines have it, with 39 training patches for each at least.
    """
    kind: str = settings.kind
    if kind == "auto":
        limits = {"flat": _FLAT_UP_TO, "ivf-flat": _IVF_FLAT_UP_TO, "ivf-pq": math.inf}
        kind = next(name for name, limit in limits.items() if num_patches <= limit)
    trained_on = min(num_patches, settings.training_patches)
    lists = max(1, min(_MOST_LISTS, round(4 * num_patches**0.5), trained_on // 39))
    code_bytes = math.gcd(settings.components, _CODE_BYTES)
    return {
        "flat": "Flat",
        "ivf-flat": f"IVF{lists},Flat",
        "ivf-pq": f"IVF{lists},PQ{code_bytes}",
    }[kind]


def _filled_index(
    store: PatchStore, basis: Basis, factory: str, training_patches: int, seed: int
) -> Any:
    index = _import_faiss().index_factory(basis.num_components, factory)
    if not index.is_trained:
        # A random sample: the first images of a folder are all of one class.
        sample = sample_patches(store, training_patches, seed)
        index.train(basis.describe_patches(sample))
    num_blocks = -(-store.num_images // _BLOCK_IMAGES)
    for _, images in track(store.blocks(_BLOCK_IMAGES), "Indexing patches, by block", num_blocks):
        index.add(basis.describe_images(images, store.grid))
    return index


def _build_settings(store: PatchStore, settings: Index, seed: int) -> dict[str, Any]:
    built_with = settings.model_dump(mode="json", exclude={"probes", "rerank"})
    return {"store": store.fingerprint, "seed": seed, "index": built_with}


def _require_same(folder: Path, build: dict[str, Any]) -> None:
    about = read_json(folder / ABOUT_FILE, error=IndexMismatchError)
    changed = differences(build, about.get("build"))
    if changed:
        raise IndexMismatchError(
            f"{folder} holds an index of other settings ({'; '.join(changed)}). Use those, or "
            f"remove {INDEX_FILE}, {ABOUT_FILE} and {BASIS_FILE} there and run `patchcollide "
            "index` again."
        )


def _import_faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingLibraryError(
            "FAISS is not installed, which the ann engine needs. Install `patchcollide[cpu]` or, "
            "for a GPU, `patchcollide[gpu]` (never both), or use --engine exact."
        ) from error
