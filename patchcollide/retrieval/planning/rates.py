"""This machine: what it is, and what its disk, FAISS and matrices do in a second.

That is measured in some seconds, on a sample of the user's own images.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.images.listings import SourceImage
from patchcollide.images.pictures import read_image
from patchcollide.images.thumbnails import thumbnail
from patchcollide.io.provenance import array_digest
from patchcollide.parallel import map_in_threads
from patchcollide.randomness import keyed_generator
from patchcollide.retrieval.planning.durations import MEASURED_CENTRES, Rates
from patchcollide.retrieval.planning.passes import (
    Sample,
    rough_basis,
    scan_lines,
    shortest_seconds,
    some_patches,
    sums_of,
)
from patchcollide.shapes import Float32, ndarray
from patchcollide.store.faiss_library import CODEWORDS, import_faiss
from patchcollide.store.index_builder import GRAPH_DEGREE, code_bytes

_SAMPLED_IMAGES = 33

_GATHERED_PATCHES = 8192

_WRITTEN_BYTES = 64 << 20

_MATRIX_SIDE = 384

_CENTRES = 4096

_CODED = 65_536

_QUERIES = 32

_NEIGHBOURS = 10


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
    exact, certified = scan_lines(sample, config, num_images, device)
    basis, sums = rough_basis(sample, config.index.components), sums_of(sample)
    if sums and basis.blocks:
        described = shortest_seconds(lambda: basis.describe_sums(sums))
    else:
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


def _gathering_rate(sample: Sample) -> float:
    return _GATHERED_PATCHES / shortest_seconds(lambda: some_patches(sample, _GATHERED_PATCHES))


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


def _nearest_rate(faiss: Any, num_centres: int, num_points: int, length: int) -> float:
    """Returns comparisons a second of points with centres."""
    centres, points = faiss.IndexFlatL2(length), _noise(num_points, length)
    centres.add(_noise(num_centres, length))
    return num_centres * num_points / shortest_seconds(lambda: centres.search(points, 1))


def _noise(rows: int, columns: int) -> Float32[ndarray, "rows columns"]:
    return np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
