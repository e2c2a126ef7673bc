"""What a result came from: versions, digests and fingerprints."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from patchcollide._version import __version__
from patchcollide.io.system import total_memory, usable_cores
from patchcollide.shapes import Num, ndarray

_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "h5py",
    "pillow",
    "scipy",
    "matplotlib",
    "faiss-cpu",
)


Encoded = TypedDict("Encoded", {"encoding-type": str, "encoding-version": int | str})
"""What kind of file a JSON document is, and which version of it."""


class Machine(TypedDict):
    """What of the machine decides the last bits of a result.

    Attributes:
        num_threads: Among which PyTorch splits sums.
        cpu_capability: The instructions that it computes with.
        architecture: Of the processor.
        gpu: Its name, or None.
    """

    num_threads: int
    cpu_capability: str
    architecture: str
    gpu: str | None


def versions() -> dict[str, str]:
    """Returns the versions of patchcollide, Python and the libraries that decide a result."""
    found = {"patchcollide": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        if version := _version(name):
            found[name] = version
    return found


def machine() -> Machine:
    """Returns what of this machine decides the last bits of a result."""
    # Takes long to import, which only those who compute should wait for.
    import torch

    return {
        "num_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
        "gpu": _gpu(),
    }


@functools.cache
def _version(library: str) -> str | None:
    # Every shard of a store asks, and looking up takes milliseconds.
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def fingerprint(value: Any) -> str:
    """Returns the SHA-256 of ``value`` as canonical JSON; equal values have equal fingerprints."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def self_digest(value: Mapping[str, Any]) -> str:
    """Returns the fingerprint of a dictionary without its own entry ``digest``."""
    return fingerprint({key: part for key, part in value.items() if key != "digest"})


def array_digest(array: Num[ndarray, "..."]) -> str:
    """Returns the SHA-256 of an array's type, shape and bytes."""
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def printable(path: Path) -> str:
    """Returns a path as text that can be written as UTF-8, whatever bytes the file system has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Lists where two JSON values differ, as ``key: found X, expected Y``."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = []
        for key in sorted(expected.keys() | found.keys()):
            inner = f"{where}.{key}" if where else str(key)
            lines += differences(expected.get(key), found.get(key), inner)
        return lines
    if expected == found:
        return []
    return [f"{where}: found {json.dumps(found)}, expected {json.dumps(expected)}"]


def describe_machine() -> dict[str, str | int | None]:
    """Returns what decides how fast a machine is."""
    import torch

    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": total_memory(),
        "gpu": _gpu(),
    }


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
