"""Measures the descent for vertices: ours against others from one start.

Prints one JSON document. ``features`` says in how many steps, and seconds, features of all points
between the vertices are as near to the target's as is asked: by ours, and by the authors' schedule,
which ends after ``--factor`` times as many. A race ends, for each method, when random points
between the vertices collide as the paper's do: all of 2000 are classified as the target, with a
mean probability of at least 0.95 of the target's own, after rounding to 8 bits. Every method starts
from the same parameters; the authors' schedule is tried at several step sizes first, and the best
is raced.

    python scripts/bench_collide.py race --source cat.jpg --target cup.jpg --store stores/photos
    python scripts/bench_collide.py features --source cat.jpg --target cup.jpg --tightness 0.1
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_machine import count, describe_machine, finish

from patchcollide.composition.parameterisations import Parameterisation
from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import DivergedError
from patchcollide.images.pictures import read_square
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.objective import HullObjective, Objective
from patchcollide.optimisation.stopping import (
    DescentTask,
    far_enough,
    sure_enough,
    validate,
    validate_features,
)
from patchcollide.optimisation.tight import TightObjective
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from patchcollide.randomness import seeded
from patchcollide.runs.retrieve import retrieve_neighbours
from patchcollide.store.reader import open_store

PROBABILITY_SHARE = 0.95
AUTHORS_OBJECTIVE = {
    "active": 100.0,
    "inactive": 10.0,
    "penalty": "absolute",
    "total_variation": 100.0,
    "diversity": 0.0,
    "hull_samples": 0,
}


class Start:
    """One source, one target and the parameters that every method starts from.

    Args:
        arguments: Those of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.config: Config = load_config(arguments.config, arguments.set)
        self.network: CollisionNetwork = load_network(self.config.network, self.config.seed)
        self.source, picture = (
            read_square(self.config, path, self.network.input_size, self.network.channels)
            for path in (arguments.source, arguments.target)
        )
        self.target = Target.of_picture(self.network, picture)
        self.neighbours = None
        if arguments.store:
            store = open_store(self.config, arguments.store)
            with tempfile.TemporaryDirectory() as folder:
                self.neighbours = retrieve_neighbours(
                    self.config,
                    arguments.source,
                    [arguments.target],
                    store,
                    Path(folder) / "neighbours.h5",
                )

    def task(self, **changes: dict[str, Any]) -> DescentTask:
        """Returns the descent of the settings, with changed ones by section."""
        values = self.config.model_dump()
        changed = {
            section: type(getattr(self.config, section))(**{**values[section], **settings})
            for section, settings in changes.items()
        }
        return make_task(self.config.model_copy(update=changed), self.network, self.target)

    def parameterisation(self) -> Parameterisation:
        """Returns the parameters at the start; the same each time."""
        return make_parameterisation(self.config, self.network, self.source, self.neighbours)


def quality(start: Start, task: DescentTask, images: torch.Tensor) -> dict[str, Any]:
    """Measures vertices on random points between them, 2000 in the paper."""
    num_samples = start.config.evaluation.num_samples
    settings = task.optimiser.model_copy(update={"validation_samples": num_samples})
    row = validate(replace(task, optimiser=settings), images)
    share = row["validation_probability"] / task.target_probability
    return {
        "success_rate": row["validation_success"],
        "probability_share": share,
        "vertex_distance_mean": row["validation_distance"],
        "reached": row["validation_success"] == 1 and share >= PROBABILITY_SHARE,
    }


def race(start: Start, arguments: argparse.Namespace) -> dict[str, Any]:
    """Lets ours, L-BFGS and the authors' schedule run from one start."""
    ours = _run("ours", start, {})
    limit = arguments.factor * ours["steps"]
    runs = [ours, _run_lbfgs(start, 5 * ours["steps"])]
    rate, trials = _best_rate(start, arguments.rates, arguments.trial_steps)
    changes = {"method": "authors", "learning_rate": rate, "steps": limit, "stop_distance": 0.0}
    runs.append(_run("authors", start, {"objective": AUTHORS_OBJECTIVE, "optimiser": changes}))
    return {
        "target_probability": start.target.probability,
        "runs": runs,
        "authors_rates_tried": trials,
        "steps_ratio_at_least": runs[-1]["steps"] / ours["steps"],
        "seconds_ratio": runs[-1]["seconds"] / ours["seconds"],
        "table": table(runs),
    }


