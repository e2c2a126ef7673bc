"""Searches of libraries that need not be installed: graphs of neighbours, and ScaNN's trees."""

import importlib
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_corpus import TRAINING_PATCHES, Corpus, Peer

_MOST_GRAPH_VALUES = 200_000 * 3072


class LibraryPeer(Peer):
    """A search by a library that need not be installed.

    Attributes:
        module: What is imported.
        library: What is installed.
        copies: How often it holds the vectors, of the smallest type it takes, while it builds.
    """

    module: str
    library: str
    copies = 1.5

    def refusal(self, corpus: Corpus) -> str | None:
        """See :class:`Peer`."""
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            return f"cannot be loaded ({error}): `pip install {self.library}`"
        return too_many(corpus)

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`."""
        return round(self.copies * corpus.num_bytes)

    def build(self, corpus: Corpus) -> None:
        """See :class:`Peer`."""
        self._corpus = corpus
        self._library = importlib.import_module(self.module)
        version = importlib.metadata.version(self.library)
        self.about = f"{self.library} {version}, {self.fill(self._library, corpus)}"

    def fill(self, library: Any, corpus: Corpus) -> str:
        """Builds the index; returns its settings."""
        raise NotImplementedError


class HnswlibPeer(LibraryPeer):
    """The graph of hnswlib."""

    module = library = "hnswlib"
    breadths = (64, 256)

    def fill(self, library: Any, corpus: Corpus) -> str:
        """See :class:`LibraryPeer`."""
        self._index = library.Index(space="l2", dim=corpus.dimension)
        self._index.init_index(
            max_elements=corpus.num_patches, M=16, ef_construction=200, random_seed=0
        )
        for block in corpus.blocks():
            self._index.add_items(block)
        return "float32, 16 links, breadth 200 to build"

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        self._index.set_ef(max(breadth, k))
        most = min(k, self._corpus.num_patches)
        found, _ = self._index.knn_query(self._corpus.vectors(queries), k=most)
        return np.asarray(found).astype(np.int64)


class UsearchPeer(LibraryPeer):
    """The graph of Unum's USearch, with its own settings."""

    module, library = "usearch.index", "usearch"
    breadths = (64, 256)

    def needed_bytes(self, corpus: Corpus) -> int:
        """See :class:`Peer`: of bytes it makes no floats."""
        return round(self.copies * corpus.num_bytes / (4 if corpus.dtype is np.uint8 else 1))

    def fill(self, library: Any, corpus: Corpus) -> str:
        """See :class:`LibraryPeer`."""
        kind = "i8" if corpus.dtype is np.uint8 else "f32"
        self._index = library.Index(ndim=corpus.dimension, metric="l2sq", dtype=kind)
        first = 0
        for block in corpus.blocks():
            keys = np.arange(first, first + len(block))
            self._index.add(keys, self._values(block))
            first += len(block)
        links, breadth = self._index.connectivity, self._index.expansion_add
        return f"{kind}, {links} links, breadth {breadth} to build"

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        self._index.expansion_search = breadth
        vectors = self._corpus.vectors(queries)
        found = self._index.search(self._values(vectors), k)
        rows = np.asarray(found.keys).astype(np.int64).reshape(len(vectors), -1)
        counts = np.asarray(found.counts).reshape(len(vectors), 1)
        return np.where(np.arange(rows.shape[1]) < counts, rows, -1)

    def _values(self, vectors: np.ndarray) -> np.ndarray:
        # It takes uint8 for bits; differences are the same when all values are 128 less.
        if self._corpus.dtype is np.uint8:
            return (vectors - 128).astype(np.int8)
        return vectors


class NNDescentPeer(LibraryPeer):
    """The graph of PyNNDescent, with its own settings; a breadth is a hundred times its epsilon."""

    module = library = "pynndescent"
    breadths = (10, 30)
    copies = 2.5

    def fill(self, library: Any, corpus: Corpus) -> str:
        """See :class:`LibraryPeer`."""
        self._index = library.NNDescent(corpus.whole(), n_neighbors=30, random_state=0)
        self._index.prepare()
        return "float32, 30 neighbours, breadth is 100 epsilon"

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        vectors = self._corpus.vectors(queries)
        return np.asarray(self._index.query(vectors, k=k, epsilon=breadth / 100)[0]).astype(
            np.int64
        )


class ScannPeer(LibraryPeer):
    """Google's ScaNN: lists, codes of four bits, whole vectors for the last; breadth is lists."""

    module = library = "scann"
    breadths = (32, 128)
    copies = 2.5

    def fill(self, library: Any, corpus: Corpus) -> str:
        """See :class:`LibraryPeer`."""
        lists = max(1, round(corpus.num_patches**0.5))
        # It reads the vectors where they are, and does not keep them.
        self._vectors = corpus.whole()
        builder = library.scann_ops_pybind.builder(self._vectors, 10, "squared_l2")
        builder.tree(lists, min(lists, 32), training_sample_size=TRAINING_PATCHES)
        self._index = (
            builder.score_ah(2, training_sample_size=TRAINING_PATCHES).reorder(300).build()
        )
        return f"{lists} lists, 4 bits for 2 values, 300 candidates, breadth is lists"

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        rows, _ = self._index.search_batched_parallel(
            self._corpus.vectors(queries), k, max(300, k), breadth, batch_size=16
        )
        return np.asarray(rows).astype(np.int64)


class SvsPeer(LibraryPeer):
    """The graph of Intel's Scalable Vector Search, over values of the smallest type."""

    module, library = "svs", "scalable-vs"
    breadths = (64, 256)
    copies = 2.5

    def fill(self, library: Any, corpus: Corpus) -> str:
        """See :class:`LibraryPeer`."""
        self._index = self.graph(library, corpus.whole(corpus.dtype))
        return f"{np.dtype(corpus.dtype).name}, 32 links, breadth 200 to build"

    def graph(self, library: Any, vectors: Any) -> Any:
        """Builds a graph of vectors, or of what loads them."""
        settings = library.VamanaBuildParameters(graph_max_degree=32, window_size=200)
        cores = len(os.sched_getaffinity(0))
        return library.Vamana.build(settings, vectors, library.DistanceType.L2, num_threads=cores)

    def vectors(self, queries: np.ndarray) -> np.ndarray:
        """Returns queries as the index takes them."""
        return self._corpus.vectors(queries).astype(self._corpus.dtype)

    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """See :class:`Peer`."""
        self._index.search_window_size = max(breadth, k)
        return np.asarray(self._index.search(self.vectors(queries), k)[0]).astype(np.int64)


class LeanVecPeer(SvsPeer):
    """The same over vectors that it shortens itself and compresses to bytes."""

    def fill(self, library: Any, corpus: Corpus) -> str:
        """See :class:`LibraryPeer`: it reads vectors from a file only."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "patches.fvecs"
            with path.open("wb") as file:
                for block in corpus.blocks():
                    rows = np.empty((len(block), 1 + corpus.dimension), np.float32)
                    rows[:, 0].view(np.int32)[:] = corpus.dimension
                    rows[:, 1:] = block
                    file.write(rows.data)
            loader = library.VectorDataLoader(str(path), library.DataType.float32)
            short = min(128, corpus.dimension)
            self._index = self.graph(library, library.LeanVecLoader(loader, short))
        return f"LeanVec, {short} values of 8 bits first, 32 links, breadth 200 to build"

    def vectors(self, queries: np.ndarray) -> np.ndarray:
        """See :class:`SvsPeer`."""
        return self._corpus.vectors(queries)


def too_many(corpus: Corpus) -> str | None:
    """Says whether a graph over the patches is not to be tried."""
    if corpus.num_patches * corpus.dimension <= _MOST_GRAPH_VALUES:
        return None
    most = _MOST_GRAPH_VALUES // corpus.dimension
    return f"{corpus.num_patches} patches, over {most}: building takes hours"
