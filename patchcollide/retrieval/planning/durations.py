"""How long the stages and the searches take, from rates that were measured: formulas only."""

import math
from dataclasses import dataclass

from patchcollide.retrieval import block_bounds, candidates, scan, shared_images
from patchcollide.retrieval.ann import EFFORTS, num_shortlisted
from patchcollide.retrieval.planning.footprint import Workload
from patchcollide.store.blocks import Blocks
from patchcollide.store.faiss_library import (
    CODEWORD_ITERATIONS,
    CODEWORDS,
    LIST_ITERATIONS,
    POINTS_PER_CENTRE,
)

# The shares of queries that `ann` asks with each effort: of twelve sources.
_ASKED = (1.0, 0.27, 0.08)

# To multiply vectors of two values costs as much as of ten.
_LEAST_TERMS = 10

MEASURED_CENTRES = 2048
"""Centres in the graph whose speed is measured; of others it follows."""


@dataclass(frozen=True)
class Line:
    """Seconds a patch that grow with the number of queries.

    Attributes:
        fixed: For a patch whatever the queries.
        per_query: For a patch and each query.
    """

    fixed: float
    per_query: float

    def seconds(self, num_patches: int, num_queries: int) -> float:
        """Returns the seconds for so many patches and queries."""
        return num_patches * (self.fixed + self.per_query * num_queries)

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> "Line":
        """Returns the line through two measurements: queries, and seconds a patch."""
        if few[0] == many[0]:
            return cls(many[1], 0.0)
        # Of a busy machine the longer one may have come out faster.
        slope = max((many[1] - few[1]) / (many[0] - few[0]), 0.0)
        fixed = max(many[1] - slope * many[0], 0.0)
        return cls(fixed, (many[1] - fixed) / many[0])


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, all cores together; with one's own images and settings.

    Attributes:
        images: Decoded, scaled and digested.
        bytes_written: To the disk of the store, and through to it.
        bytes_digested: SHA-256.
        patches_gathered: Copied out of a store in random order.
        described: Multiply-adds of filters with patches, in whole numbers, unfolding included; as
            many are counted where sums of blocks spare most of them.
        multiplied: Multiply-adds of large float32 matrices.
        assigned: Multiply-adds of FAISS while it finds the nearest of many centres.
        graphed: Centres that FAISS puts into a graph.
        linked: Vectors whose nearest centre FAISS finds by that graph.
        coded: Comparisons of FAISS while it finds the nearest of 256 codewords.
        looked_up: Bytes of codes that FAISS compares with a query.
        eigen: Eigenvectors of a matrix of n x n take n cubed by this.
        exact: Of the exact engine.
        certified: Of the certified engine, from sums of blocks where there are some; its
            comparisons included.
    """

    images: float
    bytes_written: float
    bytes_digested: float
    patches_gathered: float
    described: float
    multiplied: float
    assigned: float
    graphed: float
    linked: float
    coded: float
    looked_up: float
    eigen: float
    exact: Line
    certified: Line


@dataclass(frozen=True)
class Accelerator:
    """What a GPU does in a second: constants to estimate from where none can be measured.

    Attributes:
        name: Which card.
        memory_bytes: Its memory.
        multiplied: 8-bit multiply-adds, about a fifth of the data sheet's peak.
        bytes_moved: In its memory, about half of the data sheet's.
        bytes_transferred: From the host's memory.
        launches: Blocks of images that can be started.
    """

    name: str
    memory_bytes: int
    multiplied: float
    bytes_moved: float
    bytes_transferred: float
    launches: float


H100 = Accelerator("H100-class", 80_000_000_000, 2e14, 1.5e12, 2.5e10, 5e3)


def stage_seconds(work: Workload, rates: Rates) -> dict[str, float]:
    """Returns the seconds of each stage of making a store and its index."""
    index, dimension = work.config.index, work.config.grid.dimension
    basis_patches = min(index.basis_patches, work.num_patches)
    digested = work.index_bytes / rates.bytes_digested
    written = work.index_bytes / rates.bytes_written
    tables = work.num_shards * _table_seconds(work, rates)
    return {
        "extraction": work.num_images / rates.images + work.store_bytes / rates.bytes_written,
        "basis": basis_patches / rates.patches_gathered
        + basis_patches * dimension**2 / rates.multiplied
        + dimension**3 / rates.eigen,
        "training": _training_seconds(work, rates),
        "filling": _filling_seconds(work, rates) + written + digested + tables,
        "merging": written + 2 * digested,
    }


def engine_seconds(work: Workload, rates: Rates, num_queries: int) -> dict[str, float]:
    """Returns the seconds of each search engine, for so many queries."""
    ann = _ann_seconds(work, rates, num_queries)
    return {
        "exact": rates.exact.seconds(work.num_patches, num_queries),
        "certified": ann + rates.certified.seconds(work.num_patches, num_queries),
        "ann": ann,
    }


def accelerated_seconds(work: Workload, card: Accelerator, num_queries: int) -> dict[str, float]:
    """Returns an estimate of the seconds of the engines that pass over the store, on a GPU.

    The store crosses from the host once for each search, while the card computes: as 8-bit pixels,
    of which the card makes the patches; for the certified engine as sums of blocks, if there are
    some, two bytes each.
    """
    dimension, blocks = work.config.grid.dimension, Blocks.of(work.config.grid)
    components = min(work.config.index.components, block_bounds.COMPONENTS)
    width = 2 * blocks.width if blocks else dimension
    # Each of the two bytes has filters of its own.
    filters = 2 * components if blocks else components
    crossing = {"exact": work.store_bytes, "certified": work.sums_bytes or work.store_bytes}
    at_once = {"exact": scan.IMAGES_AT_ONCE}
    at_once["certified"] = block_bounds.IMAGES_AT_ONCE if blocks else scan.IMAGES_AT_ONCE
    moved = {"exact": 2 * dimension + 16 * num_queries}
    moved["certified"] = 2 * width + 16 * components + 8 * num_queries
    terms = {"exact": dimension * num_queries}
    terms["certified"] = filters * width + 16 * components * num_queries
    return {
        name: max(
            crossing[name] / card.bytes_transferred,
            work.num_images / at_once[name] / card.launches,
        )
        + work.num_patches * (terms[name] / card.multiplied + moved[name] / card.bytes_moved)
        for name in moved
    }


def _training_seconds(work: Workload, rates: Rates) -> float:
    if not work.lists:
        return 0.0
    gathering = work.trained_on / rates.patches_gathered
    describing = work.trained_on * _describing_terms(work) / rates.described
    points = min(work.trained_on, POINTS_PER_CENTRE * work.lists)
    clustering = LIST_ITERATIONS * points * _assigning_seconds(work, rates)
    if work.has_graph:
        # Each iteration makes its own.
        clustering += LIST_ITERATIONS * work.lists / rates.graphed
    points = min(work.trained_on, POINTS_PER_CENTRE * CODEWORDS)
    coding = CODEWORD_ITERATIONS * work.quantisers * points * CODEWORDS / rates.coded
    return gathering + describing + clustering + coding


def _filling_seconds(work: Workload, rates: Rates) -> float:
    describing = _describing_terms(work) / rates.described
    coding = CODEWORDS * work.config.index.components if work.quantisers else 0
    each = describing + _assigning_seconds(work, rates) + coding / rates.assigned
    return work.num_patches * each


def _assigning_seconds(work: Workload, rates: Rates) -> float:
    """To find the list of a patch; in a graph the steps grow with the logarithm of the lists."""
    if work.has_graph:
        return math.log2(work.lists) / math.log2(MEASURED_CENTRES) / rates.linked
    return work.lists * work.config.index.components / rates.assigned


def _ann_seconds(work: Workload, rates: Rates, num_queries: int) -> float:
    index = work.config.index
    share = min(index.probes / work.lists, 1.0) if work.lists else 1.0
    scanned = share * work.num_patches
    if work.quantisers:
        scanning = scanned * work.quantisers / rates.looked_up
    else:
        scanning = scanned * index.components / rates.assigned
    shortlist = num_shortlisted(index.rerank, work.config.retrieval.k, work.num_patches)
    # Each candidate is compared with all queries of a batch.
    comparing = shortlist * candidates.queries_at_once(shortlist) * rates.exact.per_query
    each = _assigning_seconds(work, rates) + scanning
    each += shortlist / rates.patches_gathered + comparing
    # Of queries that are asked again everything grows: the lists, and the candidates of each.
    efforts = zip(_ASKED, EFFORTS, strict=True)
    asked = num_queries * sum(share * effort for share, effort in efforts)
    found = min(shared_images.MOST_IMAGES, work.num_images, num_queries * work.config.retrieval.k)
    whole = rates.exact.seconds(found * work.config.grid.num_positions, num_queries)
    return _table_seconds(work, rates) + asked * each + whole


def _describing_terms(work: Workload) -> int:
    return work.config.grid.dimension * work.config.index.components


def _table_seconds(work: Workload, rates: Rates) -> float:
    """To multiply centres with codewords, which FAISS does whenever it opens an index."""
    if not work.table_bytes:
        return 0.0
    return work.table_bytes / 4 * _LEAST_TERMS / rates.assigned
