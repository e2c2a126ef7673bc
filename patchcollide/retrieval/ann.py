"""Approximate search: FAISS shortlists on descriptors, re-ranked by integer distances."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from patchcollide.config import Index
from patchcollide.errors import IndexMismatchError
from patchcollide.retrieval.candidates import allowed_once, nearest_candidates
from patchcollide.retrieval.searcher import NO_DISTANCE, Pairs, Question, Searcher, SearchResult
from patchcollide.retrieval.shared_images import SharedImages
from patchcollide.shapes import Float32, Int64, UInt8, ndarray
from patchcollide.store.descriptors import Basis, sample_ids
from patchcollide.store.faiss_library import (
    MOST_GPU_RESULTS,
    import_faiss,
    num_gpus,
    num_quantisers,
    on_gpu,
    read_index,
)
from patchcollide.store.index_files import (
    ABOUT_FILE,
    BASIS_FILE,
    INDEX_FILE,
    read_about,
    require_own_files,
)
from patchcollide.store.patch_sums import PatchSums
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

_SAMPLED_PATCHES = 64
_SHARE_FOUND = 0.9
_DECISIVE_COMPONENTS = 16

_SPARE_NAMED = 64

EFFORTS = (1, 4, 16)
"""How many times the lists, and the candidates, of the first time a query gets, while unsure."""


def num_shortlisted(rerank: int, k: int, num_patches: int) -> int:
    """Returns how many candidates of a query are re-ranked, to find ``k`` neighbours."""
    return min(max(rerank, 2 * k), num_patches)


@dataclass(frozen=True)
class AnnSearcher(Searcher):
    """Finds candidates by descriptor, then sorts them by integer distance, ties by identifier.

    Attributes:
        store: The store the index belongs to.
        basis: Turns patches into descriptors.
        index: The FAISS index; the identifiers in it are patch identifiers.
        gpu_index: Its copy on a GPU; None without one.
        rerank: Candidates a query that are compared in whole numbers.
        probes: Lists that are visited when the index has lists.
    """

    store: PatchStore
    basis: Basis
    index: Any
    gpu_index: Any
    rerank: int
    probes: int

    @proof_modes()
    def named(self, queries: UInt8[ndarray, "queries size size 3"], k: int) -> Pairs:
        """Returns what the index alone names, at first, for the ``k`` nearest of each query."""
        descriptors = self.basis.describe_patches(queries)
        asked, nothing = np.arange(len(queries)), np.empty(0, np.int64)
        return self._compared(queries, descriptors, asked, k, nothing)

    @proof_modes()
    def search_all(self, questions: Sequence[Question], k: int) -> list[SearchResult]:
        """See :meth:`patchcollide.retrieval.searcher.Searcher.search_all`."""
        return [self._answer(question.queries, k, question.exclude) for question in questions]

    def _answer(
        self,
        queries: UInt8[ndarray, "queries size size 3"],
        k: int,
        exclude: Int64[ndarray, "excluded"],
    ) -> SearchResult:
        """Asks the index, then the images that it named, and again for queries that are unsure.

        What the index names for a query, and what images hold that it names for others, are two
        samples of its nearest: of what the first lacks of the second it lacks more elsewhere. So a
        query is sure where it lacks nothing, and all images of its nearest were compared; or where
        asking for four times as much has changed nothing.
        """
        descriptors = self.basis.describe_patches(queries)
        images = SharedImages(self.store, self.basis, queries, k)
        best, asked, before = Pairs.none(), np.arange(len(queries)), np.empty(0, np.int64)
        for effort in EFFORTS:
            compared = self._compared(queries, descriptors, asked, k, exclude, effort)
            named = Pairs.joined([best, compared]).nearest(k)
            best = images.nearest(named)
            own, _ = named.table(len(queries), k)
            distances, ids = best.table(len(queries), k)
            missed = (own > distances[:, -1:]) | (own == NO_DISTANCE)
            unsure = (missed | images.left_out(ids)).any(axis=1)
            if len(before):
                unsure &= (distances != before).any(axis=1)
            asked, before = np.flatnonzero(unsure), distances
            if not len(asked):
                break
        return SearchResult(distances, ids, proven=np.zeros(len(queries), np.bool_))

    def _compared(
        self,
        queries: UInt8[ndarray, "queries size size 3"],
        descriptors: Float32[ndarray, "queries components"],
        asked: Int64[ndarray, "some"],
        k: int,
        exclude: Int64[ndarray, "excluded"],
        effort: int = 1,
    ) -> Pairs:
        """Returns what the index names for some of the queries, compared in whole numbers."""
        count = num_shortlisted(effort * self.rerank, k, self.store.num_patches)
        candidates = self._shortlist(descriptors[asked], count, effort * self.probes, exclude)
        # A damaged index can name anything.
        candidates = allowed_once(self.store, candidates, exclude)
        pairs = nearest_candidates(self._sums, queries[asked], candidates, k)
        return replace(pairs, queries=asked[pairs.queries])

    @cached_property
    def _sums(self) -> PatchSums:
        return PatchSums(self.store)

    def _shortlist(
        self,
        descriptors: Float32[ndarray, "queries components"],
        num_candidates: int,
        probes: int,
        exclude: Int64[ndarray, "excluded"],
    ) -> Int64[ndarray, "queries candidates"]:
        """Returns what the index names, without the excluded; -1 where there is no more.

        To pass over patches slows FAISS by half: it does that only for queries that have too few
        left when the excluded are taken away.
        """
        num_named = num_candidates + (min(num_candidates, _SPARE_NAMED) if len(exclude) else 0)
        if self.gpu_index is not None and num_named <= MOST_GPU_RESULTS:
            self.gpu_index.nprobe = probes
            _, ids = self.gpu_index.search(descriptors, num_named)
        else:
            ids = self._named(descriptors, num_named, probes, None)
        ids[np.isin(ids // self.store.grid.num_positions, exclude)] = -1
        order = np.argsort(ids < 0, axis=1, kind="stable")[:, :num_candidates]
        ids = np.take_along_axis(ids, order, axis=1)
        short = np.flatnonzero(ids[:, -1] < 0)
        bits = self._allowed_bits(exclude)
        if len(short) and bits is not None:
            ids[short] = self._named(descriptors[short], num_candidates, probes, bits)
        return ids

    def _named(
        self,
        descriptors: Float32[ndarray, "queries components"],
        count: int,
        probes: int,
        bits: UInt8[ndarray, "bytes"] | None,
    ) -> Int64[ndarray, "queries count"]:
        faiss = import_faiss()
        selector = None if bits is None else faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        if isinstance(self.index, faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
            if isinstance(faiss.downcast_index(self.index.quantizer), faiss.IndexHNSW):
                # The graph keeps so many candidates while it looks for the lists to visit.
                of_graph = faiss.SearchParametersHNSW(efSearch=2 * probes)
                parameters.quantizer_params = of_graph
        else:
            parameters = faiss.SearchParameters(sel=selector)
        return np.asarray(self.index.search(descriptors, count, params=parameters)[1])

    def _allowed_bits(self, exclude: np.ndarray) -> UInt8[ndarray, "bytes"] | None:
        """Returns a bit for each patch, unset for those of excluded images; None if all are set."""
        if not len(exclude):
            return None
        positions = self.store.grid.num_positions
        bits = np.full(-(-self.store.num_patches // 8), 255, np.uint8)
        patches = (exclude[:, None] * positions + np.arange(positions)).ravel()
        np.bitwise_and.at(bits, patches // 8, ~np.left_shift(1, patches % 8).astype(np.uint8))
        return bits


def open_index(store: PatchStore, settings: Index) -> AnnSearcher:
    """Opens the FAISS index in a store's folder, mapped into memory.

    Raises:
        MissingLibraryError: If FAISS is not installed.
        IndexMismatchError: If there is no index, it belongs to another store, or it does not find
            patches of this one.
    """
    import_faiss()
    about = read_about(store, settings)
    require_own_files(store, about)
    basis = Basis.load(store.path / BASIS_FILE, store=store)
    remedy = f"Remove {store.path / ABOUT_FILE} and run `patchcollide index` again."
    index = read_index(store.path / INDEX_FILE, remedy, mapped=True)
    expected = int(store.valid.sum()) * store.grid.num_positions
    if (index.d, index.ntotal) != (basis.num_components, expected):
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} holds {index.ntotal} descriptors of {index.d} values, but "
            f"the store has {expected} readable patches and its basis {basis.num_components} "
            f"components. {remedy}"
        )
    gpu_index = on_gpu(index, about["factory"]) if num_gpus() else None
    searcher = AnnSearcher(
        store, basis, index, gpu_index, rerank=settings.rerank, probes=settings.probes
    )
    if "sampled_digest" not in about:
        _require_own_patches(searcher, compressed=num_quantisers(about["factory"]) > 0)
    return searcher


def _require_own_patches(searcher: AnnSearcher, *, compressed: bool) -> None:
    """Raises :class:`IndexMismatchError` if an index does not find patches of the store itself.

    For indexes built before their bytes were sampled: nothing else tells another store's index of
    the same kind and size. By few components patches cannot be told from others: then it cannot
    tell either.
    """
    store = searcher.store
    if searcher.basis.num_components < _DECISIVE_COMPONENTS:
        return
    patches = store.patches(sample_ids(store, _SAMPLED_PATCHES, seed=0))
    # A patch is nearest to itself; of few patches many candidates hold it by chance.
    num_candidates = max(searcher.rerank, 100) if compressed else 4
    checking = replace(searcher, rerank=num_candidates, probes=max(searcher.probes, 16))
    found = checking.named(patches, 1)
    num_found = len(np.unique(found.queries[found.squared_distances == 0]))
    if num_found < _SHARE_FOUND * len(patches):
        raise IndexMismatchError(
            f"{store.path / INDEX_FILE} should find the patches of {store.path}, but finds "
            f"{num_found} of {len(patches)}: it is damaged, or of another store. Run `patchcollide "
            f"verify {store.path}`, then `patchcollide repair {store.path}`."
        )
