"""Bounds features at layers of networks for digits, with the default settings and no others.

Prints one JSON document, with Markdown tables under ``table``: a line a layer over pairs and seeds;
and, of one seed, beside images for the class alone (``--method class``), whose features are free.
Pairs are test digits of different classes, drawn by number. Networks are trained once, into OUT.

    python scripts/bench_tightness.py --data mnist --out tightness
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import count, describe_machine, finish

from patchcollide.api import find_polytope
from patchcollide.errors import InputError
from patchcollide.evaluation.dataset import mean_pair_distance
from patchcollide.images.digits import Digits, read_digits
from patchcollide.networks.models.training import TrainingOptions, train
from patchcollide.polytope import Polytope

LAYERS = {"mlp": ("fc1", "fc2"), "lenet5": ("conv2", "fc1", "fc2")}
_DATASET_IMAGES, _DATASET_PAIRS = 512, 1000
_HEADER = """\
| network, layer | runs | feature collisions at 0.1 | target's class, least | tau max | \
apart, of the data set's | from the source | steps | seconds |
|---|---|---|---|---|---|---|---|---|"""
_CLASS_HEADER = """\
| network, layer | pair | features bound: tau mean, max | apart | class alone: tau mean, max \
| apart |
|---|---|---|---|---|---|"""


def pair_of(digits: Digits, number: int) -> tuple[int, int]:
    """Returns the indices of two digits of different classes, decided by a number."""
    rng = np.random.default_rng([7, number])
    while True:
        first, second = map(int, rng.choice(len(digits.images), 2, replace=False))
        if digits.labels[first] != digits.labels[second]:
            return first, second


def measure(polytope: Polytope, samples: int, distance: float) -> dict[str, Any]:
    """Returns what is said of a polytope: of its samples, and of its vertices."""
    summary = polytope.evaluate(num_samples=samples)
    hull = summary["tightness"]["hull"]
    return {
        "verdict": summary["tightness"]["verdict"],
        "success_rate": summary["success_rate"],
        "tau_mean": hull["tau_mean"],
        "tau_max": hull["tau_max"],
        "distance_share": summary["vertex_distance_mean"] / distance,
        "source_distance_share": summary["closeness"]["distance_mean"] / distance,
        "steps": summary["steps"],
    }


def span(rows: list[dict[str, Any]], key: str, form: str, factor: float = 1) -> str:
    """Returns the least and the most of a figure."""
    values = [factor * row[key] for row in rows]
    return f"{form} to {form}".format(min(values), max(values))


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """Returns a line of the first table."""
    held = sum(row["verdict"] == "feature collision" for row in rows)
    cells = [
        name,
        str(len(rows)),
        str(held),
        f"{100 * min(row['success_rate'] for row in rows):.1f} %",
        span(rows, "tau_max", "{:.3f}"),
        span(rows, "distance_share", "{:.0f}", 100) + " %",
        span(rows, "source_distance_share", "{:.0f}", 100) + " %",
        span(rows, "steps", "{:.0f}"),
        span(rows, "seconds", "{:.1f}"),
    ]
    return f"| {' | '.join(cells)} |"


def class_line(name: str, pair: int, bound: dict[str, Any], free: dict[str, Any]) -> str:
    """Returns a line of the second table: the same pair with features bound, and with them free."""
    cells = [name, str(pair)]
    for row in (bound, free):
        cells += [f"{row['tau_mean']:.3f}, {row['tau_max']:.3f}"]
        cells += [f"{100 * row['distance_share']:.0f} %"]
    return f"| {' | '.join(cells)} |"


class Bench:
    """Digits, trained networks and the settings.

    Args:
        arguments: Those of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        arguments.out.mkdir(parents=True, exist_ok=True)
        self._weights = {
            name: train(
                TrainingOptions(name, epochs=arguments.epochs),
                arguments.data,
                arguments.out / f"{name}.safetensors",
            )
            for name in LAYERS
        }
        self._digits = read_digits(arguments.data, "test")
        chosen = np.random.default_rng(0).permutation(len(self._digits.images))[:_DATASET_IMAGES]
        images = [self._digits.images[index] for index in chosen]
        distance = mean_pair_distance(images, _DATASET_PAIRS, 0)
        if distance is None:
            raise InputError(f"{arguments.data} holds one test digit, but a pair needs two.")
        self.distance = distance

    def run(self, network: str, layer: str, pair: int, seed: int, *more: str) -> dict[str, Any]:
        """Returns the figures of one polytope."""
        source, target = (self._digits.images[i] for i in pair_of(self._digits, pair))
        settings = [f'network.weights="{self._weights[network]}"', *more, *self._arguments.set]
        started = time.perf_counter()
        found = find_polytope(network, layer, source, target, settings=settings, seed=seed)
        about = {"pair": pair, "seed": seed, "seconds": time.perf_counter() - started}
        return about | measure(found, self._arguments.samples, self.distance)


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="MNIST's four files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=count, default=3)
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--samples", type=count, default=2000)
    parser.add_argument("--epochs", type=count, default=10)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    bench = Bench(arguments)
    pairs, seeds = range(arguments.pairs), range(arguments.seeds)
    results: dict[str, Any] = {}
    lines, class_lines = _HEADER.splitlines(), _CLASS_HEADER.splitlines()
    for network, layers in LAYERS.items():
        for layer in layers:
            name = f"{network} {layer}"
            rows = [bench.run(network, layer, pair, seed) for pair in pairs for seed in seeds]
            results[name] = {"bound": rows, "class": []}
            lines.append(line(name, rows))
        # At the last of the network's layers.
        for pair in pairs:
            free = bench.run(network, layer, pair, 0, "method=class")
            results[name]["class"].append(free)
            bound = next(row for row in rows if (row["pair"], row["seed"]) == (pair, 0))
            class_lines.append(class_line(name, pair, bound, free))
    return {
        "machine": describe_machine(),
        "seed": f"0 to {arguments.seeds - 1}",
        "dataset_distance_mean": bench.distance,
        "results": results,
        "table": [*lines, "", *class_lines],
    }


if __name__ == "__main__":
    finish(main)
