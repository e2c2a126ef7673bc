"""What the benchmarks share: the machine, seconds, memory, and how they end."""

import argparse
import gc
import json
import logging
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from results import describe_measurement

from patchcollide import progress
from patchcollide.errors import PatchCollideError
from patchcollide.io import provenance
from patchcollide.io.provenance import versions

_SECONDS_BETWEEN_SAMPLES = 0.01


def describe_machine() -> dict[str, Any]:
    """Returns what decides how fast a machine is, and what runs on it."""
    return {**provenance.describe_machine(), "versions": versions()}


def anonymous_bytes() -> int:
    """Returns the memory that is this process's own: mapped files are the system's cache."""
    info = psutil.Process().memory_info()
    return int(info.rss - getattr(info, "shared", 0))


def available_bytes() -> int:
    """Returns how much memory a process can still have, in this container if it has a limit."""
    free = int(psutil.virtual_memory().available)
    limit = Path("/sys/fs/cgroup/memory.max")
    if not limit.exists() or limit.read_text().strip() == "max":
        return free
    own = int((limit.parent / "memory.stat").read_text().split("anon ")[1].split()[0])
    return min(free, int(limit.read_text()) - own)


class Meter:
    """Measures seconds and memory of what is done inside; ``watch`` is called all the while.

    Attributes:
        seconds: How long it took.
        peak: The most anonymous memory the process had meanwhile, in bytes.
        rise: How much of that it did not have before.
    """

    def __init__(self, watch: Callable[[float, int], None] | None = None) -> None:
        self.seconds, self.peak, self.rise = 0.0, 0, 0
        self._watch = watch
        self._over = threading.Event()
        self._end = math.inf
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Meter":
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._before = self.peak = anonymous_bytes()
        self._begun = self._last = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end = time.perf_counter()
        self.seconds = self._end - self._begun
        self._over.set()
        self._thread.join()
        self.rise = self.peak - self._before

    def memory(self) -> dict[str, int]:
        """Returns the peak and the rise, and the peak on a GPU if there is one, for a result."""
        found = {"peak_anonymous_bytes": self.peak, "rise_anonymous_bytes": self.rise}
        if torch.cuda.is_available():
            found["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
        return found

    def _sample(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_SECONDS_BETWEEN_SAMPLES)
            # What is watched adds up to the whole, however late this thread is woken.
            now, found = min(time.perf_counter(), self._end), anonymous_bytes()
            self.peak = max(self.peak, found)
            if self._watch:
                self._watch(now - self._last, found)
            self._last = now


def summarise(seconds: list[float]) -> dict[str, Any]:
    """Returns the best, the median and all of repeated measurements."""
    return {"best": min(seconds), "median": statistics.median(seconds), "all": seconds}


def ratios(slower: dict[str, Any], faster: dict[str, Any]) -> dict[str, float]:
    """Returns how many times the one takes the other's seconds: of the best, of the medians."""
    return {key: slower[key] / faster[key] for key in ("best", "median")}


def count(text: str) -> int:
    """Reads a number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def finish(benchmark: Callable[[], dict[str, Any]]) -> None:
    """Runs a benchmark and prints its result as JSON, or its error as a sentence.

    With it goes ``measured``: the command, the date and the commit, for a page of results.
    """
    progress.show(logging.INFO)
    try:
        measured = describe_measurement(["python", *sys.argv])
        result = {"measured": measured, **benchmark()}
    except PatchCollideError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(1)
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