Checked = tuple[dict[str, float], str]
"""What a check found, and why the descent is over."""


class _Ours(TightObjective):
    """Our objective, until features are near enough."""

    wanted: float

    def check(self, parameterisation: Parameterisation, step: int) -> Checked:
        """See :meth:`Objective.check`."""
        return _until(self.wanted, self, parameterisation, super().check(parameterisation, step))


class _Authors(HullObjective):
    """The paper's objective, until features are near enough."""

    wanted: float

    def check(self, parameterisation: Parameterisation, step: int) -> Checked:
        """See :meth:`Objective.check`."""
        return _until(self.wanted, self, parameterisation, super().check(parameterisation, step))


def _until(
    wanted: float, objective: Objective, parameterisation: Parameterisation, checked: Checked
) -> Checked:
    """Ends a descent where features of all points of a validation are near enough."""
    row, why = checked
    # Ours begins with one image, between which and itself there is nothing.
    if objective.state.get("phase", 1.0):
        row |= validate_features(objective.task, parameterisation.images())
        if row["validation_tau_max"] <= wanted:
            objective.kept = parameterisation.parameter.detach().clone()
            why = "the features are as near as asked"
    return row, why


def features(start: Start, arguments: argparse.Namespace) -> dict[str, Any]:
    """Lets ours and the authors' schedule run from one start until features are near enough."""
    wanted, bound = arguments.tightness, {"objective": {"tightness": arguments.tightness}}
    ours = _run_until(start, wanted, bound, ours=True)
    # Vertices part after that: where ours ends shows what for.
    whole = _run_until(start, 0.0, bound, ours=True)
    rate, trials = _best_rate(start, arguments.rates, arguments.trial_steps)
    limit = arguments.factor * ours["steps"]
    changes = {"method": "authors", "learning_rate": rate, "steps": limit, "stop_distance": 0.0}
    asked = {"objective": {**AUTHORS_OBJECTIVE, "tightness": 0.0}, "optimiser": changes}
    theirs = _run_until(start, wanted, asked, ours=False)
    named = {"ours": ours, "ours, to its end": whole, "authors": theirs}
    runs = [{"method": name, **run} for name, run in named.items()]
    return {
        "tightness": wanted,
        "network": start.network.full_name,
        "layer": start.network.layer,
        "runs": runs,
        "authors_rates_tried": trials,
        "steps_ratio_at_least": theirs["steps"] / ours["steps"],
        "seconds_ratio": theirs["seconds"] / ours["seconds"],
        "table": features_table(runs, wanted),
    }


def features_table(runs: list[dict[str, Any]], wanted: float) -> list[str]:
    """Returns Markdown: a line a descent, to where its features were near enough or its end."""
    lines = [
        "| descent | near enough | steps | seconds | tau max | tau max, least | vertex L2 |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run['method']} | {'yes' if run['tau_max'] <= wanted else 'no'} | {run['steps']} "
        f"| {run['seconds']:.3g} | {run['tau_max']:.3f} | {run['tau_max_least']:.3f} "
        f"| {run['vertex_distance_mean']:.0f} |"
        for run in runs
    ]
    return lines


