"""The searches people use otherwise, on the same patches as those of `bench_search`.

Each finds rows of a corpus. All but the first keep patches as float32 vectors, or compress them.
"""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from patchcollide.store.faiss_library import import_faiss
from patchcollide.store.reader import PatchStore

_IMAGES_AT_ONCE = 32
_TRAINING_PATCHES = 65_536
_PATCHES_PER_LIST = 39
_MOST_LISTS = 16_384
_CODE_BYTES = 32
_PROBES = 64
_MOST_HNSW_PATCHES = 200_000
_HNSW_BREADTH = 64


@dataclass(frozen=True)
class Corpus:
    """The patches that may be found: those of some images of a store.

    Attributes:
        store: The store.
        numbers: The images.
    """

    store: PatchStore
    numbers: np.ndarray

    @property
    def num_patches(self) -> int:
        """How many patches there are."""
        return len(self.numbers) * self.store.grid.num_positions

    @property
    def num_bytes(self) -> int:
        """Their size as float32 vectors."""
        return 4 * self.num_patches * self.store.grid.dimension

    def images(self) -> Iterator[np.ndarray]:
        """Yields the images in blocks, averaged down where windows are."""
        for start in range(0, len(self.numbers), _IMAGES_AT_ONCE):
            block = [self.store.image(int(n)) for n in self.numbers[start:][:_IMAGES_AT_ONCE]]
            yield self.store.grid.reduce(np.stack(block))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the patches in blocks, as float32 vectors."""
        grid = self.store.grid
        size, step = (grid.patch_size, grid.patch_size), grid.stride // grid.factor
        for images in self.images():
            windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
            patches = np.moveaxis(windows[:, ::step, ::step], 3, -1)
            yield patches.reshape(-1, grid.dimension).astype(np.float32)

    def sample(self, num_patches: int) -> np.ndarray:
        """Returns random patches as float32 vectors."""
        rng = np.random.default_rng(0)
        size = min(num_patches, self.num_patches)
        rows = rng.choice(self.num_patches, size=size, replace=False)
        return self.store.patches(self.ids(rows)).reshape(size, -1).astype(np.float32)

    def ids(self, rows: np.ndarray) -> np.ndarray:
        """Returns the patch identifiers of rows; -1 stays -1."""
        positions = self.store.grid.num_positions
        images, places = np.divmod(rows, positions)
        return np.where(rows < 0, -1, self.numbers[images] * positions + places)


class Peer(ABC):
    """Another search; what it is built from is a corpus.

    Attributes:
        about: What it is, for the result.
    """

    about: str

    def refusal(self, corpus: Corpus) -> str | None:
        """Says why it is not to be tried, whatever the memory."""
        del corpus
        return None

    @abstractmethod
    def needed_bytes(self, corpus: Corpus) -> int:
        """Returns how much memory it takes, roughly."""

    @abstractmethod
    def build(self, corpus: Corpus) -> None:
        """Does all that comes before the first query."""

    @abstractmethod
    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Returns the rows of the ``k`` nearest patches of each query; -1 for none."""


class MatrixPeer(Peer):
    """Norms minus twice a float32 product, block by block; patches are unfolded on the way."""

    def __init__(self, device: str) -> None:
        self.about = f"PyTorch float32 on {device}, unfolded block by block, topk"
        self._device = device

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        block = _IMAGES_AT_ONCE * corpus.store.grid.num_positions
        return 3 * 4 * block * corpus.store.grid.dimension

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        self._corpus = corpus

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See :class:`Peer`."""
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
        self._index = faiss.index_factory(corpus.store.grid.dimension, factory)
        if not self._index.is_trained:
            self._index.train(corpus.sample(_TRAINING_PATCHES))
        for block in corpus.blocks():
            self._index.add(block)
        self.prepare(self._index)

    def prepare(self, index: Any) -> None:
        """Sets how thoroughly to search."""

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See :class:`Peer`."""
        _, rows = self._index.search(queries.reshape(len(queries), -1).astype(np.float32), k)
        return np.asarray(rows)


class IvfPqPeer(FaissPeer):
    """Components, lists and codes of FAISS's own, as the store's index has, but no re-ranking."""

    def __init__(self, components: int) -> None:
        self._components = components

    def factory(self, corpus: Corpus) -> str:
        """See :class:`FaissPeer`."""
        return pca_ivf_pq(self._components, corpus.num_patches)

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        sample = 2 * 4 * _TRAINING_PATCHES * corpus.store.grid.dimension
        return min(sample, 2 * corpus.num_bytes) + self.copies * corpus.num_patches * 40

    def prepare(self, index: Any) -> None:
        """See :class:`FaissPeer`."""
        import_faiss().extract_index_ivf(index).nprobe = _PROBES


