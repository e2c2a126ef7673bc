"""This machine: what it is, and what its disk, FAISS and matrices do in a second."""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchcollide.provenance import array_digest
from patchcollide.search.faiss_library import import_faiss
from patchcollide.shapes import Float32, ndarray
from patchcollide.system import total_memory, usable_cores

_WRITTEN_BYTES = 64 << 20
_MATRIX_SIDE = 384
_CENTRES = 4096
_CODED = 65_536
_GRAPH_CENTRES = 2048
_GRAPH_DEGREE = 32
_CODEWORDS = 256
_QUERIES = 32
_NEIGHBOURS = 10


def describe_machine() -> dict[str, str | int | None]:
    """Returns what decides how fast a machine is."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": total_memory(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


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
    faiss, quantisers = import_faiss(), np.gcd(components, 32).item()
    assigned = _nearest_rate(faiss, _CENTRES, _CENTRES, components) * components
    graph = faiss.IndexHNSWFlat(components, _GRAPH_DEGREE)
    centres = _noise(_GRAPH_CENTRES, components)
    start = time.perf_counter()
    graph.add(centres)
    built = time.perf_counter() - start
    linked = len(centres) / shortest_seconds(lambda: graph.search(centres, 1))
    coded = _nearest_rate(faiss, _CODEWORDS, _CODED // 8, components // quantisers)
    # The codewords are all zero, which costs as much as any others.
    codes = faiss.IndexPQ(components, quantisers, 8)
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


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _nearest_rate(faiss: Any, num_centres: int, num_points: int, length: int) -> float:
    """Returns comparisons a second of points with centres."""
    centres, points = faiss.IndexFlatL2(length), _noise(num_points, length)
    centres.add(_noise(num_centres, length))
    return num_centres * num_points / shortest_seconds(lambda: centres.search(points, 1))


def _noise(rows: int, columns: int) -> Float32[ndarray, "rows columns"]:
    return np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
