"""Compares networks for digits by their adequacy, on the same test digits.

Prints one JSON document, with a Markdown table under ``table``, which is also in OUT/table.md. MLPs
and LeNet-5 with several activations are trained and audited at several layers, by a descent over
pixels with the same steps for all, and by linear programs where the layer is affine in the image.
What is finished is not made again. For other networks and images: ``patchcollide audit`` with each
network into a folder, then ``patchcollide adequacy`` with the folders.

    python scripts/bench_adequacy.py --data mnist --out adequacy
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from bench_machine import count, describe_machine, finish

from patchcollide import pipeline
from patchcollide.audit.adequacy import HEADER, AdequacyRow
from patchcollide.config_files import builtin_config, load_config
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.io.files import write_text
from patchcollide.networks.models.training import TrainingOptions, train
from patchcollide.report.tables import markdown


class Candidate(NamedTuple):
    """A network, its layer, and whether that is affine in the image.

    Where the activation is nowhere exactly constant, features may differ by a tolerance. Without
    an activation the weights are random.
    """

    network: str
    activation: str
    layer: str
    tolerance: float = 0.0
    is_affine: bool = False

    @property
    def name(self) -> str:
        """What its files are called."""
        parts = [self.network, self.activation or "untrained", self.layer]
        return "-".join([*parts, f"{self.tolerance:g}"] if self.tolerance else parts)


CANDIDATES = (
    Candidate("mlp", "relu", "fc1", is_affine=True),
    Candidate("mlp", "relu6", "fc1", is_affine=True),
    Candidate("mlp", "tanh", "fc1", 0.01, is_affine=True),
    Candidate("mlp", "", "fc1", is_affine=True),
    Candidate("mlp", "relu", "fc2"),
    Candidate("lenet5", "relu", "fc1"),
    Candidate("lenet5", "relu", "fc2"),
    Candidate("lenet5", "relu6", "fc1"),
    Candidate("lenet5", "tanh", "fc1", 0.01),
)


def audit(arguments: argparse.Namespace, candidate: Candidate, digits: Path, method: str) -> Path:
    """Trains and audits a network, unless it was done; returns the audit's folder."""
    weights = "random"
    if candidate.activation:
        options = TrainingOptions(candidate.network, candidate.activation, arguments.epochs)
        file = arguments.out / f"{candidate.network}-{candidate.activation}.safetensors"
        weights = str(train(options, arguments.data, file))
    config = load_config(
        builtin_config("mnist"),
        [
            f"network.name={candidate.network}",
            f"network.layer={candidate.layer}",
            f"network.tolerance={candidate.tolerance}",
            f'network.weights="{weights}"',
            f"audit.method={method}",
            f"audit.per_class={arguments.per_class}",
            f"seed={arguments.seed}",
            *arguments.set,
        ],
    )
    return pipeline.audit(config, digits, arguments.out / f"{candidate.name}-{method}")


def cells(method: str, row: AdequacyRow) -> list[str]:
    """Returns a line of the table: the way sizes were measured, then the network as its folder."""
    by = {"exact": "linear programs", "search": "descent"}[method]
    return [by, row.name.removesuffix(f"-{method}"), *row.cells()[2:]]


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="MNIST's folder; without, scikit-learn's digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=count)
    parser.add_argument("--per-class", type=count, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    digits: Path = arguments.out / "digits"
    write_digits(digits, read_digits(arguments.data, "test"), 500)
    found: dict[str, list[dict[str, Any]]] = {}
    lines = [["by", *HEADER[1:]]]
    for method in ("exact", "search"):
        chosen = [each for each in CANDIDATES if each.is_affine or method == "search"]
        folders = [audit(arguments, each, digits, method) for each in chosen]
        rows = pipeline.compare_audits(folders)
        found[method] = [asdict(row) for row in rows]
        lines += [cells(method, row) for row in rows]
    table = markdown(lines)
    write_text(arguments.out / "table.md", table)
    return {
        "machine": describe_machine(),
        "seed": arguments.seed,
        "per_class": arguments.per_class,
        "rows": found,
        "table": table.splitlines(),
    }


if __name__ == "__main__":
    finish(main)
