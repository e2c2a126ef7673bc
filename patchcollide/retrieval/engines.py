"""Nearest patches of a store: one interface, several engines."""

import logging

import torch

from patchcollide.config import Config
from patchcollide.errors import ConfigError, MissingLibraryError, StoreError
from patchcollide.formats import format_seconds
from patchcollide.io.locks import locked
from patchcollide.parallel import LOCAL, Backend
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.block_bounds import COMPONENTS
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.planning.advice import (
    PATIENCE_SECONDS,
    advised_engine,
    proof_seconds,
)
from patchcollide.retrieval.searcher import Searcher, SearchResult
from patchcollide.store.blocks import Blocks
from patchcollide.store.descriptors import Basis, fit_basis
from patchcollide.store.faiss_library import import_faiss
from patchcollide.store.index_files import found_index
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_making import lacks_sums, make_sums

__all__ = ["SearchResult", "Searcher", "named_engine", "open_searcher", "with_engine"]

logger = logging.getLogger(__name__)

# That the components of a bound are found of, where the index has none of blocks.
_BOUND_PATCHES = 5000


def with_engine(config: Config, store: PatchStore, num_sources: int = 1) -> Config:
    """Returns settings that name an engine: for ``auto`` the one that a plan of the store advises.

    Where there is no index, or no FAISS, that is ``exact``, which needs neither.

    Args:
        config: Section ``retrieval``.
        store: Where patches are looked for.
        num_sources: Images whose patches are looked for at once.

    Raises:
        IndexMismatchError: If the index's ``index.json`` is damaged.
    """
    if config.retrieval.engine != "auto":
        return config
    locations = store.grid.with_stride(config.retrieval.query_stride_px).num_positions
    num_queries = num_sources * locations
    engine = advised_engine(store.num_patches, num_queries)
    obstacle = _obstacle(store) if engine != "exact" else ""
    seconds = proof_seconds(store.num_patches, num_queries)["exact"]
    if obstacle:
        level = logging.WARNING if seconds > PATIENCE_SECONDS else logging.INFO
        told = "%s To compare every patch takes %s or so, on two cores."
        logger.log(level, told, obstacle, format_seconds(seconds))
        engine = "exact"
    logger.info("retrieval.engine = auto takes %s.", engine)
    return named_engine(config, engine)


def named_engine(config: Config, engine: str) -> Config:
    """Returns the settings with another engine."""
    retrieval = config.retrieval.model_copy(update={"engine": engine})
    return config.model_copy(update={"retrieval": retrieval})


def _obstacle(store: PatchStore) -> str:
    """Says why no engine can be had that needs an index; nothing if one can."""
    if found_index(store.path) is None:
        return f"{store.path} has no index: `patchcollide index` on the same images adds it."
    try:
        import_faiss()
    except MissingLibraryError as error:
        return str(error)
    return ""


def open_searcher(config: Config, store: PatchStore, backend: Backend = LOCAL) -> Searcher:
    """Opens the engine that ``retrieval.engine`` names; for ``auto`` that of :func:`with_engine`.

    Raises:
        ConfigError: If ``retrieval.device`` asks for a GPU where there is none.
        IndexMismatchError: If the engine needs an index and the store has none of its own.
        MissingLibraryError: If it needs FAISS, which is not installed.
    """
    config = with_engine(config, store)
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
        return basis.first(COMPONENTS)
    count = min(COMPONENTS, blocks.width)
    return fit_basis(store, num_components=count, num_patches=_BOUND_PATCHES, seed=0)


def _device(wanted: str) -> str:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError(
            "retrieval.device = cuda, but PyTorch finds no GPU here. Set retrieval.device = auto "
            "or cpu."
        )
    return "cuda" if available and wanted != "cpu" else "cpu"
