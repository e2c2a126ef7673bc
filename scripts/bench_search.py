"""Measures the search engines on a store, beside other searches on the same patches.

Prints one JSON document. The queries are the patches of one image, which none of the searches may
find; with ``--sources`` those of several, one image after the other: seconds are for one of them,
recall is that of the worst. Searches are repeated in turns, so that whatever else the machine does
meets all of them; the first pass of each is apart: it finds the answers and the memory, of the
engines before any peer takes some. The exact engine's answers are what recall is measured against;
with ``--reference certified`` those of the other engine whose answers are proven, in a quarter of
the time.

    python scripts/bench_search.py stores/photos > search.json
    python scripts/bench_search.py stores/photos --sources 12 --repeat 1 > peers.json
    python scripts/bench_search.py stores/1 --growth stores/4 stores/16 --plot growth.png
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import (
    Meter,
    anonymous_bytes,
    available_bytes,
    count,
    describe_machine,
    finish,
    ratios,
    summarise,
)
from bench_peers import Corpus, make_peers

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import InputError, StoreError
from patchcollide.io.files import read_json
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.searcher import SearchResult
from patchcollide.store.index_files import ABOUT_FILE
from patchcollide.store.manifest import SHARD_FILES
from patchcollide.store.reader import PatchStore

ENGINES = ("exact", "certified", "ann")
PEERS = ("matrix", "flat", "ivfpq", "hnsw", "usearch", "nndescent", "sklearn")


@dataclass
class Contestant:
    """A search that takes part.

    Attributes:
        search: Finds the identifiers of the nearest patches, for each source.
        result: What is known of it.
        seconds: How long each repetition took, for a source.
    """

    search: Callable[[], list[np.ndarray]]
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
        self.sources = self._chosen_sources()
        positions = self.store.grid.num_positions
        places = np.linspace(0, positions - 1, min(arguments.queries, positions)).round()
        self.queries = [
            self.store.patches(int(source) * positions + places.astype(np.int64))
            for source in self.sources
        ]
        self.exact: list[SearchResult]
        if arguments.reference not in arguments.engines:
            self.exact = self._engine_search(arguments.reference, self.store)()

    def run(self) -> dict[str, Any]:
        """Measures everything; returns the result."""
        known_first = sorted(ENGINES, key=lambda name: name != self.arguments.reference)
        chosen = [name for name in known_first if name in self.arguments.engines]
        engines = {name: self._engine(name) for name in chosen}
        peers, skipped = self._peers()
        contestants = [*engines.values(), *peers.values()]
        for _ in range(self.arguments.repeat):
            for contestant in contestants:
                with Meter() as meter:
                    contestant.search()
                contestant.seconds.append(meter.seconds / len(self.sources))
        for contestant in contestants:
            contestant.result["seconds"] = summarise(contestant.seconds)
        return {
            "store": str(self.store.path),
            "num_images": self.store.num_images,
            "num_patches": self.store.num_patches,
            "num_queries": len(self.queries[0]),
            "sources": self.sources.tolist(),
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

    def recalls(self, found: list[np.ndarray]) -> dict[str, Any]:
        """Returns the share of patches as near as the exact k-th one; ties count.

        It is that of the source for which it is lowest; all of them stand beside.
        """
        shares = []
        for ids, queries, exact in zip(found, self.queries, self.exact, strict=True):
            rows, ranks = np.nonzero(ids >= 0)
            patches = self.store.patches(ids[rows, ranks]).astype(np.int64)
            distances = np.square(patches - queries[rows]).sum(axis=(1, 2, 3))
            near = distances <= exact.squared_distances[rows, -1]
            shares.append(float(near.sum() / (exact.ids >= 0).sum()))
        return {"recall": min(shares), "recalls": shares}

    def _chosen_sources(self) -> np.ndarray:
        """Returns the numbers of the images to search for, spread over the store."""
        readable, wanted = np.flatnonzero(self.store.valid), self.arguments.sources
        if self.arguments.source not in readable:
            raise StoreError(
                f"{self.store.path} holds {self.store.num_images} images, and no readable one with "
                f"number {self.arguments.source}. Choose another --source."
            )
        if wanted >= len(readable):
            raise StoreError(
                f"{self.store.path} holds {len(readable)} readable images, too few to look for "
                f"patches of {wanted} among others. Give fewer --sources."
            )
        first = int(np.searchsorted(readable, self.arguments.source))
        steps = np.arange(wanted) * len(readable) // wanted
        return np.asarray(readable[(first + steps) % len(readable)])

    def _config(self, engine: str) -> Config:
        """Returns the settings, those of the index as it was built."""
        overrides = [f"retrieval.engine={engine}", f"retrieval.device={self.arguments.device}"]
        about = self.store.path / ABOUT_FILE
        if about.exists():
            built = read_json(about, error=StoreError)["build"]["index"]
            overrides += [f"index.{key}={json.dumps(value)}" for key, value in built.items()]
        return load_config(overrides=[*overrides, *self.arguments.set])

    def _engine_search(self, name: str, store: PatchStore) -> Callable[[], list[SearchResult]]:
        searcher, k = open_searcher(self._config(name), store), self.arguments.k
        # Others have no patches of any of the sources either.
        return lambda: [searcher.search(queries, k, self.sources) for queries in self.queries]

    def _engine(self, name: str) -> Contestant:
        with Meter() as opening:
            search = self._engine_search(name, PatchStore.open(self.store.path))
        with Meter() as first:
            found = search()
        if name == self.arguments.reference:
            self.exact = found
        files = self.store.path.glob(SHARD_FILES if name == "exact" else "*")
        same = (np.array_equal(f.ids, e.ids) for f, e in zip(found, self.exact, strict=True))
        result = {
            "opening_seconds": opening.seconds,
            "bytes": sum(path.stat().st_size for path in files),
            "first_seconds": first.seconds / len(self.sources),
            **self.recalls([each.ids for each in found]),
            "same_as_exact": all(same),
            "certified": float(np.mean([each.proven.mean() for each in found])),
            "memory": {"opening": opening.memory(), "search": first.memory()},
        }
        return Contestant(lambda: [each.ids for each in search()], result)

    def _peers(self) -> tuple[dict[str, Contestant], dict[str, str]]:
        """Builds the peers that fit into memory; says why the others do not take part."""
        allowed = self.store.valid.copy()
        allowed[self.sources] = False
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
        def search() -> list[np.ndarray]:
            return [corpus.ids(peer.search(some, self.arguments.k)) for some in self.queries]

        before = anonymous_bytes()
        with Meter() as building:
            peer.build(corpus)
        kept = max(anonymous_bytes() - before, 0)
        with Meter() as first:
            found = search()
        result = {
            "about": peer.about,
            "build_seconds": building.seconds,
            "bytes": kept,
            "first_seconds": first.seconds / len(self.sources),
            **self.recalls(found),
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
    parser.add_argument(
        "--sources", type=count, default=1, help="how many images, spread over the store from there"
    )
    parser.add_argument("--queries", type=count, default=289, help="how many of its patches")
    parser.add_argument("--k", type=count, default=10, help="neighbours of each")
    parser.add_argument("--engines", type=_names(ENGINES), default=list(ENGINES))
    parser.add_argument("--reference", choices=("exact", "certified"), default="exact")
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
            "files, or memory kept",
            "search, s (best)",
            "first time, s",
            "proven",
            f"recall@{result['k']}{_worst(result)}",
            "own memory",
        )
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for name, found in {**result["engines"], **result["peers"]}.items():
            made = found.get("opening_seconds", found.get("build_seconds"))
            proven = f"{100 * found['certified']:.0f} %" if "certified" in found else "none"
            memory = found["memory"]["search"]["peak_anonymous_bytes"]
            lines.append(
                f"| `{name}` | {made:.3g} | {found['bytes'] / 1e9:.2f} GB "
                f"| {found['seconds']['best']:.3g} "
                f"| {found['first_seconds']:.3g} | {proven} | {found['recall']:.4g} "
                f"| {memory / 1e9:.2f} GB |"
            )
    return lines[1:]


def _worst(result: dict[str, Any]) -> str:
    number = len(result["sources"])
    return f", the worst of {number} sources" if number > 1 else ""


def _series(results: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for result in sorted(results, key=lambda result: result["num_patches"]):
        for name, entry in {**result["engines"], **result["peers"]}.items():
            point = (result["num_patches"], entry["seconds"]["best"])
            series.setdefault(name, []).append(point)
    return series


if __name__ == "__main__":
    finish(main)
