"""Makes collisions of pairs of images by every method, and measures each the same way.

Prints one JSON document, and the same as a table in Markdown to standard error or ``--markdown``.
The photographs come with the libraries; digits are the first 3 and the first 7 of MNIST's test
digits, or scikit-learn's, and a network is trained for them. Finished runs are not made again.

    python scripts/bench_baselines.py --out baselines
    python scripts/bench_baselines.py --out baselines --pairs 1 --methods features polytope
    python scripts/bench_baselines.py --out baselines --digits --data MNIST
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import count, describe_machine, finish

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.errors import DataError, InputError
from patchcollide.evaluation.summary import Summary
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.images.photographs import photograph, write_photographs
from patchcollide.io.files import write_text
from patchcollide.networks.models.training import TrainingOptions, train
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary

#: Sources and targets; EfficientNet-Lite0 is sure of these targets: 0.940, 0.949 and 0.722.
PAIRS = (("chelsea", "coffee"), ("astronaut", "camera"), ("rocket", "motorcycle_left"))

#: Of each method, its variants: a name, and settings. No layer of convolutions that widen has a
#: null space, so it is tried where a stride leaves one, too.
VARIANTS: dict[str, dict[str, list[str]]] = {
    "polytope": {"polytope": []},
    "class": {"class": []},
    "features": {"features": [], "features, from target": ["baselines.start=target"]},
    "metamer": {"metamer": []},
    "null_space": {
        "null space": [],
        "null space, blocks.5.0": ["network.layer=blocks.5.0.bn2.act"],
    },
    "adversarial": {"adversarial": []},
    "level_set": {"level set": []},
    "plenoptic": {"plenoptic": []},
}
#: Of digits; their null space is that of the layer itself.
DIGIT_VARIANTS: dict[str, dict[str, list[str]]] = {
    "polytope": {"polytope": []},
    "class": {"class": []},
    "features": {
        "features": [],
        "features, learning rate 0.1": ["optimiser.learning_rate=0.1"],
        "features, from target with noise": ["baselines.start=target", "optimiser.start_noise=5"],
    },
    "metamer": {"metamer": []},
    "null_space": {"null space": []},
    "adversarial": {
        "adversarial, 8 levels": ["baselines.radius=8"],
        "adversarial, 64 levels": ["baselines.radius=64"],
    },
    "level_set": {"level set": []},
    "plenoptic": {"plenoptic": []},
}
DIGIT_PAIR = ("3", "7")
DIGIT_SETTINGS = [
    "network.name=mlp",
    "network.layer=fc1",
    "optimiser.check_every=50",
    "evaluation.num_samples=200",
]
_NUM_DIGITS = 300
SETTINGS = [
    "optimiser.steps=200",
    "optimiser.check_every=20",
    "optimiser.validation_samples=32",
    "evaluation.num_samples=200",
    "evaluation.dataset_pairs=100",
    "evaluation.null_images=8",
]

COLUMNS = {
    "steps": "steps",
    "seconds": "seconds",
    "gap": "tau, mean of images",
    "tau_max": "tau, largest of samples",
    "violation_share": "inactive that respond",
    "violation_max": "largest response",
    "success_rate": "hull collides",
    "vertex_distance_mean": "vertex L2",
    "distance_share": "of data set",
    "source_share": "from the source, of data set",
    "visible_share": "pixels that differ by more than 8",
    "classes": "where images end",
    "slack_median": "median slack",
    "on_boundary_share": "on the boundary",
    "dead_share": "active but dead",
}
_PERCENT: tuple[str, ...] = ("violation_share", "success_rate", "distance_share", "visible_share")
_PERCENT += ("on_boundary_share", "dead_share", "source_share")


Pictures = tuple[tuple[str, Path], tuple[str, Path]]


def measure(
    pair: Pictures, variant: str, overrides: list[str], images: Path, out: Path
) -> dict[str, Any]:
    """Makes a run, unless it is there, and returns its numbers, or why it cannot be made."""
    (source, source_path), (target, target_path) = pair
    about = {"source": source, "target": target, "variant": variant}
    folder = out / f"{source}-{target}-{variant.replace(', ', '-').replace(' ', '_')}"
    config = load_config(overrides=overrides)
    try:
        pipeline.collide(config, source_path, target_path, folder, images=images)
    except InputError as error:
        return about | {"refused": str(error)}
    return about | figures(read_summary(open_run(folder)))


def figures(summary: Summary) -> dict[str, Any]:
    """Returns what the table shows of a run: means over its images, but for the largest response.

    Gaps and the boundary are those of the images in 8 bits, as the PNG files hold them.
    """
    certificate = summary["certificate"]
    gaps, boundary = certificate["vertices"], certificate["boundary"]
    ends = [vertex["class_name"].split(",")[0] for vertex in summary["vertices"]]
    dataset = summary["dataset_distance_mean"]
    if dataset is None:
        raise DataError("These runs need a data set's distance. Give at least two images.")
    return {
        "layer": summary["layer"],
        "target_class": summary["target_class_name"].split(",")[0],
        "source_class": summary["source_class_name"].split(",")[0],
        "target_probability": summary["target_probability"],
        "steps": summary["steps"],
        "seconds": summary["seconds"]["optimise"],
        "gap": gaps["feature_distance_relative"]["mean"],
        "tau_max": summary["tightness"]["hull"]["tau_max"],
        "violation_share": gaps["inactive_response_share"]["mean"],
        "violation_max": gaps["inactive_response_max"]["max"],
        "success_rate": summary["success_rate"],
        "sample_probability_mean": summary["sample_probability_mean"],
        "vertex_distance_mean": summary["vertex_distance_mean"],
        "distance_share": summary["vertex_distance_mean"] / dataset,
        "source_share": summary["closeness"]["distance_mean"] / dataset,
        "visible_share": summary["visibility"]["visible_share"],
        "classes": {name: ends.count(name) for name in sorted(set(ends), key=ends.count)},
        **_means(boundary["vertices"]),
        "at_target": boundary["target"],
        "at_source": boundary["source"],
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return found | {"slack_min": min(row["slack_min"] for row in rows)}


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a table, and below it why methods were refused."""
    lines = ["| pair | method | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("| --- " * (2 + len(COLUMNS)) + "|")
    refused: dict[str, str] = {}
    for row in rows:
        cells = [f"{row['source']} to {row['target']}", row["variant"]]
        if "refused" in row:
            refused[row["variant"]] = row["refused"]
            cells += ["refused", *[""] * (len(COLUMNS) - 1)]
        else:
            cells += [_cell(name, row[name]) for name in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"{name}: {why}" for name, why in refused.items())]
    return "\n".join(lines).rstrip() + "\n"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{times} {what}" for what, times in reversed(value.items()))
    if name in _PERCENT:
        return f"{value:.1%}"
    return (
        str(value) if isinstance(value, int) else f"{value:.3g}" if value < 10 else f"{value:.0f}"
    )


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=count, default=len(PAIRS))
    parser.add_argument("--digits", action="store_true", help="a pair of digits")
    parser.add_argument("--data", type=Path, help="MNIST's four files, with --digits")
    parser.add_argument("--methods", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


Subject = tuple[list[Pictures], Path, dict[str, dict[str, list[str]]], list[str]]


def _photographs(arguments: argparse.Namespace) -> Subject:
    images = arguments.out / "photographs"
    write_photographs(images)
    named = [[(name, photograph(name)) for name in pair] for pair in PAIRS[: arguments.pairs]]
    return [(source, target) for source, target in named], images, VARIANTS, SETTINGS


def _digits(arguments: argparse.Namespace) -> Subject:
    images, weights = arguments.out / "digits", arguments.out / "mlp.safetensors"
    write_digits(images, read_digits(arguments.data, "test"), _NUM_DIGITS)
    train(TrainingOptions("mlp"), arguments.data, weights)
    source, target = ((label, min((images / label).iterdir())) for label in DIGIT_PAIR)
    settings = [*DIGIT_SETTINGS, f'network.weights="{weights}"']
    return [(source, target)], images, DIGIT_VARIANTS, settings


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    subject = _digits if arguments.digits else _photographs
    pairs, images, variants, settings = subject(arguments)
    settings = settings + arguments.set
    rows = []
    for pair in pairs:
        for method in arguments.methods:
            for variant, changes in variants[method].items():
                overrides = [*settings, f"method={method}", *changes]
                rows.append(measure(pair, variant, overrides, images, arguments.out))
    table = as_markdown(rows)
    if arguments.markdown:
        write_text(arguments.markdown, table)
    else:
        sys.stderr.write(table)
    return {
        "machine": describe_machine(),
        "settings": settings,
        "runs": rows,
        "table": table.splitlines(),
    }


if __name__ == "__main__":
    finish(main)
