"""Nearest patches of a store: one interface, several engines."""

import logging

import torch

from patchcollide.config import Config
from patchcollide.errors import ConfigError, StoreError
from patchcollide.io.locks import locked
from patchcollide.parallel import LOCAL, Backend
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.searcher import Searcher, SearchResult
from patchcollide.store.blocks import Blocks
from patchcollide.store.descriptors import Basis, fit_basis
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_files import lacks_sums, make_sums

__all__ = ["SearchResult", "Searcher", "open_searcher"]

logger = logging.getLogger(__name__)

# Of the components that the index has: more cost more than the comparisons they save.
_BOUND_COMPONENTS = 32
# That these are found of, where the index has none of blocks.
_BOUND_PATCHES = 5000


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
    _keep_sums(store)
    basis = _bound_basis(store, guide.basis)
    return ExhaustiveSearcher(store, basis, guide, device=device, backend=backend)


def _keep_sums(store: PatchStore) -> None:
    """Writes the block sums of a store of before, unless it is in use or cannot be written to."""
    if not lacks_sums(store):
        return
    try:
        with locked(store.path):
            make_sums(store)
    except (StoreError, OSError) as error:
        logger.info("%s Going on without block sums, which takes longer.", error)


def _bound_basis(store: PatchStore, basis: Basis) -> Basis:
    """Returns what bounds distances: the index's components, or of those before own ones."""
    blocks = Blocks.of(store.grid)
    if not blocks or basis.blocks:
        return basis.first(_BOUND_COMPONENTS)
    count = min(_BOUND_COMPONENTS, blocks.width)
    return fit_basis(store, num_components=count, num_patches=_BOUND_PATCHES, seed=0)


def _device(wanted: str) -> str:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "retrieval.device = cuda, but PyTorch finds no GPU here. Set retrieval.device = auto "
            "or cpu."
        )
    return "cuda" if available and wanted != "cpu" else "cpu"
