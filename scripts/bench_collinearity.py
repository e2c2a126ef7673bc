"""Measures what discouraging nearly collinear hyperplanes does: to accuracy, and to polytopes.

Prints one JSON document, with a Markdown table under ``table``, which is also in OUT/table.md. For
each weight of the penalty and each seed an MLP is trained; then, for the first test digits of
different classes, the exact polytope at its first layer is measured by linear programs, and our
descent (configs/mnist.toml) looks for vertices from another digit. A weight and a seed are a cell;
finished cells are lines of OUT/cells.jsonl and are not made again.

    python scripts/bench_collinearity.py --data mnist --out collinearity --weights 0 1 10
"""

import argparse
import contextlib
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_activations import choose_targets, data_distance
from bench_machine import count, describe_machine, finish
from inner_hulls import mean_distance

from patchcollide import pipeline
from patchcollide.config_files import builtin_config, load_config
from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.images.digits import Digits, read_digits, write_digits
from patchcollide.io.files import write_text
from patchcollide.io.provenance import fingerprint
from patchcollide.networks.models.digit_networks import load_digit_network
from patchcollide.networks.models.regularisers import mean_squared_cosine
from patchcollide.networks.models.training import TrainingOptions, train
from patchcollide.networks.models.weights import read_metadata
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.exact import target_polytope
from patchcollide.polyhedra.extents import find_chebyshev_centre
from patchcollide.polyhedra.proposition1 import examine
from patchcollide.randomness import seeded
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary

NUM_VERTICES = 5
NUM_SAMPLES = 500
NUM_PIXELS = 4
_COLUMNS = {
    "weight": None,
    "test accuracy": ("test_accuracy", 100, "{:.2f} ± {:.2f} %"),
    "mean squared cosine, fc1": ("cosine_fc1", 1, "{:.5f} ± {:.5f}"),
    "fc2": ("cosine_fc2", 1, "{:.5f} ± {:.5f}"),
    "equations": ("equations", 1, "{:.0f} ± {:.0f}"),
    "dimension": ("dimension", 1, "{:.0f} ± {:.0f}"),
    "five vertices": ("vertex_distance_share", 100, "{:.1f} ± {:.1f} %"),
    "pixel width": ("pixel_width", 100, "{:.1f} ± {:.1f} %"),
    "ball": ("ball_radius", 1, "{:.3f} ± {:.3f}"),
    "in the class": ("in_class", 100, "{:.1f} ± {:.1f} %"),
    "search: in the class": ("search_success", 100, "{:.1f} ± {:.1f} %"),
    "steps": ("search_steps", 1, "{:.0f} ± {:.0f}"),
    "vertices": ("search_distance_share", 100, "{:.1f} ± {:.1f} %"),
}


def measure_polytope(
    network: CollisionNetwork, picture: np.ndarray, scale: float, seed: int
) -> dict[str, float | None]:
    """Measures the exact polytope of one digit at the first layer; ``scale`` is the data set's."""
    target = Target.of_picture(network, picture)
    exact = target_polytope(load_config(), network, target, None)
    polytope, rng = exact.polytope, np.random.default_rng([seed, 8])
    images = np.stack([each.image for each in polytope.random_vertices(NUM_VERTICES, rng)])
    weights = uniform_weights(NUM_SAMPLES, NUM_VERTICES, seeded(seed, 3)).numpy()
    shape = (-1, network.channels, network.input_size, network.input_size)
    with torch.no_grad():
        samples = torch.from_numpy((weights @ images).reshape(shape))
        classes = network.in_float64()(samples).logits.argmax(dim=1)
    bounds = polytope.lower, polytope.upper
    theory = examine(polytope.matrix, polytope.offset, *bounds, exact.image, input_range=(0.0, 1.0))
    pixels = np.linspace(0, len(exact.image) - 1, NUM_PIXELS + 2).round().astype(np.int64)[1:-1]
    return {
        "equations": int((polytope.lower == polytope.upper).sum()),
        "dimension": theory.dimension,
        "vertex_distance_share": mean_distance(images) / scale,
        "pixel_width": float(polytope.pixel_widths(pixels).mean()),
        "ball_radius": find_chebyshev_centre(polytope).radius,
        "in_class": float((classes == target.class_index).double().mean()),
    }


