"""The collision stages: from two pictures to a run's folder, and that folder measured again."""

import logging
import math
import shlex
from pathlib import Path

import numpy as np

from patchcollide.composition import optimise_run
from patchcollide.config import Config, overrides_of
from patchcollide.errors import DivergedError, ImageError, InputError, NetworkError, RunError
from patchcollide.files import output_path
from patchcollide.images import write_png
from patchcollide.networks import CollisionNetwork, load_network
from patchcollide.parallel import LOCAL, Backend
from patchcollide.provenance import array_digest, printable
from patchcollide.report.writer import write_report
from patchcollide.retrieval import open_store, read_square, retrieve_neighbours
from patchcollide.runs import SUMMARY_FILE, Run, open_run, require_files, start_run
from patchcollide.store import PatchStore
from patchcollide.summaries import record_seconds, write_summary

logger = logging.getLogger(__name__)


def collide(
    config: Config,
    source: Path,
    target: Path,
    out: Path,
    store_path: Path | None = None,
    backend: Backend = LOCAL,
) -> Path:
    """Finds vertices that collide with a target, measures the polytope between them, and reports.

    Interrupted at any point, the same call goes on from the last finished stage or checkpoint.

    Args:
        config: All settings.
        source: The image whose look is kept.
        target: The image whose features are matched.
        out: The run's folder.
        store_path: Where patches come from; None to vary pixels freely.
        backend: Where the exact and the certified engine pass over the store.

    Returns:
        ``out``.

    Raises:
        InputError: If an image, the network, the store or ``out`` cannot be used.
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it; the state is kept.
        DiskFullError: If there is no room left.
    """
    out = output_path(out)
    store = open_store(config, store_path) if store_path else None
    network = load_network(config.network, config.seed)
    pictures = {
        "source": read_square(config, source, network.input_size),
        "target": read_square(config, target, network.input_size),
    }
    _check_pair(config, pictures, source, target)
    run = _start(config, network, pictures, {"source": source, "target": target}, store, out)
    if run.finished:
        require_files(run, config.optimiser.num_vertices)
        logger.info("%s holds this run already: nothing to do.", out)
        return out
    begun = (run / "checkpoint.h5").exists()
    try:
        _make_run(config, network, pictures, (source, target), store, run, backend)
    except (InputError, DivergedError):
        # Corrected settings make another run: what the refused one began would be in its way.
        if not begun:
            run.discard()
        raise
    run.finish()
    return out


def evaluate(folder: Path) -> Path:
    """Measures a finished run again, from its PNG files, and rewrites ``summary.json``.

    Raises:
        RunError: If the folder holds no finished run.
        NetworkError: If its network cannot be had, or its weights are others now.
    """
    run = open_run(folder)
    write_summary(run, network_of(run), store=None)
    return run / SUMMARY_FILE


def report(folder: Path) -> Path:
    """Draws a finished run's figures and page again; returns the page's path."""
    return write_report(open_run(folder))


def network_of(run: Run) -> CollisionNetwork:
    """Builds the network a run was made with; RunError if its weights are others now."""
    config = run.config
    network = load_network(config.network, config.seed)
    if network.digest != run.about["identity"]["network"]:
        raise RunError(
            f"{run.folder} was made with other weights of {network.name} than the ones here "
            f"(digest {run.about['identity']['network'][:12]}, found {network.digest[:12]}). Use "
            "those."
        )
    return network


def _make_run(
    config: Config,
    network: CollisionNetwork,
    pictures: dict[str, np.ndarray],
    paths: tuple[Path, Path],
    store: PatchStore | None,
    run: Run,
    backend: Backend,
) -> None:
    """Does what is left to do in a run's folder, up to its page."""
    _announce(config, network, pictures)
    for name, picture in pictures.items():
        write_png(run / f"{name}.png", picture)
    neighbours = None
    if store is not None:
        with run.timed("retrieve"):
            path = run / "neighbours.h5"
            neighbours = retrieve_neighbours(config, paths[0], [paths[1]], store, path, backend)
    if not (run / "vertices.h5").exists():
        with run.timed("optimise"):
            optimise_run(config, network, pictures, neighbours, run)
    with run.timed("evaluate"):
        write_summary(run, network, store)
    record_seconds(run)
    with run.timed("report"):
        write_report(run)
    record_seconds(run)


def _check_pair(
    config: Config, pictures: dict[str, np.ndarray], source: Path, target: Path
) -> None:
    if config.allow_same_image:
        return
    if np.array_equal(pictures["source"], pictures["target"]):
        raise ImageError(
            f"Source {source} and target {target} are the same picture, so they collide already. "
            "Choose two pictures, or repeat the paper's 'image with itself' with "
            "--set allow_same_image=true."
        )


def _start(
    config: Config,
    network: CollisionNetwork,
    pictures: dict[str, np.ndarray],
    paths: dict[str, Path],
    store: PatchStore | None,
    out: Path,
) -> Run:
    kind = "patches" if store else "pixels"
    inputs = {
        **{name: printable(path) for name, path in paths.items()},
        "network": network.full_name,
        "layer": network.layer,
        "store": printable(store.path) if store else None,
        "parameterisation": kind,
        "command": _command(config, paths, store, out),
    }
    identity = {
        **{name: array_digest(picture) for name, picture in pictures.items()},
        "network": network.digest,
        "layer": network.layer,
        "store": store.fingerprint if store else None,
        "parameterisation": kind,
    }
    return start_run(out, config, inputs, identity)


def _command(config: Config, paths: dict[str, Path], store: PatchStore | None, out: Path) -> str:
    """Returns the command line that makes the run again."""
    words = ["patchcollide", "collide"]
    for name, path in paths.items():
        words += [f"--{name}", printable(path)]
    words += ["--store", printable(store.path)] if store else ["--pixels"]
    words += ["--out", printable(out)]
    for override in overrides_of(config):
        words += ["--set", override]
    return shlex.join(words)


def _announce(config: Config, network: CollisionNetwork, pictures: dict[str, np.ndarray]) -> None:
    for name, picture in pictures.items():
        _, class_name, probability = network.top(picture)
        if not math.isfinite(probability):
            raise NetworkError(
                f"{network.full_name} gives the {name} a probability of {probability}. Its weights "
                "hold values that are not finite, or it is not meant for such images."
            )
        logger.info("%s: %s, %.3f by %s", name, class_name, probability, network.full_name)
        if name == "target" and probability < config.network.min_confidence:
            logger.warning(
                "the target is not classified confidently: %s with probability %.3f, below "
                "network.min_confidence = %g. A collision with it says little.",
                class_name,
                probability,
                config.network.min_confidence,
            )
