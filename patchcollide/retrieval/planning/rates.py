"""This machine: what it is, and what its disk, FAISS and matrices do in a second.

That is measured in some seconds, on a sample of the user's own images.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.geometry import PatchGrid
from patchcollide.images.listings import SourceImage
from patchcollide.images.pictures import read_image
from patchcollide.images.thumbnails import thumbnail
from patchcollide.io.provenance import array_digest
from patchcollide.parallel import map_in_threads, one_thread_each
from patchcollide.randomness import keyed_generator
from patchcollide.retrieval.planning.durations import MEASURED_CENTRES, Line, Rates
from patchcollide.retrieval.scan import IMAGES_AT_ONCE, Scan
from patchcollide.retrieval.searcher import NO_DISTANCE
from patchcollide.shapes import Float32, Int64, UInt8, ndarray
from patchcollide.store.descriptors import Basis
from patchcollide.store.faiss_library import CODEWORDS, import_faiss
from patchcollide.store.index_builder import GRAPH_DEGREE, code_bytes

_SAMPLED_IMAGES = 33

_BASIS_PATCHES = 1024

_GATHERED_PATCHES = 8192

_LEAST_NEIGHBOURS = 10

_WRITTEN_BYTES = 64 << 20

_MATRIX_SIDE = 384

_CENTRES = 4096

_CODED = 65_536

_QUERIES = 32

_NEIGHBOURS = 10


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


def measure_rates(
    config: Config,
    files: Sequence[SourceImage],
    folder: Path,
    num_queries: int,
    num_images: int,
    device: str = "cpu",
) -> Rates:
    """Measures on a seeded sample of ``files``.

    Args:
        config: The settings whose work is to be planned.
        files: The user's images.
        folder: Where the store would lie; a file is written there and removed.
        num_queries: How many queries are searched at once.
        num_images: How many images the store would hold: the more, the nearer the neighbours.
        device: Where the passes over the store compute.

    Raises:
        ImageError: If none of the sampled images can be read.
        MissingLibraryError: If FAISS is not installed.
    """
    sample = _read_sample(config, files, num_queries)
    basis = _rough_basis(sample, config.index.components)
    exact, certified = _scan_lines(sample, basis, config.retrieval.k, num_images, device)
    described = shortest_seconds(lambda: basis.describe_images(sample.images, sample.grid))
    num_patches = len(sample.images) * sample.grid.num_positions
    return Rates(
        images=1 / sample.seconds,
        patches_gathered=_gathering_rate(sample),
        described=num_patches * basis.filters.size / described,
        exact=exact,
        certified=certified,
        **disk_rates(folder),
        **index_rates(config.index.components),
        **matrix_rates(sample.grid.dimension),
    )


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


def _read_sample(config: Config, files: Sequence[SourceImage], num_queries: int) -> Sample:
    count = min(_SAMPLED_IMAGES, len(files))
    numbers = keyed_generator(config.seed, "plan").choice(len(files), count, replace=False)
    start = time.perf_counter()
    read = map_in_threads(lambda number: _read(config, files[number]), numbers)
    images = [image for image in read if image is not None]
    if not images:
        raise ImageError(
            f"None of {count} sampled images could be read, for example "
            f"{files[numbers[0]]}. Check the folder."
        )
    for image in images:
        array_digest(image)
        thumbnail(image)
    seconds = (time.perf_counter() - start) / len(images)
    patches = config.grid.patches(images[0][None]).reshape(-1, *(config.grid.patch_size,) * 2, 3)
    queries = np.ascontiguousarray(np.resize(patches, (num_queries, *patches.shape[1:])))
    return Sample(np.stack(images[1:] or images), queries, config.grid, seconds)


def _read(config: Config, file: SourceImage) -> np.ndarray | None:
    settings = config.images
    try:
        return read_image(
            file, size=settings.size_px, fit=settings.fit, max_pixels=settings.max_pixels
        )
    except ImageError:
        return None


def _rough_basis(sample: Sample, num_components: int) -> Basis:
    """Returns principal components of a few patches, good enough to see how much they filter."""
    flat = torch.from_numpy(_some_patches(sample, _BASIS_PATCHES)).flatten(1).float()
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
    transform = np.linalg.inv(np.linalg.cholesky(wide @ wide.T)).astype(np.float32)
    return Basis(filters, transform, variance_share=1.0)


def _some_patches(sample: Sample, count: int) -> np.ndarray:
    """Copies patches in random order, as a store's are."""
    patches = sample.grid.patches(sample.images)
    rng = np.random.default_rng(0)
    places = (rng.integers(0, length, count) for length in patches.shape[:3])
    return np.asarray(patches[tuple(places)])


def _gathering_rate(sample: Sample) -> float:
    return _GATHERED_PATCHES / shortest_seconds(lambda: _some_patches(sample, _GATHERED_PATCHES))


