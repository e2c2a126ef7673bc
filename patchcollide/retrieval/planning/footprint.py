"""What a store, its index and the searches in them cost in bytes: formulas, nothing is measured.

Peaks are resident memory. Pages of a store or an index that are only mapped are not counted: the
operating system takes them back when others need the memory.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property

from patchcollide.config import Config
from patchcollide.retrieval import block_bounds, candidates, exhaustive, scan, shared_images
from patchcollide.retrieval.ann import EFFORTS, num_shortlisted
from patchcollide.store import descriptors, faiss_library, index_builder
from patchcollide.store.blocks import Blocks
from patchcollide.store.sums_files import sums_bytes

STAGES = ("extraction", "basis", "training", "filling", "merging")
ENGINES = ("exact", "certified", "ann")

# A process with PyTorch and FAISS loaded, and what it keeps of the memory of earlier stages.
_PROCESS = 750_000_000
# An image's file, name, size and time while a store is written; its name and digests when opened.
_LISTED_IMAGE = 1600
_MAPPED_FILE = 2000
_OPENED_IMAGE = 500
_KEPT_IMAGE = 400
# A decoded picture of eight million pixels in each thread.
_DECODED_IMAGE = 32_000_000
# Lists grow by doubling, most of what is reserved and never written takes no memory; a single
# block is copied as it grows.
_GROWTH = {"flat": 2.0, "ivf": 1.5}

# Vectors that FAISS adds to an index at once.
_ADDED_AT_ONCE = 65_536
# Beside a centre's links to others, some to find a way in.
_WAY_IN = 24


@dataclass(frozen=True)
class Workload:
    """A store of so many images and the index it gets.

    Attributes:
        config: The settings.
        num_images: How many images the store takes.
        cores: How many threads work at once.
    """

    config: Config
    num_images: int
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)

    @cached_property
    def num_patches(self) -> int:
        """Patches of all images."""
        return self.num_images * self.config.grid.num_positions

    @cached_property
    def factory(self) -> str:
        """FAISS's name of the index."""
        return index_builder.index_factory(self.config.index, self.num_patches)

    @property
    def lists(self) -> int:
        """Inverted lists of the index; 0 if it has none."""
        return faiss_library.num_lists(self.factory)

    @property
    def has_graph(self) -> bool:
        """Whether a graph finds the nearest list."""
        return faiss_library.has_graph(self.factory)

    @property
    def quantisers(self) -> int:
        """Bytes of a compressed descriptor; 0 if they are not compressed."""
        return faiss_library.num_quantisers(self.factory)

    @property
    def trained_on(self) -> int:
        """Patches the index is trained on; FAISS's k-means takes 256 a list at most."""
        return min(self.config.index.training_patches, self.num_patches)

    @property
    def num_shards(self) -> int:
        """Files of the store, and parts of the index."""
        return -(-self.num_images // self.config.store.images_per_shard)

    @property
    def shard_images(self) -> int:
        """Images of the largest shard."""
        return min(self.num_images, self.config.store.images_per_shard)

    @property
    def image_bytes(self) -> int:
        """Pixels of an image as it is stored."""
        return 3 * self.config.images.size_px**2

    @property
    def store_bytes(self) -> int:
        """Bytes of the store on disk."""
        return self.num_images * (self.image_bytes + _KEPT_IMAGE)

    @property
    def sums_bytes(self) -> int:
        """Bytes on disk of the sums of the images' blocks, beside the store."""
        return sums_bytes(self.config.grid, self.num_images)

    @property
    def index_bytes(self) -> int:
        """Bytes of the index on disk."""
        return self.num_patches * self._entry_bytes + self.begun_bytes

    @property
    def begun_bytes(self) -> int:
        """Bytes of the trained, empty index: centres of lists, and codewords if it compresses."""
        components = self.config.index.components
        codewords = 4 * faiss_library.CODEWORDS * components if self.quantisers else 0
        # Twice as many links of four bytes as a graph has neighbours.
        graph = 8 * index_builder.GRAPH_DEGREE + _WAY_IN if self.has_graph else 0
        return self.lists * (4 * components + 8 + graph) + codewords

    @property
    def part_bytes(self) -> int:
        """Bytes of the index of one shard."""
        positions = self.config.grid.num_positions
        return self.shard_images * positions * self._entry_bytes + self.begun_bytes

    @property
    def indexing_bytes(self) -> int:
        """Bytes on disk while the index is merged: parts and whole lie beside each other."""
        return 2 * self.index_bytes + self.num_shards * self.begun_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes on disk while the index is merged, with the store and the sums of its blocks."""
        return self.store_bytes + self.sums_bytes + self.indexing_bytes

    @property
    def table_bytes(self) -> int:
        """Bytes of the products of centres and codewords, which FAISS keeps for each open index."""
        size = 4 * self.lists * self.quantisers * faiss_library.CODEWORDS
        return size if size <= faiss_library.LARGEST_TABLE else 0

    @property
    def _entry_bytes(self) -> int:
        """Bytes of a patch in the index: its code, and a 64-bit identifier."""
        return (self.quantisers or 4 * self.config.index.components) + 8


def stage_bytes(work: Workload) -> dict[str, int]:
    """Returns the peak of memory of each stage of making a store and its index."""
    base = _PROCESS + _LISTED_IMAGE * work.num_images
    peaks = {
        "extraction": work.cores * _DECODED_IMAGE + work.shard_images * work.image_bytes,
        "basis": _basis_bytes(work),
        "training": _training_bytes(work),
        "filling": _filling_bytes(work),
        "merging": _merging_bytes(work),
    }
    return {name: base + peaks[name] for name in STAGES}


def engine_bytes(work: Workload, num_queries: int) -> dict[str, int]:
    """Returns the peak of memory of each search engine."""
    index, grid = work.config.index, work.config.grid
    base = _PROCESS + _OPENED_IMAGE * work.num_images
    exact = _compared_bytes(work, num_queries, exhaustive.IMAGES_AT_ONCE)
    rerank = max(EFFORTS) * index.rerank
    shortlist = num_shortlisted(rerank, work.config.retrieval.k, work.num_patches)
    pairs = max(shortlist, min(candidates.PAIRS_AT_ONCE, candidates.QUERIES_AT_ONCE * shortlist))
    chosen = work.cores * pairs * (3 * grid.dimension + 8 * candidates.QUERIES_AT_ONCE)
    # Images in which something was found, after the candidates.
    images = min(shared_images.IMAGES_AT_ONCE, work.num_images)
    whole = _compared_bytes(work, num_queries, images) + _bounded_bytes(work, num_queries, images)
    ann = work.table_bytes + work.begun_bytes + work.num_patches // 8 + max(chosen, whole)
    bounded = _bounded_bytes(work, num_queries, exhaustive.SUMS_AT_ONCE)
    certified = max(ann, work.table_bytes + exact + bounded)
    sample = min(work.num_images, 2 * exhaustive.SAMPLED_IMAGES) * work.image_bytes
    return {"exact": base + exact + sample, "certified": base + certified, "ann": base + ann}


def _compared_bytes(work: Workload, num_queries: int, images_read: int) -> int:
    """Returns what it takes to compare images, of which each thread reads some at once."""
    grid = work.config.grid
    # Rows of patches, their products with queries and what they are compared with.
    rows = scan.IMAGES_AT_ONCE * grid.num_positions * (2 * grid.dimension + 16 * num_queries)
    return work.cores * (rows + min(work.shard_images, images_read) * work.image_bytes)


def _bounded_bytes(work: Workload, num_queries: int, images_read: int) -> int:
    """Returns what it takes to bound distances, beside the comparisons that are made."""
    components = min(work.config.index.components, block_bounds.COMPONENTS)
    blocks, grid = Blocks.of(work.config.grid), work.config.grid
    if not blocks:
        return work.cores * scan.IMAGES_AT_ONCE * grid.num_positions * 12 * components
    # Rows of two bytes a sum, described in both precisions, and their products with queries.
    row = 2 * blocks.width + 24 * components + 4 * num_queries
    bounded = block_bounds.IMAGES_AT_ONCE * grid.num_positions * row
    read = sums_bytes(grid, min(work.shard_images, images_read))
    return work.cores * (bounded + read)


def _basis_bytes(work: Workload) -> int:
    dimension = work.config.grid.dimension
    count = min(work.config.index.basis_patches, work.num_patches)
    # First patches, as bytes and as floats, with their covariance; then its eigenvectors: LAPACK
    # wants twice their space to work in.
    covariance = 5 * count * dimension + 20 * dimension**2
    eigenvectors = 6 * 8 * dimension**2
    return _sampling_bytes(count, work.num_patches) + max(covariance, eigenvectors)


def _training_bytes(work: Workload) -> int:
    sampling = _sampling_bytes(work.trained_on, work.num_patches)
    if not work.lists:
        return sampling
    length = 4 * work.config.index.components
    described = work.trained_on * length
    block = min(index_builder.PATCHES_AT_ONCE, work.trained_on)
    gathering = described + block * work.config.grid.dimension
    subset = min(work.trained_on, faiss_library.POINTS_PER_CENTRE * work.lists) * length
    clustering = 2 * described + subset
    points = faiss_library.POINTS_PER_CENTRE * faiss_library.CODEWORDS
    encoding = 2 * described + 2 * points * length + work.table_bytes
    compressed = encoding if work.quantisers else 0
    return sampling + work.begun_bytes + max(gathering, clustering, compressed)


def _sampling_bytes(count: int, num_patches: int) -> int:
    # NumPy shuffles a list of all where more than a fiftieth is drawn.
    shuffled = 8 * num_patches if num_patches > 10_000 and count > num_patches // 50 else 0
    return shuffled + 48 * count


def _filling_bytes(work: Workload) -> int:
    grid, length = work.config.grid, 4 * work.config.index.components
    added = min(index_builder.IMAGES_AT_ONCE, work.shard_images)
    described = added * grid.num_positions * 2 * length
    rows = min(descriptors.IMAGES_AT_ONCE, work.shard_images) * grid.num_positions
    rows *= grid.dimension + 2 * length
    encoded = _ADDED_AT_ONCE * (2 * length + 64) if work.lists else 0
    part = int(_growth(work) * work.part_bytes)
    return part + described + rows + encoded


def _merging_bytes(work: Workload) -> int:
    if not work.lists:
        return int(_growth(work) * work.index_bytes) + work.part_bytes
    # Of lists their sizes and one at a time; of the index what is before them, twice; and files.
    of_list = work.index_bytes // work.lists
    return 8 * work.lists + of_list + 2 * work.begun_bytes + _MAPPED_FILE * work.num_shards


def _growth(work: Workload) -> float:
    return _GROWTH["ivf" if work.lists else "flat"]
