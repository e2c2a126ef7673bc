"""Measures every path that a GPU takes beside the same on the processor, and compares the answers.

Run it once where there is a card, and paste what it prints: one JSON document, with a Markdown
table under ``table``. By default on the photographs that come inside scikit-image and scikit-learn,
which are cut, stored and indexed in a folder of a moment; with ``--store`` on a store of yours.

- ``products``: inner products of patches and queries, in whole numbers; they must be equal.
- ``exact``, ``certified``: passes over the store; the neighbours must be equal.
- ``index``: the index built anew, on a GPU where the installed FAISS has one, else on the
  processor; both find most of what ``exact`` finds.
- ``collide``: steps of a descent over pixels; losses at the start must be near.
- ``evaluate``: the hull of source and target; shares and probabilities must be near.

    python scripts/bench_gpu.py > gpu.json
    python scripts/bench_gpu.py --store stores/photos --steps 100 > gpu.json
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from bench_machine import Meter, count, describe_machine, finish, summarise

from patchcollide import pipeline
from patchcollide.config import Config, Network
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError
from patchcollide.evaluation.evaluate import Collision, evaluate_polytope
from patchcollide.images.photographs import photograph, write_photographs
from patchcollide.images.pictures import read_square
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.vertices import find_by_method
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.searcher import SearchResult
from patchcollide.store import faiss_library
from patchcollide.store.index_builder import build_index
from patchcollide.store.index_files import ABOUT_FILE, BASIS_FILE, INDEX_FILE
from patchcollide.store.integer_products import centred, inner_products
from patchcollide.store.reader import PatchStore, open_store

PATHS = ("products", "exact", "certified", "index", "collide", "evaluate")
_NEAR = 1e-2
_RECALL = 0.9
_PRODUCTS = 65_536

# A descent of so many steps, whatever it has found by then.
_WHOLE = ["optimiser.stop_success=1.0", "optimiser.stop_distance=1e9", "objective.tightness=0"]

Figures = Callable[[], list[float]]


class Trial:
    """What is measured on either device.

    Args:
        store: A store with an index.
        config: All settings but the device.
        folder: Where an index may be built.
    """

    def __init__(self, store: PatchStore, config: Config, folder: Path) -> None:
        self.store, self.config, self.folder = store, config, folder
        positions = store.grid.num_positions
        self.source = int(np.flatnonzero(store.valid)[0])
        self.queries = store.patches(self.source * positions + np.arange(positions))
        self.pictures = photograph("chelsea"), photograph("coffee")
        self._networks: dict[str, CollisionNetwork] = {}

    def prepare(self, name: str, device: str) -> Callable[[], Any]:
        """Returns what is measured; all that is loaded once is loaded here."""
        if name == "products":
            return self._products(device)
        if name in ("exact", "certified"):
            return self._search(name, device, self.store)
        if name == "index":
            return self._index(device)
        source, target = self._pair(device)
        make = self._descent if name == "collide" else self._hull
        return make(device, source, target)

    def _products(self, device: str) -> Callable[[], np.ndarray]:
        valid = np.flatnonzero(self.store.valid)
        positions = self.store.grid.num_positions
        images = valid[: -(-_PRODUCTS // positions)]
        ids = (images[:, None] * positions + np.arange(positions)).ravel()
        rows, queries = (
            torch.from_numpy(centred(patches).reshape(len(patches), -1)).to(device)
            for patches in (self.store.patches(ids), self.queries)
        )
        return lambda: inner_products(rows, queries).cpu().numpy()

    def _search(self, engine: str, device: str, store: PatchStore) -> Callable[[], SearchResult]:
        changed = {"engine": engine, "device": device}
        retrieval = self.config.retrieval.model_copy(update=changed)
        searcher = open_searcher(self.config.model_copy(update={"retrieval": retrieval}), store)
        return lambda: searcher.search(self.queries, 10, np.array([self.source]))

    def _index(self, device: str) -> Callable[[], float]:
        def build() -> float:
            copy = self.folder / f"index-{device}"
            shutil.rmtree(copy, ignore_errors=True)
            hidden = shutil.ignore_patterns(ABOUT_FILE, BASIS_FILE, INDEX_FILE)
            shutil.copytree(self.store.path, copy, ignore=hidden)
            store = PatchStore.open(copy)
            with _without_gpus(device):
                build_index(store, self.config.index, seed=0)
                found = self._search("ann", device, store)().ids
            known = self._search("exact", device, store)().ids
            return float(np.mean([np.isin(a, b).mean() for a, b in zip(known, found, strict=True)]))

        return build

    def _pair(self, device: str) -> tuple[np.ndarray, Target]:
        network = self._network(device)
        source, target = (
            read_square(self.config, path, network.input_size, network.channels)
            for path in self.pictures
        )
        return source, Target.of_picture(network, target)

    def _network(self, device: str) -> CollisionNetwork:
        if device not in self._networks:
            settings = Network(**{**self.config.network.model_dump(), "device": device})
            self._networks[device] = load_network(settings)
        return self._networks[device]

    def _descent(self, device: str, source: np.ndarray, target: Target) -> Figures:
        network = self._network(device)
        # Later losses part: a descent makes much of the last bits.
        return lambda: [
            find_by_method(self.config, network, source, target, None).history[0]["loss"]
        ]

    def _hull(self, device: str, source: np.ndarray, target: Target) -> Figures:
        network = self._network(device)
        if target.picture is None:
            raise ConfigError("The target is no picture.")
        vertices = np.stack([target.picture, source])
        unrounded = vertices.astype(np.float32)
        collision = Collision(network, source, target, vertices, unrounded=unrounded)

        def measure() -> list[float]:
            figures = evaluate_polytope(collision, self.config.evaluation, seed=0).figures
            return [
                figures["success_rate"],
                figures["sample_probability_mean"],
                figures["vertex_distance_mean"],
            ]

        return measure


def _without_gpus(device: str) -> AbstractContextManager[object]:
    """Has FAISS put nothing on a GPU where the processor is measured."""
    if device == "cuda":
        return nullcontext()
    return mock.patch.object(faiss_library, "num_gpus", return_value=0)


def compare(name: str, expected: Any, found: Any) -> dict[str, Any]:
    """Returns whether two answers agree, and by how much they do not."""
    if name == "products":
        return {"agree": bool(np.array_equal(expected, found)), "kind": "equal"}
    if name in ("exact", "certified"):
        pairs = zip((expected.ids, expected.squared_distances),
                    (found.ids, found.squared_distances), strict=True)  # fmt: skip
        return {"agree": all(np.array_equal(a, b) for a, b in pairs), "kind": "equal"}
    if name == "index":
        lowest = min(expected, found)
        return {"agree": lowest >= _RECALL, "kind": f"recall@10 {lowest:.4g}"}
    gaps = [abs(a - b) / max(abs(a), 1e-9) for a, b in zip(expected, found, strict=True)]
    return {"agree": max(gaps) <= _NEAR, "kind": f"within {max(gaps):.1g}"}


def measure(trial: Trial, name: str, devices: tuple[str, str], repeat: int) -> dict[str, Any]:
    """Measures a path on both devices, and compares what it gave."""
    answers: list[Any] = []
    result: dict[str, Any] = {}
    for device, label in zip(devices, ("processor", "gpu"), strict=True):
        work = trial.prepare(name, device)
        with Meter() as first:
            answers.append(work())
        seconds = []
        for _ in range(repeat):
            with Meter() as meter:
                work()
            seconds.append(meter.seconds)
        result[label] = {
            "first_seconds": first.seconds,
            "seconds": summarise(seconds),
            "memory": first.memory(),
        }
    best = [result[label]["seconds"]["best"] for label in ("processor", "gpu")]
    return {**result, "ratio": best[0] / best[1], **compare(name, *answers)}


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, help="a store with an index; by default one is made")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=list(PATHS))
    parser.add_argument("--steps", type=count, default=20, help="of the descent")
    parser.add_argument("--repeat", type=count, default=3)
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the script itself"
    )
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Measures all paths."""
    arguments = read_arguments()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "This benchmark is for a GPU, but PyTorch finds none here. Install a PyTorch for CUDA "
            "where there is one, or try the script itself with --device cpu."
        )
    steps = [f"optimiser.steps={arguments.steps}"]
    config = load_config(overrides=[*_WHOLE, *steps, *arguments.set])
    with tempfile.TemporaryDirectory(prefix="patchcollide-") as name:
        folder = Path(name)
        trial = Trial(_store(config, arguments.store, folder), config, folder)
        devices = ("cpu", arguments.device)
        paths = {path: measure(trial, path, devices, arguments.repeat) for path in arguments.paths}
        stored = trial.store.num_patches, len(trial.queries)
    return {
        "benchmark": "gpu",
        "machine": describe_machine(),
        "arguments": json.loads(json.dumps(vars(arguments), default=str)),
        "faiss_gpus": faiss_library.num_gpus() if arguments.device == "cuda" else 0,
        "num_patches": stored[0],
        "num_queries": stored[1],
        "paths": paths,
        "all_agree": all(found["agree"] for found in paths.values()),
        "table": table(paths),
    }


def _store(config: Config, given: Path | None, folder: Path) -> PatchStore:
    if given is None:
        write_photographs(folder / "photographs")
        given = pipeline.index(config, folder / "photographs", folder / "store")
    return open_store(config, given)


def table(paths: dict[str, Any]) -> list[str]:
    """Returns Markdown, a line a path."""
    lines = ["| path | processor, s | GPU, s | times as fast | answers |", "|---|---|---|---|---|"]
    for name, found in paths.items():
        seconds = [found[label]["seconds"]["best"] for label in ("processor", "gpu")]
        told = found["kind"] if found["agree"] else f"DIFFER ({found['kind']})"
        lines.append(
            f"| `{name}` | {seconds[0]:.3g} | {seconds[1]:.3g} | {found['ratio']:.3g} | {told} |"
        )
    return lines


if __name__ == "__main__":
    finish(main)
