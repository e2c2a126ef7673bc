"""Measures how images become a store with an index, stage by stage, beside what others do.

Prints one JSON document, which is also FOLDER/bench.json. That is written after every stage: run
again, it goes on where it stopped. A stage that was stopped itself goes on too, but its seconds are
then those of the rest only, and it is marked as resumed.

The others are timed on a sample of the images, in turns with ours: decoding with Pillow in one
thread, components by scikit-learn and PyTorch, and an index that FAISS makes of float32 patches.

    python scripts/bench_index.py photos --out /tmp/bench --images 10000 > index.json
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_corpus import Corpus
from bench_machine import Meter, count, describe_machine, finish, ratios, summarise
from bench_peers import IvfPqPeer
from PIL import Image
from sklearn.decomposition import PCA

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import InputError
from patchcollide.images.sources import find_images
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import differences
from patchcollide.store.descriptors import fit_basis, sample_ids
from patchcollide.store.index_builder import build_index
from patchcollide.store.index_files import ABOUT_FILE, BASIS_FILE, INDEX_FILE
from patchcollide.store.manifest import SUMS_FILES
from patchcollide.store.reader import PatchStore
from patchcollide.store.sums_making import make_sums
from patchcollide.store.writer import write_store

_INDEX_STAGES = ("basis", "training", "filling", "merging")


class Benchmark:
    """What was measured so far, in a file.

    Args:
        folder: Where that file, the store and the samples go.
        arguments: Those of the command line, which decide the measurements.

    Raises:
        InputError: If the folder holds the measurements of others.
    """

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        self.folder = folder
        self._path = folder / "bench.json"
        self.content: dict[str, Any] = {
            "benchmark": "index",
            "machine": describe_machine(),
            "arguments": arguments,
            "begun": [],
            "results": {},
        }
        if self._path.exists():
            self.content = read_json(self._path, error=InputError)
            if changed := differences(arguments, self.content["arguments"]):
                raise InputError(
                    f"{self._path} holds a benchmark with other arguments ({'; '.join(changed)}). "
                    "Choose another --out."
                )

    @property
    def results(self) -> dict[str, Any]:
        """The results of each finished stage."""
        found: dict[str, Any] = self.content["results"]
        return found

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Does a stage, unless it is done, and writes down what it returns."""
        if name in self.results:
            return
        resumed = name in self.content["begun"]
        if not resumed:
            self.content["begun"].append(name)
            write_json(self._path, self.content)
        self.results[name] = {"resumed": resumed, **work()}
        write_json(self._path, self.content)


class IndexWatch:
    """Tells the stages of :func:`build_index` apart by the files that are there.

    Attributes:
        stages: Seconds and peak of anonymous memory of each.
    """

    def __init__(self, store: PatchStore) -> None:
        self._store = store
        self._work = store.path / "index.partial"
        self.stages: dict[str, dict[str, Any]] = {
            name: {"seconds": 0.0, "peak_anonymous_bytes": 0} for name in _INDEX_STAGES
        }

    def __call__(self, seconds: float, memory: int) -> None:
        """Counts a moment, as :class:`Meter` has it, to the stage that goes on."""
        stage = self.stages[self._now()]
        stage["seconds"] += seconds
        stage["peak_anonymous_bytes"] = max(stage["peak_anonymous_bytes"], memory)

    def _now(self) -> str:
        # The folder of unfinished work is made first and goes last.
        if (self._store.path / ABOUT_FILE).exists():
            return "merging"
        # Files are named after the digest of their bytes when they are whole.
        if not any(self._work.glob("basis.*.h5")):
            return "basis"
        if not any(self._work.glob("begun.*.faiss")):
            return "training"
        filled = sum(path.name.count(".") == 2 for path in self._work.glob("part-*.faiss"))
        return "filling" if filled < len(self._store.shards) else "merging"


def measure_store(config: Config, images: Path, out: Path) -> dict[str, Any]:
    """Makes the store of all images."""
    with Meter() as meter:
        store = write_store(config, images, out)
    return {
        "seconds": meter.seconds,
        **meter.memory(),
        "num_images": store.num_images,
        "num_patches": store.num_patches,
        "num_unreadable": int((~store.valid).sum()),
        "bytes": folder_bytes(out),
        "images_per_second": store.num_images / meter.seconds,
        "patches_per_second": store.num_patches / meter.seconds,
    }


def measure_sums(path: Path) -> dict[str, Any]:
    """Sums the blocks of all images."""
    store = PatchStore.open(path)
    with Meter() as meter:
        make_sums(store)
    size = sum(file.stat().st_size for file in path.glob(SUMS_FILES))
    return {"seconds": meter.seconds, **meter.memory(), "bytes": size}


def measure_index(config: Config, path: Path) -> dict[str, Any]:
    """Builds the index of the store of all images."""
    store = PatchStore.open(path)
    watch = IndexWatch(store)
    with Meter(watch) as meter:
        build_index(store, config.index, config.seed)
    return {
        "seconds": meter.seconds,
        **meter.memory(),
        "factory": read_json(path / ABOUT_FILE, error=InputError)["factory"],
        "stages": watch.stages,
        "bytes": sum((path / name).stat().st_size for name in (INDEX_FILE, BASIS_FILE)),
        "patches_per_second": store.num_patches / meter.seconds,
    }