def _run_until(
    start: Start,
    wanted: float,
    changes: dict[str, dict[str, Any]],
    *,
    ours: bool,
) -> dict[str, Any]:
    # The schedule goes on where the class is the target's: features are asked for.
    task = replace(start.task(**changes), stops_early=False)
    parameterisation = start.parameterisation()
    objective = _Ours(task, parameterisation.source) if ours else _Authors(task)
    objective.wanted = wanted
    begun = time.perf_counter()
    _, progress = find_vertices(task, parameterisation, objective=objective)
    seconds = time.perf_counter() - begun
    found = [row for row in progress.history if "validation_tau_max" in row]
    return {
        "steps": progress.step,
        "seconds": seconds,
        "tau_max": found[-1]["validation_tau_max"],
        "tau_max_least": min(row["validation_tau_max"] for row in found),
        "vertex_distance_mean": found[-1]["validation_distance"],
    }


def table(runs: list[dict[str, Any]]) -> list[str]:
    """Returns Markdown: a line a descent of the race."""
    lines = [
        "| descent | steps | seconds | target's class | p, of the target's | vertex L2 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run['method']} | {run['steps']} | {run['seconds']:.3g} "
        f"| {100 * run['success_rate']:.1f} % | {run['probability_share']:.2f} "
        f"| {run['vertex_distance_mean']:.0f} |"
        for run in runs
    ]
    return lines


def _run(name: str, start: Start, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    task = start.task(**changes)
    begun = time.perf_counter()
    images, progress = find_vertices(task, start.parameterisation())
    seconds = time.perf_counter() - begun
    found = quality(start, task, images)
    return {"method": name, "steps": progress.step, "seconds": seconds, **found}


def _best_rate(start: Start, rates: list[float], steps: int) -> tuple[float, list[dict[str, Any]]]:
    """Returns the step size that lowers the active loss most within the trial's steps."""
    trials: list[dict[str, Any]] = []
    for rate in rates:
        changes = {"method": "authors", "learning_rate": rate, "steps": steps, "check_every": steps}
        task = start.task(objective=AUTHORS_OBJECTIVE, optimiser=changes)
        try:
            _, progress = find_vertices(task, start.parameterisation())
            trials.append({"rate": rate, "active": progress.history[-1]["active"]})
        except DivergedError:
            trials.append({"rate": rate, "active": None})
    usable = [trial for trial in trials if trial["active"] is not None]
    return min(usable, key=lambda trial: trial["active"])["rate"], trials


def _run_lbfgs(start: Start, limit: int) -> dict[str, Any]:
    """Runs L-BFGS on our objective: hull samples and the weight of distance stay as they begin."""
    task, parameterisation = start.task(), start.parameterisation()
    losses, evaluations = HullObjective(task), 0
    optimiser = torch.optim.LBFGS(
        [parameterisation.parameter],
        max_iter=task.optimiser.check_every,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        nonlocal evaluations
        evaluations += 1
        optimiser.zero_grad()
        return losses.backward(parameterisation, 0, seeded(task.seed, 1))["loss"]

    begun = time.perf_counter()
    while evaluations < limit:
        optimiser.step(closure)  # type: ignore[no-untyped-call]
        parameterisation.project()
        with torch.no_grad():
            row = validate(task, parameterisation.images())
        if sure_enough(row, task) and far_enough(row, task):
            break
    seconds = time.perf_counter() - begun
    with torch.no_grad():
        found = quality(start, task, parameterisation.images())
    return {"method": "lbfgs", "steps": evaluations, "seconds": seconds, **found}


def read_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["race", "features"])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="compose patches of it; without, free pixels")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--tightness", type=float, default=0.1, help="that features are to reach")
    parser.add_argument("--factor", type=count, default=50, help="stop the authors' here")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.001, 0.01, 0.1, 1.0])
    parser.add_argument("--trial-steps", type=count, default=60)
    return parser.parse_args()


def main() -> dict[str, Any]:
    """Runs what the command line asks for."""
    arguments = read_arguments()
    measure: Callable[[Start, argparse.Namespace], dict[str, Any]]
    measure = {"race": race, "features": features}[arguments.what]
    return {"machine": describe_machine(), **measure(Start(arguments), arguments)}


if __name__ == "__main__":
    finish(main)
