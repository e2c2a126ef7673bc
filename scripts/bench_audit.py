"""Measures whether an audit finds mislabelled training examples, planted among digits.

Prints one JSON document, with a Markdown table under ``table``, which is also in OUT/table.md. A
share of some training digits gets wrong labels; an MLP learns from all of them for few and for many
epochs; its training digits are audited in the folders of their labels, right or wrong. What is
finished is not made again.

    python scripts/bench_audit.py --data mnist --out audit --epochs 8 60
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import count, describe_machine, finish

from patchcollide import pipeline
from patchcollide.audit.files import open_audit
from patchcollide.config_files import load_config
from patchcollide.evaluation.intervals import area_interval, area_under_roc
from patchcollide.images.bundled import write_tree
from patchcollide.images.digits import NUM_CLASSES, Digits, read_digits
from patchcollide.images.pictures import png_bytes
from patchcollide.io.files import write_text
from patchcollide.networks.models.training import measure_accuracy, train_digit_network
from patchcollide.networks.models.weights import write_weights
from patchcollide.report.tables import markdown

MARKER = "planted.json"
SCORES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "audit: size unlike the class's": lambda row: abs(row["size_z"]),
    "audit: size": lambda row: row["size"],
    "audit: label doubted in the polytope": lambda row: row["label_doubt"],
    "baseline: loss": lambda row: -math.log(max(row["label_probability"], 1e-300)),
    "baseline: 1 - probability of the predicted class": lambda row: 1 - row["probability"],
    "baseline: predicted otherwise": lambda row: float(not row["agrees"]),
}
"""What ranks images, higher for what is more likely mislabelled."""


def plant(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns labels of which a share, drawn at random, is any other class, each alike likely."""
    planted = labels.copy()
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    planted[chosen] = (labels[chosen] + rng.integers(1, NUM_CLASSES, len(chosen))) % NUM_CLASSES
    return planted


def planted_digits(arguments: argparse.Namespace) -> tuple[Digits, np.ndarray]:
    """Returns training digits with wrong labels among them, and which labels are wrong."""
    digits = read_digits(arguments.data, "train")
    rng = np.random.default_rng([arguments.seed, 16])
    chosen = np.sort(rng.permutation(len(digits))[: arguments.train])
    right = digits.labels[chosen]
    labels = plant(right, arguments.share, rng)
    return replace(digits, images=digits.images[chosen], labels=labels), labels != right


def train(
    arguments: argparse.Namespace, learned: Digits, epochs: int
) -> tuple[Path, dict[str, float]]:
    """Trains on the labels as they are, unless it was done; returns the weights' file."""
    test = read_digits(arguments.data, "test")
    path = arguments.out / f"mlp-{epochs}.safetensors"
    trained = train_digit_network("mlp", "relu", learned, test, epochs=epochs, seed=arguments.seed)
    about = {"network": "mlp", "activation": "relu"}
    if not path.exists():
        write_weights(path, trained.module, about)
    return path, {
        "test_accuracy": trained.test_accuracy,
        "accuracy_on_given_labels": measure_accuracy(trained.module, learned),
    }


def judge(
    rows: Sequence[Mapping[str, Any]], wrong: dict[str, bool], seed: int
) -> list[dict[str, Any]]:
    """Returns how well each score ranks mislabelled images before others."""
    positives = np.array([wrong[row["name"]] for row in rows])
    found = []
    for name, score in SCORES.items():
        scores = np.array([score(row) for row in rows])
        area = area_under_roc(scores, positives)
        interval = area_interval(scores, positives, np.random.default_rng([seed, 17]))
        found.append({"score": name, "area": area, "interval": interval})
    return found


def measure(arguments: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """Plants, trains, audits and judges."""
    learned, is_wrong = planted_digits(arguments)
    names = [f"{label}/{number:05d}.png" for number, label in enumerate(learned.labels)]
    folder = arguments.out / "digits"
    settings = {
        "encoding-type": "planted digits",
        "encoding-version": 1,
        "data": learned.name,
        "train": arguments.train,
        "share": arguments.share,
        "seed": arguments.seed,
    }
    contents = ((name, png_bytes(image)) for name, image in zip(names, learned.images, strict=True))
    write_tree(folder, MARKER, settings, contents)
    weights, accuracy = train(arguments, learned, epochs)
    config = load_config(
        overrides=[
            "network.name=mlp",
            f'network.weights="{weights}"',
            f"seed={arguments.seed}",
            f"audit.per_class={arguments.per_class}",
            *arguments.set,
        ]
    )
    audit = open_audit(pipeline.audit(config, folder, arguments.out / f"audit-{epochs}"))[1]
    wrong = dict(zip(names, is_wrong.tolist(), strict=True))
    rows = audit["images"]
    planted = [row for row in rows if wrong[row["name"]]]
    suspects = {each["name"] for each in audit["suspects"]}
    return {
        "epochs": epochs,
        "num_images": len(rows),
        "num_mislabelled": len(planted),
        **accuracy,
        "memorised": float(np.mean([row["agrees"] for row in planted])),
        "suspects": len(suspects),
        "suspects_mislabelled": sum(row["name"] in suspects for row in planted),
        "seconds": audit["seconds"],
        "scores": judge(rows, wrong, arguments.seed),
    }


def table(runs: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown: a line a score, a column a training."""
    heads = [
        f"{run['epochs']} epochs ({100 * run['memorised']:.0f} % of the "
        f"{run['num_mislabelled']} wrong labels learned)"
        for run in runs
    ]
    scores = zip(*(run["scores"] for run in runs), strict=True)
    rows = [[line[0]["score"], *map(_area, line)] for line in scores]
    return markdown([["score", *heads], *rows]).splitlines()


def _area(judged: dict[str, Any]) -> str:
    between = judged["interval"]
    around = f"{between[0]:.3f} to {between[1]:.3f}" if between else "no interval"
    return f"{judged['area']:.3f} ({around})"


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="MNIST's folder; without, scikit-learn's digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=count, default=5000, help="how many digits to learn from")
    parser.add_argument("--share", type=float, default=0.1, help="of labels that are wrong")
    parser.add_argument("--epochs", type=count, nargs="+", default=[8, 60])
    parser.add_argument("--per-class", type=count, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = [measure(arguments, epochs) for epochs in arguments.epochs]
    lines = table(runs)
    write_text(arguments.out / "table.md", "\n".join(lines) + "\n")
    return {
        "machine": describe_machine(),
        "seed": arguments.seed,
        "share": arguments.share,
        "train": arguments.train,
        "runs": runs,
        "table": lines,
    }


if __name__ == "__main__":
    finish(main)
