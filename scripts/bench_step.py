"""Times a step of the descent, and an evaluation, with settings that are to make them faster.

A step mixes images, sends vertices and points between them through the network and back, and moves
the parameters; an evaluation asks the network about points between vertices. Each variant is a few
settings; all variants take turns, so that a machine that becomes slow is slow for all. How far a
variant's pre-activation is from the first one's, as a share of its norm, says what it costs.

    python scripts/bench_step.py --source cat.jpg --target cup.jpg \
        --networks vgg16 torchvision:resnet50 --weights random
    python scripts/bench_step.py --source cat.jpg --target cup.jpg --store stores/photos \
        --variants '' network.folded=false network.precision=bfloat16
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from bench_collide import Start
from bench_machine import Meter, count, describe_machine, finish, summarise

from patchcollide.evaluation.sampling import sample_hull
from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.networks.folding import quick_copy
from patchcollide.optimisation.objective import HullObjective
from patchcollide.optimisation.schedules import make_optimiser
from patchcollide.randomness import seeded

VARIANTS = ("network.folded=false", "network.folded=true", "network.precision=bfloat16")
_HEADER = """\
| network | settings | images | seconds a step | of the first | seconds for samples | of the first \
| features differ by |
|---|---|---|---|---|---|---|---|"""
_BATCH = 16


class Stepper:
    """Makes steps of a descent: composition, network, and the update of the parameters."""

    def __init__(self, start: Start) -> None:
        task = self._task = start.task()
        # As an evaluation does, whatever the settings of the descent.
        folds = start.config.network.folded
        self._asked = quick_copy(task.network) if folds else task.network
        self._parameterisation = start.parameterisation()
        self._objective = HullObjective(task)
        self._optimiser = make_optimiser(task.optimiser, self._parameterisation)
        self.num_images = task.optimiser.num_vertices + task.objective.hull_samples
        self.num_parameters = self._parameterisation.parameter.numel()

    def __call__(self) -> float:
        """Makes one, and returns its seconds."""
        begun = time.perf_counter()
        self._optimiser.zero_grad()
        self._objective.backward(self._parameterisation, 0, seeded(0))
        self._optimiser.step()
        self._parameterisation.project()
        return time.perf_counter() - begun

    def evaluate(self, num_samples: int) -> float:
        """Asks about so many points between the vertices, and returns the seconds."""
        task, vertices = self._task, self._parameterisation.images().detach()
        weights = uniform_weights(num_samples, len(vertices), seeded(0))
        begun = time.perf_counter()
        classes = task.target_class, task.target
        sample_hull(self._asked, vertices, weights, *classes, batch_size=_BATCH)
        return time.perf_counter() - begun

    def features(self) -> torch.Tensor:
        """Returns the pre-activation of the first vertex, where the descent begins."""
        with torch.no_grad():
            return self._asked.pre_activation(self._parameterisation.images()[:1])


def measure(arguments: argparse.Namespace, network: str) -> list[dict[str, Any]]:
    """Times the variants of one network."""
    named = [f"network.name={network}", f"network.weights={arguments.weights}"]
    starts = [_start(arguments, [*named, *variant.split()]) for variant in arguments.variants]
    rows: list[dict[str, Any]] = []
    with Meter() as meter:
        steppers = [Stepper(start) for start in starts]
        values = [step.features() for step in steppers]
        rounds = [[step() for step in steppers] for _ in range(arguments.repeat + 1)][1:]
        asked = [
            [step.evaluate(arguments.samples) for step in steppers] for _ in range(arguments.repeat)
        ]
    for number, step in enumerate(steppers):
        difference = (values[number] - values[0]).norm() / values[0].norm()
        rows.append(
            {
                "network": network,
                "variant": arguments.variants[number],
                "parameters": step.num_parameters,
                "images_per_step": step.num_images,
                "step_s": summarise([found[number] for found in rounds]),
                "samples": arguments.samples,
                "evaluation_s": summarise([found[number] for found in asked]),
                "features_differ_by": float(difference),
                **meter.memory(),
            }
        )
    return rows


def _start(arguments: argparse.Namespace, settings: list[str]) -> Start:
    own = argparse.Namespace(**vars(arguments))
    own.set = [*arguments.set, *settings]
    return Start(own)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown: a line a network and variant, its best step beside the first variant's."""
    lines, first = _HEADER.splitlines(), rows[0]
    for row in rows:
        first = row if row["network"] != first["network"] else first
        cells = [
            row["network"],
            f"`{row['variant']}`" if row["variant"] else "the defaults",
            str(row["images_per_step"]),
            f"{row['step_s']['best']:.3g}",
            f"{row['step_s']['best'] / first['step_s']['best']:.2f}",
            f"{row['evaluation_s']['best']:.3g} for {row['samples']}",
            f"{row['evaluation_s']['best'] / first['evaluation_s']['best']:.2f}",
            f"{row['features_differ_by']:.1g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="compose patches of it; without, free pixels")
    parser.add_argument("--networks", nargs="+", default=["efficientnet_lite0"])
    parser.add_argument("--weights", default="pretrained", help="of all networks")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="'KEY=VALUE ...'")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--repeat", type=count, default=5)
    parser.add_argument("--samples", type=count, default=64, help="points that are asked about")
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    rows = [row for network in arguments.networks for row in measure(arguments, network)]
    return {"machine": describe_machine(), "rows": rows, "table": table(rows)}


if __name__ == "__main__":
    finish(main)
