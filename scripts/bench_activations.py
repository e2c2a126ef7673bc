"""Measures how large exact polytopes are by activation: an MLP trained with each, on digits.

Prints one JSON document, with a Markdown table under ``table``, which is also in OUT/table.md. Only
linear programs: of some test digits, at the first layer, without a tolerance where the activation
is exactly constant somewhere, and with each tolerance. What is finished is not made again.

    python scripts/bench_activations.py --data mnist --out activations --tolerance 0.01 0.1
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_machine import count, describe_machine, finish
from inner_hulls import mean_distance

from patchcollide.config_files import load_config
from patchcollide.errors import RunError
from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.images.digits import Digits, read_digits
from patchcollide.io.files import read_json, write_json, write_text
from patchcollide.networks.activations import blind_regions
from patchcollide.networks.models.digit_networks import ACTIVATIONS, load_digit_network
from patchcollide.networks.models.training import TrainingOptions, train
from patchcollide.networks.models.weights import read_metadata
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.exact import target_polytope
from patchcollide.polyhedra.extents import find_far_pair
from patchcollide.polyhedra.proposition1 import examine
from patchcollide.randomness import seeded

NUM_VERTICES = 5
NUM_SAMPLES = 500
_HEADER = """\
| activation | test accuracy | tolerance | of the outputs' deviation | equations | half-lines | \
dimension | five vertices | far pair | in the class |
|---|---|---|---|---|---|---|---|---|---|"""


def choose_targets(digits: Digits, wanted: int) -> list[int]:
    """Returns the first digit of each of the classes met first, then their second ones, ..."""
    found = [np.flatnonzero(digits.labels == label).tolist() for label in range(10)]
    places = [each for each in found if each]
    places.sort(key=lambda each: each[0])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*places))
    return list(itertools.islice((place for place in turns if place is not None), wanted))


def data_distance(digits: Digits, seed: int) -> float:
    """Returns the mean L2 distance of 1000 random pairs, pixels in 0..1."""
    rng = np.random.default_rng([seed, 4])
    images = digits.images.reshape(len(digits), -1) / 255
    pairs = [rng.choice(len(images), 2, replace=False) for _ in range(1000)]
    return float(
        np.mean([np.linalg.norm(images[first] - images[second]) for first, second in pairs])
    )


def output_deviation(network: CollisionNetwork, digits: Digits) -> float:
    """Returns the standard deviation of the layer's activations over 1000 digits."""
    batch = torch.from_numpy(digits.images[:1000].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        outputs = network.blind.respond(network.pre_activation(batch))
    return float(outputs.std())


def measure_target(
    network: CollisionNetwork, picture: np.ndarray, seed: int, num_starts: int
) -> dict[str, Any]:
    """Measures the polytope of one digit; distances are of pixels in 0..1."""
    begun = time.perf_counter()
    target = Target.of_picture(network, picture)
    exact = target_polytope(load_config(), network, target, None)
    polytope, rng = exact.polytope, np.random.default_rng([seed, 8])
    images = np.stack([each.image for each in polytope.random_vertices(NUM_VERTICES, rng)])
    weights = uniform_weights(NUM_SAMPLES, NUM_VERTICES, seeded(seed, 3)).numpy()
    double = network.in_float64()
    shape = (-1, network.channels, network.input_size, network.input_size)
    with torch.no_grad():
        classes = double(torch.from_numpy((weights @ images).reshape(shape))).logits.argmax(dim=1)
    endless = np.isinf(polytope.lower) | np.isinf(polytope.upper)
    dimension = None
    if (polytope.lower == polytope.upper).any():
        bounds = polytope.lower, polytope.upper
        found = examine(
            polytope.matrix, polytope.offset, *bounds, exact.image, input_range=(0.0, 1.0)
        )
        dimension = found.dimension
    return {
        "equations": int((polytope.lower == polytope.upper).sum()),
        "half_lines": int(endless.sum()),
        "dimension": dimension,
        "vertex_distance": mean_distance(images),
        "far_distance": find_far_pair(polytope, rng, num_starts).distance,
        "in_class": float((classes == target.class_index).double().mean()),
        "seconds": time.perf_counter() - begun,
    }


def measure(
    arguments: argparse.Namespace, activation: str, tolerance: float, digits: Digits, scale: float
) -> dict[str, Any]:
    """Trains with an activation and measures all targets, unless that was done."""
    out, targets = arguments.out, choose_targets(digits, arguments.targets)
    weights = train(
        TrainingOptions("mlp", activation, arguments.epochs, arguments.seed),
        arguments.data,
        out / f"{activation}.safetensors",
    )
    network = load_digit_network("mlp", weights=str(weights), tolerance=tolerance)
    about = {
        "network": network.digest,
        "tolerance": tolerance,
        "targets": targets,
        "seed": arguments.seed,
        "starts": arguments.starts,
    }
    path = out / f"{activation}-{tolerance:g}.json"
    if path.exists():
        kept = read_json(path, error=RunError)
        if kept["about"] == about:
            found: dict[str, Any] = kept["row"]
            return found
    each = [
        measure_target(network, digits.images[place], arguments.seed, arguments.starts)
        for place in targets
    ]
    means = {
        name: float(np.mean([one[name] for one in each]))
        for name in ("equations", "half_lines", "in_class", "seconds")
    }
    dimensions = [one["dimension"] for one in each if one["dimension"] is not None]
    row = {
        "activation": activation,
        "test_accuracy": float(read_metadata(weights)["test_accuracy"]),
        "tolerance": tolerance,
        "tolerance_share": tolerance / output_deviation(network, digits),
        **means,
        "dimension": float(np.mean(dimensions)) if dimensions else None,
        "vertex_distance_share": float(np.mean([one["vertex_distance"] for one in each])) / scale,
        "far_distance_share": float(np.mean([one["far_distance"] for one in each])) / scale,
        "targets": each,
    }
    write_json(path, {"about": about, "row": row})
    return row


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown: a line a row."""
    lines = _HEADER.split("\n")
    for row in rows:
        cells = [
            row["activation"],
            f"{100 * row['test_accuracy']:.2f} %",
            f"{row['tolerance']:g}",
            f"{100 * row['tolerance_share']:.1f} %" if row["tolerance"] else "-",
            f"{row['equations']:.0f}",
            f"{row['half_lines']:.0f}",
            "-" if row["dimension"] is None else f"{row['dimension']:.0f}",
            f"{100 * row['vertex_distance_share']:.0f} %",
            f"{100 * row['far_distance_share']:.0f} %",
            f"{100 * row['in_class']:.1f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="MNIST's folder; without, scikit-learn's digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tolerance", type=float, nargs="+", default=[0.01])
    parser.add_argument("--targets", type=count, default=5)
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=[*ACTIVATIONS])
    parser.add_argument("--epochs", type=count)
    parser.add_argument("--starts", type=count, default=1, help="of the way to the far pair")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    digits = read_digits(arguments.data, "test")
    scale = data_distance(digits, arguments.seed)
    rows = [
        measure(arguments, activation, tolerance, digits, scale)
        for activation in arguments.activations
        for tolerance in dict.fromkeys([0.0, *arguments.tolerance])
        if blind_regions(ACTIVATIONS[activation](), tolerance) is not None
    ]
    lines = table(rows)
    write_text(arguments.out / "table.md", "\n".join(lines) + "\n")
    return {
        "machine": describe_machine(),
        "data": digits.name,
        "seed": arguments.seed,
        "dataset_distance_mean": scale,
        "rows": rows,
        "table": lines,
    }


if __name__ == "__main__":
    finish(main)
