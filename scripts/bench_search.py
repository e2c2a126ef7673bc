"""Measures the search engines on a store, beside other searches on the same patches.

Prints one JSON document. The queries are the patches of one image, which none of the searches may
find; with ``--sources`` those of several, one image after the other: seconds are for one of them,
recall is that of the worst. The first pass of each search is apart: it finds the answers and the
memory, of the engines before any peer takes some. Others are in turns; peers, which need not fit
into memory together, come one after the other and the engines in between, so that whatever else the
machine does meets all of them. The exact engine's answers are what recall is measured against; with
``--reference certified`` those of the other engine whose answers are proven, in a quarter of the
time. ``--candidates`` takes the approximate engine once with each number of candidates.

    python scripts/bench_search.py stores/photos > search.json
    python scripts/bench_search.py stores/photos --sources 12 --candidates 100 300 > peers.json
    python scripts/bench_search.py stores/1 --growth stores/4 stores/16 --plot growth.png
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_contest import Contestant, build, refusal, take_turns
from bench_corpus import Corpus, Peer
from bench_machine import Meter, count, describe_machine, finish, ratios
from bench_peers import make_peers
from search_tables import growth_table, series_of, table

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import InputError, StoreError
from patchcollide.io.files import read_json
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.planning.footprint import Workload, engine_bytes
from patchcollide.retrieval.searcher import SearchResult
from patchcollide.store.index_files import ABOUT_FILE
from patchcollide.store.manifest import SHARD_FILES
from patchcollide.store.reader import PatchStore

ENGINES = ("exact", "certified", "ann")
PEERS = tuple(make_peers("cpu", components=1))


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
        engines = self._engines()
        for _ in range(self.arguments.repeat):
            take_turns(engines.values(), len(self.sources))
        peers, skipped = self._peers(engines)
        known = {name: engine.summary() for name, engine in engines.items()}
        return {
            "store": str(self.store.path),
            "num_images": self.store.num_images,
            "num_patches": self.store.num_patches,
            "num_queries": len(self.queries[0]),
            "sources": self.sources.tolist(),
            "k": self.arguments.k,
            "engines": known,
            "peers": peers,
            "skipped": skipped,
            # How many times longer a peer takes.
            "ratios": {
                name: {
                    other: ratios(peer["seconds"], engine["seconds"])
                    for other, engine in known.items()
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
        return {"recall": min(shares), "recall_mean": float(np.mean(shares)), "recalls": shares}

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

    def _config(self, engine: str, *more: str) -> Config:
        """Returns the settings, those of the index as it was built."""
        overrides = [f"retrieval.engine={engine}", f"retrieval.device={self.arguments.device}"]
        about = self.store.path / ABOUT_FILE
        if about.exists():
            built = read_json(about, error=StoreError)["build"]["index"]
            overrides += [f"index.{key}={json.dumps(value)}" for key, value in built.items()]
        return load_config(overrides=[*overrides, *self.arguments.set, *more])

    def _engine_search(
        self, name: str, store: PatchStore, *overrides: str
    ) -> Callable[[], list[SearchResult]]:
        searcher, k = open_searcher(self._config(name, *overrides), store), self.arguments.k
        # Others have no patches of any of the sources either.
        return lambda: [searcher.search(queries, k, self.sources) for queries in self.queries]

    def _engines(self) -> dict[str, Contestant]:
        known_first = sorted(ENGINES, key=lambda name: name != self.arguments.reference)
        engines = {}
        for name in known_first:
            if name not in self.arguments.engines:
                continue
            for number in self.arguments.candidates if name == "ann" else []:
                engines[f"{name} {number}"] = self._engine(name, f"index.rerank={number}")
            if name not in {each.partition(" ")[0] for each in engines}:
                engines[name] = self._engine(name)
        return engines

    def _engine(self, name: str, *overrides: str) -> Contestant:
        with Meter() as opening:
            search = self._engine_search(name, PatchStore.open(self.store.path), *overrides)
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
            "planned_bytes": self._planned_bytes(name, *overrides),
            "memory": {"opening": opening.memory(), "search": first.memory()},
        }
        return Contestant(lambda: [each.ids for each in search()], result)

    def _planned_bytes(self, name: str, *overrides: str) -> int:
        work = Workload(self._config(name, *overrides), self.store.num_images)
        return engine_bytes(work, len(self.queries[0]))[name]

    def _peers(self, engines: dict[str, Contestant]) -> tuple[dict[str, Any], dict[str, str]]:
        """Measures the peers that fit into memory; says why the others do not take part."""
        allowed = self.store.valid.copy()
        allowed[self.sources] = False
        corpus = Corpus(self.store, np.flatnonzero(allowed))
        known = make_peers(self.arguments.device, self._config("ann").index.components)
        measured: dict[str, Any] = {}
        skipped = {}
        for name in self.arguments.peers:
            # It goes, with its memory, before the next one comes.
            peer = known.pop(name)
            if reason := refusal(peer, corpus):
                skipped[name] = reason
                continue
            try:
                measured |= self._peer(name, peer, corpus)
            except TimeoutError as error:
                skipped[name] = str(error)
                continue
            take_turns(engines.values(), len(self.sources))
        return measured, skipped

    def _peer(self, name: str, peer: Peer, corpus: Corpus) -> dict[str, Any]:
        built = build(peer, corpus, 60 * self.arguments.longest)
        contestants = {}
        for breadth in peer.breadths:

            def search(breadth: int = breadth) -> list[np.ndarray]:
                k = self.arguments.k
                return [corpus.ids(peer.search(some, k, breadth)) for some in self.queries]

            with Meter() as first:
                found = search()
            result = {
                **built,
                "breadth": breadth,
                "first_seconds": first.seconds / len(self.sources),
                **self.recalls(found),
                "memory": {"building": built["memory"], "search": first.memory()},
            }
            label = f"{name} {breadth}" if len(peer.breadths) > 1 else name
            contestants[label] = Contestant(search, result)
        for _ in range(self.arguments.repeat):
            take_turns(contestants.values(), len(self.sources))
        return {label: contestant.summary() for label, contestant in contestants.items()}


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
    parser.add_argument("--candidates", type=count, nargs="+", default=[], help="of ann, in turn")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS))
    parser.add_argument("--longest", type=float, default=15, help="minutes a peer may build")
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

        write_growth_chart(arguments.plot, series_of(results))
    tables = [*table(results), *growth_table(results)]
    return {
        "benchmark": "search",
        "machine": describe_machine(),
        "arguments": json.loads(json.dumps(vars(arguments), default=str)),
        "results": results,
        "table": tables,
    }


if __name__ == "__main__":
    finish(main)