def _scan_lines(
    sample: Sample, basis: Basis, k: int, num_images: int, device: str
) -> tuple[Line, Line]:
    """Measures both engines that pass over the store, with all queries and with a quarter."""
    growth = max(num_images / len(sample.images), 1.0)
    bounds = expected_bounds(_nearest(sample, k), growth)
    cores = os.cpu_count() or 1
    # Each core has as much to do.
    blocks = -(-len(sample.images) // (IMAGES_AT_ONCE * cores)) * cores
    images = np.resize(sample.images, (blocks * IMAGES_AT_ONCE, *sample.images.shape[1:]))
    num_patches = len(images) * sample.grid.num_positions
    lines = []
    for guide in (None, basis):
        points = []
        for count in (max(len(sample.queries) // 4, 1), len(sample.queries)):
            scan = Scan(sample.queries[:count], sample.grid, k, guide, device=device)
            seconds = shortest_seconds(lambda: _pass(scan, images, bounds[:count]))  # noqa: B023
            points.append((count, seconds / num_patches))
        lines.append(Line.through(*points))
    return lines[0], lines[1]


def _nearest(sample: Sample, k: int) -> np.ndarray:
    """Returns the squared distances of each query to its nearest patches of the sample."""
    k = min(max(k, _LEAST_NEIGHBOURS), len(sample.images) * sample.grid.num_positions)
    scan = Scan(sample.queries, sample.grid, k)
    none = np.full(len(sample.queries), NO_DISTANCE)
    found = scan.block(sample.images, np.arange(len(sample.images)), none)
    distances, _ = found.nearest(k).table(len(sample.queries), k)
    return distances


def _pass(scan: Scan, images: np.ndarray, bounds: np.ndarray) -> None:
    """Passes over images as the engines do over a shard."""

    def block(start: int) -> None:
        part = images[start : start + IMAGES_AT_ONCE]
        scan.block(part, start + np.arange(len(part)), bounds)

    with one_thread_each():
        list(map_in_threads(block, range(0, len(images), IMAGES_AT_ONCE)))


def disk_rates(folder: Path) -> dict[str, float]:
    """Returns bytes a second that are written through to the disk, and that are digested."""
    content = np.random.default_rng(0).bytes(_WRITTEN_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - start
    array = np.frombuffer(content[: _WRITTEN_BYTES // 4], np.uint8)
    digested = shortest_seconds(lambda: array_digest(array))
    return {"bytes_written": len(content) / written, "bytes_digested": len(array) / digested}


def index_rates(components: int) -> dict[str, float]:
    """Returns how fast FAISS finds nearest centres and codewords, and compares codes.

    Raises:
        MissingLibraryError: If FAISS is not installed.
    """
    faiss, quantisers = import_faiss(), code_bytes(components)
    assigned = _nearest_rate(faiss, _CENTRES, _CENTRES, components) * components
    graph = faiss.IndexHNSWFlat(components, GRAPH_DEGREE)
    centres = _noise(MEASURED_CENTRES, components)
    start = time.perf_counter()
    graph.add(centres)
    built = time.perf_counter() - start
    linked = len(centres) / shortest_seconds(lambda: graph.search(centres, 1))
    coded = _nearest_rate(faiss, CODEWORDS, _CODED // 8, components // quantisers)
    # The codewords are all zero, which costs as much as any others.
    codes = faiss.IndexPQ(components, quantisers, CODEWORDS.bit_length() - 1)
    codes.is_trained = True
    points = _noise(_CODED, components)
    codes.add(points)
    seconds = shortest_seconds(lambda: codes.search(points[:_QUERIES], _NEIGHBOURS))
    looked_up = min(_QUERIES, len(points)) * len(points) * quantisers / seconds
    return {
        "assigned": assigned,
        "graphed": len(centres) / built,
        "linked": linked,
        "coded": coded,
        "looked_up": looked_up,
    }


def matrix_rates(dimension: int) -> dict[str, float]:
    """Returns multiply-adds a second of float32 matrices, and n cubed of eigenvectors."""
    side = min(_MATRIX_SIDE, dimension)
    wide = _noise(side, dimension)
    square = (wide @ wide.T).astype(np.float64)
    multiplied = side * dimension**2 / shortest_seconds(lambda: wide.T @ wide)
    return {
        "multiplied": multiplied,
        "eigen": side**3 / shortest_seconds(lambda: np.linalg.eigh(square)),
    }


def shortest_seconds(function: Callable[[], object]) -> float:
    """Returns the shortest time of three: the first call makes what later ones find."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def _nearest_rate(faiss: Any, num_centres: int, num_points: int, length: int) -> float:
    """Returns comparisons a second of points with centres."""
    centres, points = faiss.IndexFlatL2(length), _noise(num_points, length)
    centres.add(_noise(num_centres, length))
    return num_centres * num_points / shortest_seconds(lambda: centres.search(points, 1))


def _noise(rows: int, columns: int) -> Float32[ndarray, "rows columns"]:
    return np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
