"""How fast the engines pass over a store, measured on a few images of the user's own."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.config import Config
from patchcollide.geometry import PatchGrid
from patchcollide.parallel import map_in_threads, one_thread_each
from patchcollide.retrieval import exhaustive
from patchcollide.retrieval.block_bounds import COMPONENTS
from patchcollide.retrieval.planning.durations import Line
from patchcollide.retrieval.scan import IMAGES_AT_ONCE, Scan
from patchcollide.retrieval.searcher import NO_DISTANCE, Pairs
from patchcollide.shapes import Int64, UInt8, ndarray
from patchcollide.store.blocks import Blocks, BlockSums
from patchcollide.store.descriptors import Basis
from patchcollide.store.sums_files import checksums

_BASIS_PATCHES = 1024
_LEAST_NEIGHBOURS = 10


@dataclass(frozen=True)
class Sample:
    """Some of the user's images, and patches of another as queries.

    Attributes:
        images: As they would be stored.
        queries: Patches of an image that is not among them, unless it is the only one.
        grid: Their geometry.
        seconds: What reading one took.
    """

    images: UInt8[ndarray, "n side side 3"]
    queries: UInt8[ndarray, "queries size size 3"]
    grid: PatchGrid
    seconds: float


def scan_lines(sample: Sample, config: Config, num_images: int, device: str) -> tuple[Line, Line]:
    """Measures both engines that pass over the store, with all queries and with a quarter."""
    k, sums = config.retrieval.k, sums_of(sample)
    shard_images = min(num_images, config.store.images_per_shard)
    growth = max(num_images / len(sample.images), 1.0)
    bounds = expected_bounds(_nearest(sample, k), growth)
    basis = rough_basis(sample, min(config.index.components, COMPONENTS))
    lines = []
    for guide in (None, basis):
        points = []
        for count in (max(len(sample.queries) // 4, 1), len(sample.queries)):
            scan = Scan(sample.queries[:count], sample.grid, k, guide, device=device)
            images = Pass(scan, sample.images, sums, bounds[:count], shard_images)
            seconds = shortest_seconds(images.run)
            points.append((count, seconds / (images.count * sample.grid.num_positions)))
        lines.append(Line.through(*points))
    return lines[0], lines[1]


def expected_bounds(
    squared_distances: Int64[ndarray, "queries k"], growth: float
) -> Int64[ndarray, "queries"]:
    """Returns the squared distances to the last neighbours among ``growth`` times the patches.

    Around a point of ``m``-dimensional data the number of neighbours grows as the ``m``-th power of
    the distance; ``m`` follows from the distances of the neighbours there are.

    Source:
        Levina and Bickel, "Maximum Likelihood Estimation of Intrinsic Dimension", NeurIPS 2004,
        with the mean of inverses as MacKay and Ghahramani corrected it.
    """
    last = squared_distances[:, -1]
    inside = np.maximum(squared_distances[:, :-1], 1)
    # Half the logarithm of a square is that of the distance.
    inverse = (
        float(np.mean(np.log(np.maximum(last, 1)[:, None] / inside)) / 2) if inside.size else 0
    )
    return np.ceil(last * growth ** (-2 * inverse)).astype(np.int64)


@dataclass(frozen=True)
class Pass:
    """A pass over as many images as keep all cores busy, as the engines pass over a shard.

    Attributes:
        scan: The queries.
        images: Taken again and again.
        sums: Those of their blocks, as they are kept beside a store.
        bounds: Squared distances that are known.
        shard_images: How many images a shard of the store has.
    """

    scan: Scan
    images: UInt8[ndarray, "n side side 3"]
    sums: BlockSums | None
    bounds: Int64[ndarray, "queries"]
    shard_images: int

    @property
    def count(self) -> int:
        """How many images it passes over; each core has as much to do."""
        cores = os.cpu_count() or 1
        return -(-len(self.images) // (self._at_once * cores)) * cores * self._at_once

    @property
    def _at_once(self) -> int:
        if not self.scan.takes_sums:
            return IMAGES_AT_ONCE
        return exhaustive.images_at_once(self.scan, self.shard_images)

    def run(self) -> None:
        """Passes over them once."""
        with one_thread_each():
            list(map_in_threads(self.block, range(0, self.count, self._at_once)))

    def block(self, start: int) -> Pairs:
        """Returns the pairs of the images from one on that a thread takes at once."""
        numbers = np.arange(start, start + self._at_once)
        places = numbers % len(self.images)
        if self.sums and self.scan.takes_sums:
            few = self.sums[places]
            # What is read is compared with its checksums.
            checksums(few.sums, few.norms)
            return self.scan.block_of_sums(
                few, numbers, self.bounds, lambda chosen: self.images[places[chosen]]
            )
        norms = self.sums.norms[places] if self.sums else None
        return self.scan.block(self.images[places], numbers, self.bounds, norms)


def _nearest(sample: Sample, k: int) -> np.ndarray:
    """Returns the squared distances of each query to its nearest patches of the sample."""
    k = min(max(k, _LEAST_NEIGHBOURS), len(sample.images) * sample.grid.num_positions)
    scan = Scan(sample.queries, sample.grid, k)
    none = np.full(len(sample.queries), NO_DISTANCE)
    found = scan.block(sample.images, np.arange(len(sample.images)), none)
    distances, _ = found.nearest(k).table(len(sample.queries), k)
    return distances


def rough_basis(sample: Sample, num_components: int) -> Basis:
    """Returns principal components of a few patches, good enough to see how much they filter.

    They are constant on blocks where an index's are.
    """
    patches, blocks = some_patches(sample, _BASIS_PATCHES), Blocks.of(sample.grid)
    if blocks and num_components > blocks.width:
        blocks = None
    rows = blocks.sums_of_patches(patches) if blocks else patches
    flat = torch.from_numpy(rows).flatten(1).float()
    # Seeded noise makes up for patches that have fewer dimensions than components are wanted.
    noise = np.random.default_rng(0).standard_normal(flat.shape, dtype=np.float32)
    flat = flat - flat.mean(dim=0) + 0.01 * torch.from_numpy(noise)
    wanted = min(num_components, flat.shape[1])
    fitted = min(wanted, len(flat))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        components = torch.svd_lowrank(flat, q=fitted, niter=2)[2].T.numpy()
    rest = np.random.default_rng(1).standard_normal((wanted - fitted, flat.shape[1]))
    components = np.concatenate([components, rest])
    largest = np.abs(components).max(axis=1, keepdims=True)
    filters = np.rint(127 * components / largest).astype(np.int8)
    wide = filters.astype(np.float64)
    gram = (blocks.side**2 if blocks else 1) * (wide @ wide.T)
    transform = np.linalg.inv(np.linalg.cholesky(gram)).astype(np.float32)
    filters = blocks.spread(filters) if blocks else filters
    return Basis(filters, transform, variance_share=1.0, blocks=blocks)


def sums_of(sample: Sample) -> BlockSums | None:
    """Returns what is kept beside a store of the sampled images; None if their grid has none."""
    blocks = Blocks.of(sample.grid)
    return blocks.summed(sample.images) if blocks else None


def some_patches(sample: Sample, count: int) -> np.ndarray:
    """Copies patches in random order, as a store's are."""
    patches = sample.grid.patches(sample.images)
    rng = np.random.default_rng(0)
    places = (rng.integers(0, length, count) for length in patches.shape[:3])
    return np.asarray(patches[tuple(places)])


def shortest_seconds(function: Callable[[], object]) -> float:
    """Returns the shortest time of three: the first call makes what later ones find."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
