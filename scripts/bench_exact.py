"""Holds vertices found by gradients against the exact polytope they should be in, on digits.

Prints one JSON document, with a Markdown table under ``table``, which is also in OUT/table.md. An
MLP is trained; for a digit from itself and from another one our descent (configs/mnist.toml), the
authors' schedule at several step sizes, of which the least final loss counts, and linear programs
look for five vertices at its first layer, for the same units. Finished runs are not made again.

    python scripts/bench_exact.py --data mnist --out exact
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from against_exact import measure_against_exact
from bench_machine import count, describe_machine, finish
from references import Reference, measure_reference

from patchcollide import pipeline
from patchcollide.config import Config
from patchcollide.config_files import builtin_config, load_config
from patchcollide.errors import DivergedError, RunError
from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.images.pictures import read_square
from patchcollide.io.files import read_json, write_json, write_text
from patchcollide.io.provenance import array_digest, fingerprint
from patchcollide.networks.loading import load_network
from patchcollide.networks.models.training import TrainingOptions, train
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.exact import target_polytope
from patchcollide.optimisation.units import choose_units
from patchcollide.randomness import seeded
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary
from patchcollide.runs.vertices import load_history, load_vertices

# The paper's loss for pixels, with the released code's weights; total variation is of coefficients.
AUTHORS = (
    "objective.active=100",
    "objective.inactive=10",
    "objective.penalty=absolute",
    "objective.diversity=0",
    "objective.hull_samples=0",
    "optimiser.method=authors",
)
_HEADER = """\
| start | vertices by | steps | L2 of vertices | width between them | of the whole polytope's | \
off the equations | outside an inequality | within 0.03, 0.1, 0.3, 1 | boundary |
|---|---|---|---|---|---|---|---|---|---|"""


class Bench:
    """The network, the digits and what vertices are held against.

    Args:
        arguments: Those of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, out = arguments, arguments.out
        out.mkdir(parents=True, exist_ok=True)
        options = TrainingOptions("mlp", epochs=arguments.epochs)
        weights = train(options, arguments.data, out / "mlp.safetensors")
        self.digits: Path = out / "digits"
        write_digits(self.digits, read_digits(arguments.data, "test"), 200)
        self.settings = [
            "network.name=mlp",
            f'network.weights="{weights}"',
            "allow_same_image=true",
            *arguments.set,
        ]
        self.config = self.load()
        self.network: CollisionNetwork = load_network(self.config.network, self.config.seed)
        self.target = self.digit(arguments.target)
        self._reference: Reference | None = None

    def load(self, *overrides: str) -> Config:
        """Returns the settings of configs/mnist.toml, with changes."""
        return load_config(builtin_config("mnist"), [*self.settings, *overrides])

    def digit(self, label: int) -> Path:
        """Returns the first test digit of a class."""
        return min((self.digits / str(label)).glob("*.png"))

    @property
    def reference(self) -> Reference:
        """The exact polytope, measured when first asked for."""
        if self._reference is None:
            picture = read_square(
                self.config, self.target, self.network.input_size, self.network.channels
            )
            target = Target.of_picture(self.network, picture)
            exact = target_polytope(self.config, self.network, target, None)
            wanted = self.config.optimiser.num_vertices
            units = choose_units(
                exact.features, self.config.objective.units, wanted, seeded(self.config.seed, 5)
            )
            self._reference = measure_reference(
                exact.polytope,
                exact.image,
                units.numpy(),
                np.random.default_rng([self.config.seed, 11]),
                num_directions=self.arguments.directions,
                num_starts=self.arguments.starts,
            )
        return self._reference

    def against(self, name: str, vertices: np.ndarray | None) -> dict[str, Any]:
        """Holds vertices, or for None the exact ones, against the polytope, unless it was done."""
        path = self.arguments.out / f"{name}.json"
        about = fingerprint(
            {
                "network": self.network.digest,
                "target": self.target.name,
                "vertices": "exact" if vertices is None else array_digest(vertices),
                "directions": self.arguments.directions,
                "starts": self.arguments.starts,
                "config": self.config.model_dump(mode="json"),
            }
        )
        if not path.exists() or read_json(path, error=RunError)["fingerprint"] != about:
            measured = measure_against_exact(
                self.reference,
                self.reference.vertices if vertices is None else vertices,
                np.random.default_rng([self.config.seed, 12]),
            )
            write_json(path, {"fingerprint": about, "against": asdict(measured)})
        found: dict[str, Any] = read_json(path, error=RunError)["against"]
        return found


