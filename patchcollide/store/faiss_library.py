"""FAISS, if it is installed, and what of it may run on a GPU."""

import importlib
import platform
import re
import sys
from pathlib import Path
from typing import Any

from patchcollide.errors import IndexMismatchError, MissingLibraryError
from patchcollide.io.files import require_open_files, written_beside

MOST_GPU_RESULTS = 2048
"""Neighbours that a search on a GPU can return."""

_MOST_GPU_CODE_BYTES = 96

CODEWORDS = 256
"""Codewords of a byte: FAISS's product quantisers have 8 bits."""

POINTS_PER_CENTRE = 256
"""Points a centre, or codeword, that FAISS's k-means takes at most."""

LIST_ITERATIONS, CODEWORD_ITERATIONS = 10, 25
"""Iterations of its k-means over lists, and over codewords."""

LARGEST_TABLE = 1 << 31
"""Bytes of products of centres and codewords beyond which FAISS keeps none."""


def import_faiss() -> Any:
    """Returns the module ``faiss``.

    Raises:
        MissingLibraryError: If it is not installed, or what is installed does not run here.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "faiss"
        found = "is not installed" if absent else f"is installed but cannot be loaded ({error})"
        raise MissingLibraryError(
            f"FAISS {found}, which the ann engine needs. Install {_what_to_install()}, or use "
            "--engine exact."
        ) from error


def _what_to_install() -> str:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "`patchcollide[cpu]` (there is none for GPUs on this platform)"
    return (
        "`patchcollide[cpu]` (faiss-cpu) or, for an NVIDIA GPU, `patchcollide[gpu]` (faiss-gpu "
        "1.14.3 or newer), never both"
    )


def num_lists(factory: str) -> int:
    """Returns the inverted lists of an index of this name; 0 if it has none."""
    found = re.match(r"IVF(\d+)", factory)
    return int(found[1]) if found else 0


def num_quantisers(factory: str) -> int:
    """Returns the bytes of a compressed descriptor in it; 0 if they are not compressed."""
    found = re.search(r"PQ(\d+)", factory)
    return int(found[1]) if found else 0


def has_graph(factory: str) -> bool:
    """Says whether a graph finds the nearest list in it."""
    return "_HNSW" in factory


def num_gpus() -> int:
    """Returns how many GPUs the installed FAISS can use; wheels for the processor have none."""
    count = getattr(import_faiss(), "get_num_gpus", None)
    return int(count()) if count else 0


def fits_gpu(factory: str) -> bool:
    """Says whether FAISS has an index of this name for GPUs: no graph, 96 bytes at most."""
    fits = num_quantisers(factory) <= _MOST_GPU_CODE_BYTES
    return num_lists(factory) > 0 and not has_graph(factory) and fits


def on_gpu(index: Any, factory: str) -> Any:
    """Returns a copy of an index on the first GPU, or the index itself where that cannot be."""
    if not num_gpus() or not fits_gpu(factory):
        return index
    faiss = import_faiss()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def on_cpu(index: Any) -> Any:
    """Returns an index as files hold it."""
    faiss = import_faiss()
    return faiss.index_gpu_to_cpu(index) if "Gpu" in type(index).__name__ else index


def write_index(index: Any, path: Path) -> None:
    """Writes an index, whole or not at all; DiskFullError if the disk is full."""
    with written_beside(path) as partial:
        import_faiss().write_index(on_cpu(index), str(partial))


def read_index(path: Path, remedy: str, *, mapped: bool = False, searched: bool = True) -> Any:
    """Reads an index, or maps its lists into memory.

    Args:
        path: The file.
        remedy: What to do if it cannot be read.
        mapped: Whether its lists stay in the file, read where they are needed.
        searched: Whether anything is looked up in it: else FAISS keeps no table for that.

    Raises:
        IndexMismatchError: If it is missing or damaged; ``remedy`` says what to do.
    """
    faiss = import_faiss()
    # Newer versions of FAISS map every kind of index, older ones some.
    flags = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP) if mapped else 0
    if not searched:
        flags |= getattr(faiss, "IO_FLAG_SKIP_PRECOMPUTE_TABLE", 0)
    try:
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        require_open_files(error, path)
        raise IndexMismatchError(f"{path} is missing or damaged ({error}). {remedy}") from error
