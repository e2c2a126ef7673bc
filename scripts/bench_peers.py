"""The searches people use otherwise, on the same patches as those of `bench_search`.

Each finds rows of a corpus: by whole patches, as float32 vectors or smaller, or by their first
components, with exact distances for the last word as our own approximate engine has them.
"""

import importlib.metadata
import math
from typing import Any

import numpy as np
import torch
from bench_corpus import IMAGES_AT_ONCE, TRAINING_PATCHES, Components, Corpus, Peer
from bench_graphs import (
    HnswlibPeer,
    LeanVecPeer,
    LibraryPeer,
    NNDescentPeer,
    ScannPeer,
    SvsPeer,
    UsearchPeer,
    too_many,
)

from patchcollide.retrieval.candidates import nearest_candidates
from patchcollide.store.faiss_library import import_faiss
from patchcollide.store.patch_sums import PatchSums

_PATCHES_PER_LIST = 39
_MOST_LISTS = 16_384
_CODE_BYTES = 32


class MatrixPeer(Peer):
    """Norms minus twice a float32 product, block by block; patches are unfolded on the way."""

    def __init__(self, device: str) -> None:
        self.about = f"PyTorch float32 on {device}, unfolded block by block, topk"
        self._device = device

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        block = IMAGES_AT_ONCE * corpus.store.grid.num_positions
        return 3 * 4 * block * corpus.dimension

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        self._corpus = corpus

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        del breadth
        # Values come in the order in which unfolding leaves them: channel by channel.
        filters = self._on_device(queries).permute(0, 3, 1, 2).reshape(len(queries), -1)
        best = torch.empty(len(queries), 0, device=self._device)
        rows = torch.empty(len(queries), 0, dtype=torch.int64, device=self._device)
        first = 0
        for images in self._corpus.images():
            patches = self._unfolded(images)
            distances = patches.square().sum(dim=1) - 2 * filters @ patches.T
            values, found = distances.topk(min(k, len(patches)), largest=False)
            best, rows = torch.cat([best, values], dim=1), torch.cat([rows, found + first], dim=1)
            best, kept = best.topk(min(k, best.shape[1]), largest=False)
            rows = rows.gather(1, kept)
            first += len(patches)
        return rows.cpu().numpy()

    def _unfolded(self, images: np.ndarray) -> torch.Tensor:
        grid = self._corpus.store.grid
        size, step = grid.patch_size, grid.stride // grid.factor
        pixels = self._on_device(images)
        return pixels.unfold(1, size, step).unfold(2, size, step).reshape(-1, grid.dimension)

    def _on_device(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels).to(self._device).float()


class SklearnPeer(Peer):
    """Brute force of scikit-learn."""

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        return round(1.3 * corpus.num_bytes)

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        # It takes seconds to import.
        from sklearn.neighbors import NearestNeighbors

        version = importlib.metadata.version("scikit-learn")
        self.about = f"scikit-learn {version} NearestNeighbors, brute force, float32"
        self._corpus = corpus
        self._neighbours = NearestNeighbors(algorithm="brute").fit(corpus.whole())

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        del breadth
        flat, most = self._corpus.vectors(queries), min(k, self._neighbours.n_samples_fit_)
        return np.asarray(self._neighbours.kneighbors(flat, most, return_distance=False))


class FaissPeer(Peer):
    """An index of FAISS on the processor, over vectors of a patch's own length."""

    copies = 2
    """An index that grows holds the old and the new vectors while it copies them."""

    def factory(self, corpus: Corpus) -> str:
        """Returns FAISS's name of the index."""
        del corpus
        return "Flat"

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        return self.copies * corpus.num_bytes

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        faiss, factory = import_faiss(), self.factory(corpus)
        self.about = f"FAISS {factory}"
        self._corpus = corpus
        self._index = faiss.index_factory(corpus.dimension, factory)
        if not self._index.is_trained:
            self._index.train(corpus.sample(TRAINING_PATCHES))
        for block in corpus.blocks():
            self._index.add(block)

    def widen(self, index: Any, breadth: int) -> None:
        """Sets how thoroughly to search."""

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        self.widen(self._index, breadth)
        return np.asarray(self._index.search(self._corpus.vectors(queries), k)[1])