class HnswPeer(FaissPeer):
    """A graph of neighbours over whole vectors."""

    def refusal(self, corpus: Corpus) -> str | None:
        """See :class:`Peer`."""
        return too_many(corpus)

    def factory(self, corpus: Corpus) -> str:
        """See :class:`FaissPeer`."""
        del corpus
        return "HNSW32,Flat"

    def prepare(self, index: Any) -> None:
        """See :class:`FaissPeer`."""
        index.hnsw.efSearch = _HNSW_BREADTH


class LibraryPeer(Peer):
    """A graph of neighbours over whole vectors, by a library that need not be installed.

    Attributes:
        library: Its name, to import and to install.
        copies: How often it holds the vectors while it builds.
    """

    library: str
    copies = 1.5

    def refusal(self, corpus: Corpus) -> str | None:
        """See :class:`Peer`."""
        try:
            importlib.import_module(self.library)
        except ImportError as error:
            return f"cannot be loaded ({error}): `pip install {self.library}`"
        return too_many(corpus)

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        return round(self.copies * corpus.num_bytes)


class UsearchPeer(LibraryPeer):
    """The graph of Unum's USearch, with its own settings."""

    library = "usearch"

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        library = importlib.import_module("usearch.index")
        dimension = corpus.store.grid.dimension
        self._index = library.Index(ndim=dimension, metric="l2sq", dtype="f32")
        self.about = (
            f"USearch float32, {self._index.connectivity} links, breadth "
            f"{self._index.expansion_add} to build, {self._index.expansion_search} to search"
        )
        first = 0
        for block in corpus.blocks():
            self._index.add(np.arange(first, first + len(block)), block)
            first += len(block)

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See :class:`Peer`."""
        flat = queries.reshape(len(queries), -1).astype(np.float32)
        found = self._index.search(flat, k)
        rows = np.asarray(found.keys).astype(np.int64).reshape(len(flat), -1)
        counts = np.asarray(found.counts).reshape(len(flat), 1)
        return np.where(np.arange(rows.shape[1]) < counts, rows, -1)


class NNDescentPeer(LibraryPeer):
    """The graph of PyNNDescent, with its own settings."""

    library = "pynndescent"
    about = "PyNNDescent float32, 30 neighbours, epsilon 0.1"
    copies = 2.5

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        library = importlib.import_module(self.library)
        self._index = library.NNDescent(whole(corpus), n_neighbors=30, random_state=0)
        self._index.prepare()

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See :class:`Peer`."""
        flat = queries.reshape(len(queries), -1).astype(np.float32)
        return np.asarray(self._index.query(flat, k=k, epsilon=0.1)[0]).astype(np.int64)


class SklearnPeer(Peer):
    """Brute force of scikit-learn."""

    about = "scikit-learn NearestNeighbors, brute force, float32"

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        return round(1.3 * corpus.num_bytes)

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        # It takes seconds to import.
        from sklearn.neighbors import NearestNeighbors

        self._neighbours = NearestNeighbors(algorithm="brute").fit(whole(corpus))

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        """See :class:`Peer`."""
        flat = queries.reshape(len(queries), -1).astype(np.float32)
        most = min(k, self._neighbours.n_samples_fit_)
        return np.asarray(self._neighbours.kneighbors(flat, most, return_distance=False))


def whole(corpus: Corpus) -> np.ndarray:
    """Returns all patches as float32 vectors."""
    every = np.empty((corpus.num_patches, corpus.store.grid.dimension), np.float32)
    first = 0
    for block in corpus.blocks():
        every[first : first + len(block)] = block
        first += len(block)
    return every


def too_many(corpus: Corpus) -> str | None:
    """Says whether a graph over the patches is not to be tried."""
    if corpus.num_patches <= _MOST_HNSW_PATCHES:
        return None
    return f"{corpus.num_patches} patches, over {_MOST_HNSW_PATCHES}: building takes hours"


def pca_ivf_pq(components: int, num_patches: int) -> str:
    """Returns FAISS's name of an index that compresses principal components."""
    lists = min(num_patches, _TRAINING_PATCHES) // _PATCHES_PER_LIST
    lists = max(1, min(_MOST_LISTS, round(4 * num_patches**0.5), lists))
    return f"PCA{components},IVF{lists},PQ{math.gcd(components, _CODE_BYTES)}"


def make_peers(device: str, components: int) -> dict[str, Peer]:
    """Returns all peers by name."""
    return {
        "matrix": MatrixPeer(device),
        "flat": FaissPeer(),
        "ivfpq": IvfPqPeer(components),
        "hnsw": HnswPeer(),
        "usearch": UsearchPeer(),
        "nndescent": NNDescentPeer(),
        "sklearn": SklearnPeer(),
    }
