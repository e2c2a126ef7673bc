"""Measures the search engines on a store, beside other searches on the same patches.

Prints one JSON document. The queries are the patches of one image, which none of the searches may
find. Searches are repeated in turns, so that whatever else the machine does meets all of them; the
first pass of each is apart: it finds the answers and the memory, of the engines before any peer
takes some. The exact engine's answers are what recall is measured against.

    python scripts/bench_search.py stores/photos > search.json
    python scripts/bench_search.py stores/1 --growth stores/4 stores/16 --plot growth.png
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import Meter, available_bytes, count, describe_machine, finish, ratios, summarise
from bench_peers import Corpus, make_peers

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import InputError, StoreError
from patchcollide.io.files import read_json
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.searcher import SearchResult
from patchcollide.store.index_files import ABOUT_FILE
from patchcollide.store.reader import PatchStore

ENGINES = ("exact", "certified", "ann")
PEERS = ("matrix", "flat", "ivfpq", "hnsw", "sklearn")


@dataclass
class Contestant:
    """A search that takes part.

    Attributes:
        search: Finds the identifiers of the nearest patches.
        result: What is known of it.
        seconds: How long each repetition took.
    """

    search: Callable[[], np.ndarray]
    result: dict[str, Any]
    seconds: list[float] = field(default_factory=list)


class Trial:
    """The measurements on one store.

    Args:
        path: The store.
        arguments: Those of the command line.
    """

    def __init__(self, path: Path, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.store = PatchStore.open(path)
        self.source = arguments.source
        if self.source >= self.store.num_images or not self.store.valid[self.source]:
            raise StoreError(
                f"{path} holds {self.store.num_images} images, and no readable one with number "
                f"{self.source}. Choose another --source."
            )
        positions = self.store.grid.num_positions
        places = np.linspace(0, positions - 1, min(arguments.queries, positions)).round()
        self.queries = self.store.patches(self.source * positions + places.astype(np.int64))
        self.exact: SearchResult
        if "exact" not in arguments.engines:
            self.exact = self._engine_search("exact", self.store)()

    def run(self) -> dict[str, Any]:
        """Measures everything; returns the result."""
        chosen = [name for name in ENGINES if name in self.arguments.engines]
        engines = {name: self._engine(name) for name in chosen}
        peers, skipped = self._peers()
        contestants = [*engines.values(), *peers.values()]
        for _ in range(self.arguments.repeat):
            for contestant in contestants:
                with Meter() as meter:
                    contestant.search()
                contestant.seconds.append(meter.seconds)
        for contestant in contestants:
            contestant.result["seconds"] = summarise(contestant.seconds)
        return {
            "store": str(self.store.path),
            "num_images": self.store.num_images,
            "num_patches": self.store.num_patches,
            "num_queries": len(self.queries),
            "k": self.arguments.k,
            "engines": {name: engine.result for name, engine in engines.items()},
            "peers": {name: peer.result for name, peer in peers.items()},
            "skipped": skipped,
            # How many times longer a peer takes.
            "ratios": {
                name: {
                    other: ratios(peer.result["seconds"], engine.result["seconds"])
                    for other, engine in engines.items()
                }
                for name, peer in peers.items()
            },
        }

    def recall(self, ids: np.ndarray) -> float:
        """Returns the share of patches as near as the exact k-th one; ties count."""
        rows, ranks = np.nonzero(ids >= 0)
        patches = self.store.patches(ids[rows, ranks]).astype(np.int64)
        distances = np.square(patches - self.queries[rows]).sum(axis=(1, 2, 3))
        near = distances <= self.exact.squared_distances[rows, -1]
        return float(near.sum() / (self.exact.ids >= 0).sum())

    def _config(self, engine: str) -> Config:
        """Returns the settings, those of the index as it was built."""
        overrides = [f"retrieval.engine={engine}", f"retrieval.device={self.arguments.device}"]
        about = self.store.path / ABOUT_FILE
        if about.exists():
            built = read_json(about, error=StoreError)["build"]["index"]
            overrides += [f"index.{key}={json.dumps(value)}" for key, value in built.items()]
        return load_config(overrides=[*overrides, *self.arguments.set])

    def _engine_search(self, name: str, store: PatchStore) -> Callable[[], SearchResult]:
        searcher = open_searcher(self._config(name), store)
        return lambda: searcher.search(self.queries, self.arguments.k, np.array([self.source]))

    def _engine(self, name: str) -> Contestant:
        with Meter() as opening:
            search = self._engine_search(name, PatchStore.open(self.store.path))
        with Meter() as first:
            found = search()
        if name == "exact":
            self.exact = found
        result = {
            "opening_seconds": opening.seconds,
            "first_seconds": first.seconds,
            "recall": self.recall(found.ids),
            "same_as_exact": bool(np.array_equal(found.ids, self.exact.ids)),
            "certified": float(found.proven.mean()),
            "memory": {"opening": opening.memory(), "search": first.memory()},
        }
        return Contestant(lambda: search().ids, result)

    def _peers(self) -> tuple[dict[str, Contestant], dict[str, str]]:
        """Builds the peers that fit into memory; says why the others do not take part."""
        allowed = self.store.valid.copy()
        allowed[self.source] = False
        corpus = Corpus(self.store, np.flatnonzero(allowed))
        known = make_peers(self.arguments.device, self._config("ann").index.components)
        built, skipped = {}, {}
        for name in self.arguments.peers:
            needed, free = known[name].needed_bytes(corpus), available_bytes()
            reason = known[name].refusal(corpus)
            if needed > free:
                reason = f"needs {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are available"
            if reason:
                skipped[name] = reason
            else:
                built[name] = self._peer(known[name], corpus)
        return built, skipped

    def _peer(self, peer: Any, corpus: Corpus) -> Contestant:
        def search() -> np.ndarray:
            return corpus.ids(peer.search(self.queries, self.arguments.k))

        with Meter() as building:
            peer.build(corpus)
        with Meter() as first:
            ids = search()
        result = {
            "about": peer.about,
            "build_seconds": building.seconds,
            "first_seconds": first.seconds,
            "recall": self.recall(ids),
            "memory": {"building": building.memory(), "search": first.memory()},
        }
        return Contestant(search, result)


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", type=Path, help="a store with an index")
    parser.add_argument("--growth", type=Path, nargs="+", default=[], help="more stores")
    parser.add_argument("--plot", type=Path, help="PNG of seconds against patches of all stores")
    parser.add_argument("--source", type=int, default=0, help="number of the image to search for")
    parser.add_argument("--queries", type=count, default=289, help="how many of its patches")
    parser.add_argument("--k", type=count, default=10, help="neighbours of each")
    parser.add_argument("--engines", type=_names(ENGINES), default=list(ENGINES))
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS))
    parser.add_argument("--repeat", type=count, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {min(unknown)}; known are {list(known)}")
        return names

    return split


def main() -> dict[str, Any]:
    """Measures every store that was named."""
    arguments = read_arguments()
    if arguments.plot and arguments.plot.suffix != ".png":
        raise InputError(f"--plot {arguments.plot} should be a PNG file.")
    results = [Trial(path, arguments).run() for path in [arguments.store, *arguments.growth]]
    if arguments.plot:
        # It takes seconds to import.
        from patchcollide.report.charts import write_growth_chart

        write_growth_chart(arguments.plot, _series(results))
    return {
        "benchmark": "search",
        "machine": describe_machine(),
        "arguments": json.loads(json.dumps(vars(arguments), default=str)),
        "results": results,
        "table": table(results),
    }


def table(results: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown: a table a store, a line an engine or a peer."""
    lines: list[str] = []
    for result in results:
        columns = (
            f"{result['num_patches']:,} patches, {result['num_queries']} queries",
            "opened or built in, s",
            "search, s (best)",
            "first time, s",
            "proven",
            f"recall@{result['k']}",
            "own memory",
        )
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for name, found in {**result["engines"], **result["peers"]}.items():
            made = found.get("opening_seconds", found.get("build_seconds"))
            proven = f"{100 * found['certified']:.0f} %" if "certified" in found else "none"
            memory = found["memory"]["search"]["peak_anonymous_bytes"]
            lines.append(
                f"| `{name}` | {made:.3g} | {found['seconds']['best']:.3g} "
                f"| {found['first_seconds']:.3g} | {proven} | {found['recall']:.4g} "
                f"| {memory / 1e9:.2f} GB |"
            )
    return lines[1:]


def _series(results: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for result in sorted(results, key=lambda result: result["num_patches"]):
        for name, entry in {**result["engines"], **result["peers"]}.items():
            point = (result["num_patches"], entry["seconds"]["best"])
            series.setdefault(name, []).append(point)
    return series


if __name__ == "__main__":
    finish(main)
