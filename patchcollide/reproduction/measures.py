"""The numbers that are compared: of a run, from its files; of the index, by counting."""

import math
from dataclasses import dataclass
from pathlib import Path

from patchcollide.config import Config
from patchcollide.config_files import builtin_config, load_config
from patchcollide.errors import RunError
from patchcollide.evaluation.dataset import dataset_distance
from patchcollide.evaluation.summary import Summary
from patchcollide.images.listings import sample_images
from patchcollide.images.pictures import read_png
from patchcollide.images.sources import find_images
from patchcollide.networks.models.weights import read_metadata
from patchcollide.runs.folder import Run
from patchcollide.runs.summary import read_summary
from patchcollide.runs.vertices import load_history
from patchcollide.store.reader import PatchStore


@dataclass(frozen=True)
class Missing:
    """Why a number could not be had."""

    why: str


Measured = dict[str, float | Missing]


def index_statistics(imagenet: Path | None, needed: str) -> Measured:
    """Counts what the paper's index holds; no picture is read.

    Args:
        imagenet: The training images, a folder for each class; None if there are none.
        needed: What to say then.

    Returns:
        ``positions`` of the paper's text, ``positions_authors`` of the released code, the number of
        ``images`` that a tenth of each class makes, and of ``patches``.

    Raises:
        ImageError: If the folder cannot be listed, or holds no images.
    """
    config = load_config(builtin_config("section4"))
    positions = config.grid.num_positions
    authors = builtin_config("section4_authors")
    images: float | Missing = Missing(needed)
    if imagenet is not None:
        files = find_images(imagenet).files
        images = len(sample_images(files, config.store.fraction, config.seed))
    return {
        "images": images,
        "positions": positions,
        "positions_authors": (
            load_config(authors).grid.num_positions
            if authors.exists()
            else Missing(f"{authors.name} is not there")
        ),
        "patches": images if isinstance(images, Missing) else images * positions,
    }


def run_statistics(run: Run, store: Path | None) -> Measured:
    """Reads the numbers of a finished run.

    Args:
        run: Its summary and history are read.
        store: Gives the data set's distance for runs that used none; None to leave that out.

    Returns:
        The measures of a run: shares are of the target's own probability and of the data set's
        distance, ``loss_drop`` is by how much the lowest loss is below the first.

    Raises:
        RunError: If a file is missing or damaged.
    """
    summary = read_summary(run)
    try:
        return _run_statistics(run, summary, store)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"The summary of {run.folder} is damaged ({type(error).__name__}: {error}). Measure "
            f"the run again with `patchcollide evaluate {run.folder}`."
        ) from error


def _run_statistics(run: Run, summary: Summary, store: Path | None) -> Measured:
    target = float(summary["target_probability"])
    sampled = float(summary["sample_probability_mean"])
    distance = float(summary["vertex_distance_mean"])
    dataset = summary["dataset_distance_mean"]
    if dataset is None and store is not None:
        dataset = _dataset_distance(run.config, run, store)
    losses = [row["loss"] for row in load_history(run) if math.isfinite(row.get("loss", math.nan))]
    exact, not_exact = summary.get("exact"), Missing("not an exact run")
    hull = summary["tightness"]["hull"] if "tightness" in summary else None
    unknown = Missing("the run has no store to measure its data set's distance")
    return {
        "success_rate": float(summary["success_rate"]),
        "target_probability": target,
        "sample_probability": sampled,
        "sample_probability_share": sampled / target if target else Missing("the target has none"),
        "vertex_distance": distance,
        "vertex_distance_share": distance / dataset if dataset else unknown,
        "dataset_distance": float(dataset) if dataset else unknown,
        "steps": float(summary["steps"]),
        "loss_drop": losses[0] - min(losses) if losses else Missing("no loss was recorded"),
        "test_accuracy": _test_accuracy(run.config),
        "exact_violation": not_exact if exact is None else float(exact["violation_max"]),
        "exact_seconds": not_exact if exact is None else float(exact["seconds"]),
        "tau_mean": _tau(hull["tau_mean"] if hull else None),
        "tau_max": _tau(hull["tau_max"] if hull else None),
        "coarse_share": _measured(summary.get("visibility", {}).get("block_share")),
        "source_distance": _measured(summary.get("closeness", {}).get("distance_mean")),
        **({"store_images": PatchStore.open(store).num_images} if store else {}),
    }


def _tau(value: float | None) -> float | Missing:
    return Missing("it has no bound, or was not measured") if value is None else value


def _measured(value: float | None) -> float | Missing:
    return Missing("it was not measured when the run was evaluated") if value is None else value


def verdict_of(run: Run) -> str:
    """Returns what a run's collision is called; empty of runs of before it was measured."""
    summary = read_summary(run)
    return summary["tightness"]["verdict"] if "tightness" in summary else ""


def _test_accuracy(config: Config) -> float | Missing:
    """Reads what the file of a network's weights says of them."""
    weights = Path(config.network.weights)
    found = read_metadata(weights).get("test_accuracy") if weights.is_file() else None
    return Missing("the network's weights do not say it") if found is None else float(found)


def _dataset_distance(config: Config, run: Run, store: Path) -> float | None:
    size, _, channels = read_png(run / "source.png").shape
    pairs = config.evaluation.dataset_pairs
    return dataset_distance(
        PatchStore.open(store), pairs, config.seed, size=size, channels=channels
    )