class IvfPeer(FaissPeer):
    """Lists of whole vectors; breadth is lists."""

    breadths: tuple[int, ...] = (16, 64)

    def factory(self, corpus: Corpus) -> str:
        """See :class:`FaissPeer`."""
        return f"IVF{num_lists(corpus.num_patches)},Flat"

    def widen(self, index: Any, breadth: int) -> None:
        """See :class:`FaissPeer`."""
        import_faiss().extract_index_ivf(index).nprobe = breadth


class IvfPqPeer(IvfPeer):
    """Components, lists and codes of FAISS's own, as the store's index has, but no re-ranking."""

    breadths = (64,)

    def __init__(self, components: int) -> None:
        self._components = components

    def factory(self, corpus: Corpus) -> str:
        """See :class:`FaissPeer`."""
        return pca_ivf_pq(self._components, corpus.num_patches)

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        sample = 2 * 4 * TRAINING_PATCHES * corpus.dimension
        return min(sample, 2 * corpus.num_bytes) + self.copies * corpus.num_patches * 40


class HnswPeer(FaissPeer):
    """A graph of neighbours over whole vectors."""

    breadths = (64, 256)

    def refusal(self, corpus: Corpus) -> str | None:
        """See :class:`Peer`."""
        return too_many(corpus)

    def factory(self, corpus: Corpus) -> str:
        """See :class:`FaissPeer`."""
        del corpus
        return "HNSW32,Flat"

    def widen(self, index: Any, breadth: int) -> None:
        """See :class:`FaissPeer`."""
        index.hnsw.efSearch = breadth


class RankedPeer(Peer):
    """Another peer's search by components, whose candidates are compared in whole numbers.

    Breadth is how many candidates there are; the other peer searches as thoroughly as it does.
    """

    breadths = (100, 300)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def refusal(self, corpus: Corpus) -> str | None:
        """See :class:`Peer`."""
        return self._peer.refusal(by_components(corpus))

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        return self._peer.needed_bytes(by_components(corpus))

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        self._corpus, few = corpus, by_components(corpus)
        self._peer.build(few)
        breadth = self._peer.breadths[-1]
        self.about = f"{few.dimension} components, {self._peer.about}, {breadth} to search"

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        most = min(max(breadth, k), self._corpus.num_patches)
        rows = self._peer.search(queries, most, self._peer.breadths[-1])
        ids = self._corpus.ids(rows)
        found = nearest_candidates(PatchSums(self._corpus.store), queries, ids, k)
        return self._corpus.rows(found.table(len(queries), k)[1])


def by_components(corpus: Corpus) -> Components:
    """Returns the patches of a corpus by their components."""
    return Components(corpus.store, corpus.numbers, corpus.deadline)


def num_lists(num_patches: int) -> int:
    """Returns how many lists an index has that FAISS trains without a warning."""
    trained = min(num_patches, TRAINING_PATCHES) // _PATCHES_PER_LIST
    return max(1, min(_MOST_LISTS, round(4 * math.sqrt(num_patches)), trained))


def pca_ivf_pq(components: int, num_patches: int) -> str:
    """Returns FAISS's name of an index that compresses principal components."""
    bytes_of_code = math.gcd(components, _CODE_BYTES)
    return f"PCA{components},IVF{num_lists(num_patches)},PQ{bytes_of_code}"


def make_peers(device: str, components: int) -> dict[str, Peer]:
    """Returns all peers by name."""
    graphs: dict[str, type[FaissPeer | LibraryPeer]] = {
        "hnsw": HnswPeer,
        "hnswlib": HnswlibPeer,
        "usearch": UsearchPeer,
        "nndescent": NNDescentPeer,
        "scann": ScannPeer,
        "svs": SvsPeer,
    }
    return {
        "matrix": MatrixPeer(device),
        "flat": FaissPeer(),
        "sklearn": SklearnPeer(),
        "ivf": IvfPeer(),
        "ivfpq": IvfPqPeer(components),
        **{name: kind() for name, kind in graphs.items()},
        "leanvec": LeanVecPeer(),
        **{f"{name}-pca": RankedPeer(kind()) for name, kind in graphs.items()},
    }
