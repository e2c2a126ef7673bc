"""A plan: what stages and engines cost, in numbers and as text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from patchcollide.sizes import format_seconds, format_size


@dataclass(frozen=True)
class Cost:
    """What a stage or an engine needs.

    Attributes:
        peak_bytes: Of resident memory.
        seconds: On the machine whose rates were measured.
    """

    peak_bytes: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is to be expected of a store, its index and the searches in them.

    Attributes:
        num_found: Images in the folder.
        num_images: Images the store would take.
        num_patches: Their patches.
        store_bytes: On disk.
        index_bytes: On disk.
        disk_bytes: On disk while the index is merged.
        factory: FAISS's name of the index.
        num_queries: Of the searches.
        cores: Threads that work at once.
        stages: Of making store and index, in order.
        engines: Of the searches.
        index_reason: Why this index.
        engine: Which engine to use.
        engine_reason: Why.
        accelerated: Seconds of the engines on a GPU; empty if not asked for.
        accelerator: How the GPU's seconds came about.
        memory_bytes: How much memory there may be; 0 if that was not asked.
        busy_cores: How many cores others used while rates were measured.
        problem: Why it cannot be done, and what can; empty if it can.
    """

    num_found: int
    num_images: int
    num_patches: int
    store_bytes: int
    index_bytes: int
    disk_bytes: int
    factory: str
    num_queries: int
    cores: int
    stages: Mapping[str, Cost]
    engines: Mapping[str, Cost]
    index_reason: str
    engine: str
    engine_reason: str
    accelerated: Mapping[str, float]
    accelerator: str = ""
    memory_bytes: int = 0
    busy_cores: float = 0.0
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON has it."""
        return asdict(self)

    def summary(self) -> list[str]:
        """Returns what a person wants to know first, line by line."""
        share = f"{self.num_images / self.num_found:.1%}"
        store, index, disk = map(format_size, (self.store_bytes, self.index_bytes, self.disk_bytes))
        lines = [
            f"Images: {self.num_found} found, {self.num_images} ({share}) to be stored",
            f"Patches: {self.num_patches}",
            f"Disk: {store} store, {index} index, {disk} while the index is merged",
            f"Index: {self.factory}, as {self.index_reason}",
            f"Engine for {self.num_queries} queries: {self.engine}, as {self.engine_reason}",
        ]
        if self.memory_bytes:
            lines.append(f"Memory: {format_size(self.memory_bytes)} may be used")
        if self.busy_cores > self.cores / 4:
            lines.append(
                f"Other programs keep {self.busy_cores:.1f} of {self.cores} cores busy: without "
                "them it takes less time"
            )
        if self.accelerated:
            times = [f"{name} {format_seconds(s)}" for name, s in self.accelerated.items()]
            lines.append(f"On a GPU ({self.accelerator}): {', '.join(times)}")
        return lines

    def rows(self) -> list[tuple[str, str, str]]:
        """Returns name, memory and time of every stage and engine."""
        costs = [*self.stages.items(), *((f"search: {n}", c) for n, c in self.engines.items())]
        return [(n, format_size(c.peak_bytes), format_seconds(c.seconds)) for n, c in costs]
