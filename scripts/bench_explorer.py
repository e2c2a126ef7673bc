"""Measures the explorer: requests of static parts a second, and how fast points are answered.

Starts the real server on a run, in a process of its own, asks it from this one and prints one JSON
document. The threads that ask share the cores with the server, so it could serve a little more.

    python scripts/bench_explorer.py runs/demo
"""

import argparse
import contextlib
import http.client
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from bench_machine import count, describe_machine, finish

from patchcollide.errors import WorkError
from patchcollide.runs.folder import open_run

PARTS = (
    "",
    "static/style.css",
    "static/simplex.js",
    "pictures/source.png",
    "pictures/vertex-0.png",
)


class Connection:
    """A connection that is kept, as a browser keeps it.

    Args:
        address: The explorer's, with its token.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._http = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        self._path = parts.path

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[float, int]:
        """Returns the seconds until the answer is whole, and its status."""
        begun = time.perf_counter()
        self._http.request(method, self._path + path, body)
        answer = self._http.getresponse()
        answer.read()
        return time.perf_counter() - begun, answer.status

    def close(self) -> None:
        """Ends it."""
        self._http.close()


@contextlib.contextmanager
def server_of(run: Path) -> Iterator[tuple[str, float]]:
    """Starts the explorer of a run; yields its address and the seconds until it was ready."""
    begun = time.perf_counter()
    words = [sys.executable, "-m", "patchcollide", "explore", str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            if not address:
                raise WorkError(f"`patchcollide explore {run}` did not start; see above.")
            yield address, time.perf_counter() - begun
        finally:
            server.terminate()


def static_parts(address: str, seconds: float, num_threads: int) -> dict[str, Any]:
    """Asks for the parts of the page in turn, from several connections, for so long."""
    end = time.perf_counter() + seconds

    def ask(_: int) -> list[tuple[float, int]]:
        found = []
        with contextlib.closing(Connection(address)) as connection:
            for path in itertools.cycle(PARTS):
                found.append(connection.ask("GET", path))
                # Once at least: on a busy machine the time may be up before a thread begins.
                if time.perf_counter() > end:
                    return found
        return found

    return _all_at_once(ask, num_threads)


def points(address: str, num_vertices: int, num_threads: int, each: int) -> dict[str, Any]:
    """Asks for random points, each of so many threads one after the other."""

    def ask(seed: int) -> list[tuple[float, int]]:
        rng = np.random.default_rng(seed)
        with contextlib.closing(Connection(address)) as connection:
            return [
                connection.ask("POST", "api/point", json.dumps({"weights": weights}).encode())
                for weights in rng.dirichlet(np.ones(num_vertices), each).tolist()
            ]

    return _all_at_once(ask, num_threads)


def _all_at_once(ask: Callable[[int], list[tuple[float, int]]], num_threads: int) -> dict[str, Any]:
    begun = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as threads:
        found = list(itertools.chain.from_iterable(threads.map(ask, range(num_threads))))
    spent = time.perf_counter() - begun
    milliseconds = sorted(1000 * seconds for seconds, _ in found)
    return {
        "connections": num_threads,
        "requests": len(found),
        "errors": sum(status != 200 for _, status in found),
        "requests_per_second": len(found) / spent,
        "milliseconds": {
            "best": milliseconds[0],
            "median": statistics.median(milliseconds),
            "95 %": milliseconds[int(0.95 * (len(milliseconds) - 1))],
            "worst": milliseconds[-1],
        },
    }


def table(network: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """Returns Markdown: a line each for points one by one, points at once, and static parts."""
    lines = [f"| {network} | median | 95 % | a second | errors |", "|---|---|---|---|---|"]
    for name, of_it in found.items():
        spent = of_it["milliseconds"]
        lines.append(
            f"| {name.replace('_', ' ')}, connections: {of_it['connections']} "
            f"| {spent['median']:.3g} ms | {spent['95 %']:.3g} ms "
            f"| {of_it['requests_per_second']:.0f} | {of_it['errors']} |"
        )
    return lines


def main() -> dict[str, Any]:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("--seconds", type=float, default=5.0, help="of static parts")
    parser.add_argument("--threads", type=count, default=8, help="that ask for static parts")
    parser.add_argument("--concurrent", type=count, default=20, help="points asked for at once")
    parser.add_argument("--rounds", type=count, default=5, help="points of each thread")
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    num_vertices = run.config.optimiser.num_vertices
    with server_of(arguments.run) as (address, ready):
        # The first answers find the memory that later ones use again.
        points(address, num_vertices, 1, 3)
        network, rounds = run.inputs["network"], arguments.rounds
        found = {
            "points_one_by_one": points(address, num_vertices, 1, 8 * rounds),
            "points_at_once": points(address, num_vertices, arguments.concurrent, rounds),
            "static_parts": static_parts(address, arguments.seconds, arguments.threads),
        }
        return {
            "machine": describe_machine(),
            "network": network,
            "seconds_to_start": ready,
            **found,
            "table": table(network, found),
        }


if __name__ == "__main__":
    finish(main)