def measure_sample(config: Config, images: Path, folder: Path, repeat: int) -> dict[str, Any]:
    """Times each stage on a sample of the images, in turns with what others would do."""
    path = folder / "sample"
    ways = _ways(config, images, path)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    memory = dict.fromkeys(ways, 0)
    for _ in range(repeat):
        shutil.rmtree(path, ignore_errors=True)
        for name, work in ways.items():
            with Meter() as meter:
                work()
            seconds[name].append(meter.seconds)
            memory[name] = max(memory[name], meter.rise)
    taken = {name: summarise(each) for name, each in seconds.items()}
    others = [name for name in ways if "," in name]
    return {
        "num_images": PatchStore.open(path).num_images,
        "num_patches": PatchStore.open(path).num_patches,
        "seconds": taken,
        "rise_anonymous_bytes": memory,
        # How many times longer the other way takes.
        "ratios": {name: ratios(taken[name], taken[name.partition(",")[0]]) for name in others},
    }


def _ways(config: Config, images: Path, path: Path) -> dict[str, Callable[[], Any]]:
    """Returns what is timed: our stages, and after a comma who else does the same."""
    index, seed = config.index, config.seed
    paths = [file.path for file in find_images(images).files]

    def rows() -> np.ndarray:
        store = PatchStore.open(path)
        patches = store.patches(sample_ids(store, index.basis_patches, seed))
        return patches.reshape(len(patches), -1).astype(np.float32)

    def fit() -> None:
        store, wanted = PatchStore.open(path), index.components
        fit_basis(store, num_components=wanted, num_patches=index.basis_patches, seed=seed)

    def index_by_faiss() -> None:
        store = PatchStore.open(path)
        IvfPqPeer(index.components).build(Corpus(store, np.flatnonzero(store.valid)))

    return {
        "store": lambda: write_store(config, images, path),
        "store, Pillow": lambda: decode_with_pillow(paths, config.images.size_px),
        "basis": fit,
        "basis, scikit-learn": lambda: PCA(index.components, svd_solver="covariance_eigh").fit(
            rows()
        ),
        "basis, PyTorch": lambda: torch.pca_lowrank(torch.from_numpy(rows()), index.components),
        "index": lambda: build_index(PatchStore.open(path), index, seed),
        "index, FAISS": index_by_faiss,
    }


def decode_with_pillow(paths: list[Path], size: int) -> None:
    """Reads, crops and resizes pictures in one thread, as most programs do; keeps nothing."""
    for path in paths:
        try:
            with Image.open(path) as image:
                plain = image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # It is marked as unreadable in the store.
        side = min(plain.size)
        left, top = (plain.width - side) // 2, (plain.height - side) // 2
        box = (left, top, left + side, top + side)
        np.asarray(plain.resize((size, size), Image.Resampling.BICUBIC, box=box))


def pick_images(images: Path, num_images: int, folder: Path) -> Path:
    """Returns a folder of so many of the images, evenly spread, or the one of all if that is it."""
    files = find_images(images).files
    if num_images >= len(files):
        return images
    for number in np.linspace(0, len(files) - 1, num_images).round().astype(int):
        path = folder / files[number].path.relative_to(images)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            shutil.copy2(files[number].path, path)
    return folder


def folder_bytes(folder: Path) -> int:
    """Returns the size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path, help="a folder of images: class/file, or flat")
    parser.add_argument("--out", type=Path, required=True, help="where everything goes")
    parser.add_argument("--images", type=count, dest="num_images", help="take at most so many")
    parser.add_argument("--sample", type=count, default=100, help="images that others get")
    parser.add_argument("--repeat", type=count, default=3)
    parser.add_argument("--config", type=Path, help="settings in TOML")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Measures the stages that are left."""
    arguments = read_arguments()
    given = {key: value for key, value in vars(arguments).items() if key != "out"}
    out = arguments.out
    benchmark = Benchmark(out, json.loads(json.dumps(given, default=str)))
    config = load_config(arguments.config, arguments.set)
    images = arguments.images
    if arguments.num_images:
        images = pick_images(images, arguments.num_images, out / "images")
    benchmark.stage("store", lambda: measure_store(config, images, out / "store"))
    benchmark.stage("sums", lambda: measure_sums(out / "store"))
    benchmark.stage("index", lambda: measure_index(config, out / "store"))
    # Lists and codes in any case, as FAISS is to make them too.
    lists = load_config(arguments.config, [*arguments.set, "index.kind=ivf-pq"])
    sample = pick_images(images, arguments.sample, out / "sample-images")
    benchmark.stage("sample", lambda: measure_sample(lists, sample, out, arguments.repeat))
    return {**benchmark.content, "table": table(benchmark.results)}


def table(found: dict[str, Any]) -> list[str]:
    """Returns Markdown: a line each for the store and its index."""
    steps = ", ".join(
        f"{name} {stage['seconds']:.0f} s" for name, stage in found["index"]["stages"].items()
    )
    what = f"from {found['store']['num_images']:,} images to an index"
    lines = [f"| {what} | seconds | own memory (peak) | bytes |", "|---|---|---|---|"]
    for name, part in (
        ("store", "store"),
        ("sums of blocks", "sums"),
        (f"index `{found['index']['factory']}`: {steps}", "index"),
    ):
        measured = found[part]
        memory, size = measured["peak_anonymous_bytes"] / 1e9, measured["bytes"] / 1e9
        lines.append(f"| {name} | {measured['seconds']:.3g} | {memory:.2f} GB | {size:.2f} GB |")
    return lines


if __name__ == "__main__":
    finish(main)