class Bench:
    """The digits, and what is measured of each cell.

    Args:
        arguments: Those of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        arguments.out.mkdir(parents=True, exist_ok=True)
        self.test: Digits = read_digits(arguments.data, "test")
        self.targets = choose_targets(self.test, arguments.targets)
        self.scale = data_distance(self.test, 0)
        write_digits(self._folder, self.test, max(self._pair()) + 1)

    @property
    def _folder(self) -> Path:
        out: Path = self.arguments.out
        return out / "digits"

    def _pair(self) -> tuple[int, int]:
        """Returns the first digit, and the first of another class."""
        first, second = choose_targets(self.test, 2)
        return first, second

    def _file(self, place: int) -> Path:
        return self._folder / str(self.test.labels[place]) / f"test-{place:05d}.png"

    def cell(self, weight: float, seed: int) -> dict[str, Any]:
        """Trains with a weight and a seed, and measures."""
        begun = time.perf_counter()
        name = f"{weight:g}-{seed}"
        weights = train(
            TrainingOptions("mlp", "relu", self.arguments.epochs, seed, weight),
            self.arguments.data,
            self.arguments.out / f"{name}.safetensors",
        )
        network = load_digit_network("mlp", weights=str(weights))
        each = [
            measure_polytope(network, self.test.images[place], self.scale, seed)
            for place in self.targets
        ]
        return {
            "test_accuracy": float(read_metadata(weights)["test_accuracy"]),
            **{
                f"cosine_{layer}": mean_squared_cosine(
                    network.module.get_parameter(f"{layer}.weight").double()
                ).item()
                for layer in ("fc1", "fc2")
            },
            **{key: float(np.mean([one[key] for one in each])) for key in each[0]},
            **self._search(weights, name, seed),
            "seconds": time.perf_counter() - begun,
        }

    def _search(self, weights: Path, name: str, seed: int) -> dict[str, float]:
        """Looks for vertices by gradients, from a digit of another class."""
        target, source = map(self._file, self._pair())
        settings = [f'network.weights="{weights}"', f"seed={seed}", "network.min_confidence=0"]
        config = load_config(builtin_config("mnist"), [*settings, *self.arguments.set])
        folder = self.arguments.out / f"search-{name}"
        pipeline.collide(config, source, target, folder)
        found = read_summary(open_run(folder))
        return {
            "search_success": found["success_rate"],
            "search_steps": found["steps"],
            "search_distance_share": found["vertex_distance_mean"] / (255 * self.scale),
        }


def finished_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the cells that are finished; a line that was cut off is no cell."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def table(weights: list[float], cells: dict[tuple[float, int], dict[str, Any]]) -> list[str]:
    """Returns Markdown: a line a weight, means and standard deviations over its seeds."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for weight in weights:
        of_weight = [figures for (other, _), figures in cells.items() if other == weight]
        texts = [f"{weight:g}"]
        for key, factor, form in filter(None, _COLUMNS.values()):
            values = [factor * figures[key] for figures in of_weight]
            # One seed has no spread, rather than none at all.
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            text = form.format(statistics.mean(values), spread)
            texts.append(text.replace("nan", "unknown"))
        lines.append(f"| {' | '.join(texts)} |")
    return lines


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="MNIST's folder; without, scikit-learn's digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 0.1, 1, 10, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--targets", type=count, default=3)
    parser.add_argument("--epochs", type=count)
    parser.add_argument("--set", action="append", default=[], help="settings of the descent")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    bench = Bench(arguments)
    path = arguments.out / "cells.jsonl"
    options = {"epochs": arguments.epochs, "targets": bench.targets, "set": arguments.set}
    about = fingerprint({"data": bench.test.name, **options})
    lines = finished_lines(path)
    cells = {}
    # Seed by seed, so that a run that is stopped has something of every weight.
    for seed in arguments.seeds:
        for weight in arguments.weights:
            key = {"about": about, "weight": weight, "seed": seed}
            found = next((line for line in lines if line.items() >= key.items()), None)
            if found is None:
                found = {**key, "figures": bench.cell(weight, seed)}
                lines.append(found)
                write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
            cells[weight, seed] = found["figures"]
    rows = table(arguments.weights, cells)
    write_text(arguments.out / "table.md", "\n".join(rows) + "\n")
    return {
        "machine": describe_machine(),
        "data": bench.test.name,
        **options,
        "dataset_distance_mean": bench.scale,
        "cells": [
            {"weight": weight, "seed": seed, **figures} for (weight, seed), figures in cells.items()
        ],
        "table": rows,
    }


if __name__ == "__main__":
    finish(main)