def descend(bench: Bench, source: Path, name: str, *overrides: str) -> dict[str, Any] | None:
    """Makes a run, unless it is there, and returns its figures; None if it diverges."""
    folder = bench.arguments.out / name
    try:
        pipeline.collide(bench.load(*overrides), source, bench.target, folder, images=bench.digits)
    except DivergedError:
        return None
    run = open_run(folder)
    summary = read_summary(run)
    return {
        "name": name,
        "steps": summary["steps"],
        "seconds": summary["seconds"]["optimise"],
        "success_rate": summary["success_rate"],
        "loss": load_history(run)[-1]["loss"],
    }


def measure_start(bench: Bench, label: int) -> list[dict[str, Any]]:
    """Returns both descents from one digit, held against the polytope."""
    source, steps = bench.digit(label), bench.arguments.steps_authors
    runs = {"ours": descend(bench, source, f"ours-{label}")}
    schedule = (f"optimiser.steps={steps}", f"optimiser.check_every={steps}")
    tried = {
        rate: descend(
            bench,
            source,
            f"authors-{label}-{rate:g}",
            *AUTHORS,
            *schedule,
            f"optimiser.learning_rate={rate}",
        )
        for rate in bench.arguments.rates
    }
    usable = {rate: run for rate, run in tried.items() if run is not None}
    if usable:
        best = min(usable, key=lambda rate: usable[rate]["loss"])
        runs[f"authors', step size {best:g}"] = usable[best]
    rows = []
    for method, run in runs.items():
        if run is not None:
            vertices, _ = load_vertices(open_run(bench.arguments.out / run["name"]))
            flat = vertices.transpose(0, 3, 1, 2).reshape(len(vertices), -1).astype(np.float64)
            against = bench.against(f"against-{run['name']}", flat / 255)
            rows.append({"start": label, "method": method, "run": run, "against": against})
    losses = {f"{rate:g}": run and run["loss"] for rate, run in tried.items()}
    return [*rows[:1], *({**row, "final_losses": losses} for row in rows[1:])]


def table(rows: list[dict[str, Any]], target: int) -> list[str]:
    """Returns Markdown: a line a row."""
    lines = _HEADER.split("\n")
    for row in rows:
        found, start = row["against"], row["start"]
        origin = "-" if start is None else f"{target} from {'itself' if start == target else start}"
        width, whole = found["span"], found["subspace"]
        inside = ", ".join(f"{100 * share:.0f}" for share in found["samples_inside"])
        cells = [
            origin,
            row["method"],
            row["run"]["steps"] if row["run"] else "-",
            f"{found['vertex_distance']:.2f}",
            f"{100 * (width['width_ratio'] or 0):.0f} %" if width else "-",
            f"{100 * (whole['width_ratio'] or 0):.1f} %" if whole else "-",
            f"{np.mean(found['off_subspace']):.3g}",
            f"{max(-min(found['depths']), 0):.3g}",
            f"{inside} %",
            f"{100 * (width['boundary_ratio'] or 0):.0f} %" if width else "-",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="MNIST's folder; without, scikit-learn's digits")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", type=int, choices=range(10), default=7)
    parser.add_argument("--other", type=int, choices=range(10), default=2)
    parser.add_argument("--steps-authors", type=count, default=5000)
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 100.0, 1000.0])
    parser.add_argument("--directions", type=count, default=16)
    parser.add_argument("--starts", type=count, default=3, help="of the way to the far pair")
    parser.add_argument("--epochs", type=count)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    bench = Bench(arguments)
    rows = [
        {"start": None, "method": "linear programs", "run": None}
        | {"against": bench.against("against-exact", None)}
    ]
    for label in dict.fromkeys([arguments.target, arguments.other]):
        rows += measure_start(bench, label)
    lines = table(rows, arguments.target)
    write_text(arguments.out / "table.md", "\n".join(lines) + "\n")
    mean = DatasetImages(bench.digits, bench.config, bench.network).mean_distance()
    return {
        "machine": describe_machine(),
        "seed": bench.config.seed,
        "dataset_distance_mean": mean and mean / 255,
        "rows": rows,
        "table": lines,
    }


if __name__ == "__main__":
    finish(main)
