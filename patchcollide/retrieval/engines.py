"""Nearest patches of a store: one interface, several engines."""

import torch

from patchcollide.config import Config
from patchcollide.errors import ConfigError
from patchcollide.parallel import LOCAL, Backend
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.searcher import Searcher, SearchResult
from patchcollide.store.reader import PatchStore

__all__ = ["SearchResult", "Searcher", "open_searcher"]

# Of the components that the index has: more cost more than the comparisons they save.
_BOUND_COMPONENTS = 32


def open_searcher(config: Config, store: PatchStore, backend: Backend = LOCAL) -> Searcher:
    """Opens the engine that ``retrieval.engine`` names.

    Raises:
        ConfigError: If ``retrieval.device`` asks for a GPU where there is none.
        IndexMismatchError: If the engine needs an index and the store has none of its own.
        MissingLibraryError: If it needs FAISS, which is not installed.
    """
    if config.retrieval.engine == "ann":
        return open_index(store, config.index)
    device = _device(config.retrieval.device)
    if config.retrieval.engine == "exact":
        return ExhaustiveSearcher(store, device=device, backend=backend)
    guide = open_index(store, config.index)
    basis = guide.basis.first(_BOUND_COMPONENTS)
    return ExhaustiveSearcher(store, basis, guide, device=device, backend=backend)


def _device(wanted: str) -> str:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "retrieval.device = cuda, but PyTorch finds no GPU here. Set retrieval.device = auto "
            "or cpu."
        )
    return "cuda" if available and wanted != "cpu" else "cpu"
