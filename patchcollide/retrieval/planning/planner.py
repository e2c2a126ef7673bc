"""Says what a store, its index and the searches in them will cost, before any work starts.

A plan tells stages and engines in numbers and as text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from patchcollide.config import Config
from patchcollide.errors import PatchCollideError
from patchcollide.formats import format_seconds, format_size
from patchcollide.images.listings import Listing, sample_images
from patchcollide.images.sources import find_images
from patchcollide.io.system import busy_cores
from patchcollide.retrieval.planning.advice import advised_engine
from patchcollide.retrieval.planning.budgets import (
    existing_folder,
    memory_budget,
    require_disk,
    require_memory,
)
from patchcollide.retrieval.planning.durations import (
    H100,
    Rates,
    accelerated_seconds,
    engine_seconds,
    stage_seconds,
)
from patchcollide.retrieval.planning.footprint import (
    ENGINES,
    STAGES,
    Workload,
    engine_bytes,
    stage_bytes,
)
from patchcollide.retrieval.planning.rates import measure_rates
from patchcollide.store.index_files import ABOUT_FILE


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
        store_bytes: On disk, with the sums of its images' blocks.
        index_bytes: On disk.
        disk_bytes: On disk while the index is merged.
        factory: FAISS's name of the index.
        num_queries: Of the searches.
        cores: Threads that work at once.
        stages: Of making store and index, in order.
        engines: Of the searches.
        index_reason: Why this index.
        engine: Which engine to use, and ``retrieval.engine = "auto"`` takes.
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


def estimate(num_images: int, rates: Rates, config: Config, queries: int) -> Plan:
    """Returns what a store of ``num_images`` costs: a formula of the rates, nothing is measured.

    Args:
        num_images: How many images the store takes.
        rates: Of the machine, with the images and settings of ``config``.
        config: The settings.
        queries: How many patches are searched for at once.
    """
    work = Workload(config, num_images)
    bytes_of = {**stage_bytes(work), **engine_bytes(work, queries)}
    seconds_of = {**stage_seconds(work, rates), **engine_seconds(work, rates, queries)}
    costs = {name: Cost(bytes_of[name], seconds_of[name]) for name in bytes_of}
    engines = {name: costs[name] for name in ENGINES}
    engine = advised_engine(work.num_patches, queries)
    return Plan(
        num_found=num_images,
        num_images=num_images,
        num_patches=work.num_patches,
        store_bytes=work.store_bytes + work.sums_bytes,
        index_bytes=work.index_bytes,
        disk_bytes=work.disk_bytes,
        factory=work.factory,
        num_queries=queries,
        cores=work.cores,
        stages={name: costs[name] for name in STAGES},
        engines=engines,
        index_reason=_index_reason(work),
        engine=engine,
        engine_reason=_engine_reason(engine, engines),
        accelerated={},
    )


def plan(
    config: Config,
    images: Path,
    out: Path,
    *,
    memory: str | None = None,
    queries: int = 289,
    num_images: int | None = None,
    gpu: bool = False,
    classes: str | None = None,
) -> Plan:
    """Measures this machine for some seconds and returns what indexing images would cost.

    Args:
        config: The settings, as :func:`patchcollide.pipeline.index` takes them.
        images: Where they are; some of them are read.
        out: Where the store would lie; only its disk is looked at.
        memory: How much may be used, such as ``8GB``; None for 80 % of what is available.
        queries: How many patches would be searched for at once.
        num_images: Plan for so many images, instead of those chosen of the folder.
        gpu: Whether to say what a GPU would take: measured if there is one, else estimated.
        classes: Take these alone, separated by commas.

    Raises:
        ConfigError: If ``memory`` is no size.
        ImageError: If there are no images, or none that can be read.
        MissingLibraryError: If FAISS is not installed, or what reads the images.
    """
    budget = memory_budget(memory)
    found = find_images(images, classes).files
    files = sample_images(found, config.store.fraction, config.seed)
    wanted = num_images or len(files)
    busy = busy_cores()
    measure = partial(measure_rates, config, files, existing_folder(out), queries, wanted)
    made = replace(
        estimate(wanted, measure(), config, queries),
        num_found=max(num_images or 0, len(found)),
        memory_bytes=budget,
        busy_cores=busy,
        problem=_problem(Workload(config, wanted), budget, out),
    )
    if not gpu:
        return made
    work = Workload(config, wanted)
    if torch.cuda.is_available():
        there = engine_seconds(work, measure(device="cuda"), queries)
        passes = {name: there[name] for name in ("exact", "certified")}
        return replace(made, accelerated=passes, accelerator="measured on the one here")
    return replace(
        made,
        accelerated=accelerated_seconds(work, H100, queries),
        accelerator=f"{H100.name}, estimated from its data sheet, not measured; the store as "
        f"8-bit pixels {'fits' if work.store_bytes < H100.memory_bytes else 'exceeds'} its "
        f"{format_size(H100.memory_bytes)}",
    )


def require_resources(
    config: Config, images: Listing, out: Path, memory: str | None, extend: bool = False
) -> None:
    """Refuses to index what memory or disk cannot hold; formulas only, nothing is measured.

    Args:
        config: The settings.
        images: What is to be indexed.
        out: The store's folder. Whatever is finished there needs no more space.
        memory: How much may be used, such as ``8GB``; None for 80 % of what is available.
        extend: Whether what is finished there is to be extended.

    Raises:
        ConfigError: If a stage needs more memory.
        StoreError: If store, index and its parts need more disk.
        ImageError: If no class is large enough to give an image.
    """
    budget = memory_budget(memory)
    if (out / ABOUT_FILE).exists() and not extend:
        return
    files = sample_images(images.files, config.store.fraction, config.seed)
    work = Workload(config, len(files))
    require_memory(work, budget)
    require_disk(work, out)


def _problem(work: Workload, budget: int, out: Path) -> str:
    try:
        require_memory(work, budget)
        require_disk(work, out)
    except PatchCollideError as error:
        return str(error)
    return ""


def _index_reason(work: Workload) -> str:
    if work.config.index.kind != "auto":
        return f"index.kind = {work.config.index.kind} asks for it"
    plain = format_size(4 * work.config.index.components * work.num_patches)
    if not work.lists:
        return "so few patches are scanned whole"
    if not work.quantisers:
        return f"so many are not scanned whole, but take only {plain} uncompressed"
    return f"uncompressed descriptors would take {plain}"


def _engine_reason(engine: str, engines: Mapping[str, Cost]) -> str:
    seconds = {name: cost.seconds for name, cost in engines.items()}
    times = {name: format_seconds(s) for name, s in seconds.items()}
    if engine != "ann":
        return (
            f"every answer is proven and takes {times[engine]}, where ann takes {times['ann']} "
            "without proof"
        )
    proven = min(("certified", "exact"), key=lambda name: seconds[name])
    return f"a proof of every answer would take {times[proven]}, ann takes {times['ann']}"
