"""Nearest patches of a store: one interface, several engines."""

from patchcollide.config import Config
from patchcollide.search.ann import open_index
from patchcollide.search.exact import ExactSearcher
from patchcollide.search.searcher import Searcher, SearchResult
from patchcollide.store import PatchStore

__all__ = ["SearchResult", "Searcher", "open_searcher"]


def open_searcher(config: Config, store: PatchStore) -> Searcher:
    """Opens the engine that ``retrieval.engine`` names.

    Raises:
        IndexMismatchError: If the engine is ``ann`` and the store has no index of its own.
        MissingLibraryError: If the engine is ``ann`` and FAISS is not installed.
    """
    if config.retrieval.engine == "exact":
        return ExactSearcher(store)
    return open_index(store, config.index)
