"""The collision stages: from source and target to a run's folder, and that measured again."""

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcollide.composition import make_search, optimise_run
from patchcollide.config import Config, overrides_of
from patchcollide.errors import DivergedError, ImageError, InputError, RunError
from patchcollide.extraction import read_target
from patchcollide.features import write_features
from patchcollide.files import output_path
from patchcollide.images import write_png
from patchcollide.neighbours import Neighbours
from patchcollide.networks import CollisionNetwork, load_network
from patchcollide.parallel import LOCAL, Backend
from patchcollide.provenance import array_digest, printable
from patchcollide.report.writer import write_report
from patchcollide.retrieval import open_store, read_square, retrieve_neighbours
from patchcollide.runs import SUMMARY_FILE, Run, open_run, require_files, start_run
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store import PatchStore
from patchcollide.summaries import record_seconds, write_summary
from patchcollide.targets import Target, require_finite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """What a collision is between.

    Attributes:
        source_path: The source's file.
        target_path: The target's file.
        source: The source as the network sees it.
        target: What vertices are to collide with.
    """

    source_path: Path
    target_path: Path
    source: UInt8[ndarray, "height width 3"]
    target: Target


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
        target: The image whose features are matched, or a file of features, ``.h5`` or ``.npz``.
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
    pair = Pair(
        source_path=source,
        target_path=target,
        source=read_square(config, source, network.input_size),
        target=read_target(config, network, target),
    )
    _check_pair(config, pair)
    run = _start(config, network, pair, store, out)
    if run.finished:
        require_files(run, config.optimiser.num_vertices)
        logger.info("%s holds this run already: nothing to do.", out)
        return out
    begun = (run / "checkpoint.h5").exists()
    try:
        _make_run(config, network, pair, store, run, backend)
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
    config = run.config
    network = load_network(config.network, config.seed)
    if network.digest != run.about["identity"]["network"]:
        raise RunError(
            f"{folder} was made with other weights of {network.name} than the ones here (digest "
            f"{run.about['identity']['network'][:12]}, found {network.digest[:12]}). Use those."
        )
    write_summary(run, network, store=None)
    return run / SUMMARY_FILE


def report(folder: Path) -> Path:
    """Draws a finished run's figures and page again; returns the page's path."""
    return write_report(open_run(folder))


def _make_run(
    config: Config,
    network: CollisionNetwork,
    pair: Pair,
    store: PatchStore | None,
    run: Run,
    backend: Backend,
) -> None:
    """Does what is left to do in a run's folder, up to its page."""
    _announce(config, network, pair)
    # Before anything long begins: it refuses targets without enough inactive units.
    make_search(config, network, pair.target)
    _write_pair(run, network, pair)
    neighbours = None
    if store is not None:
        with run.timed("retrieve"):
            neighbours = _neighbours(config, pair, store, run, backend)
    if not (run / "vertices.h5").exists():
        with run.timed("optimise"):
            optimise_run(config, network, pair.source, pair.target, neighbours, run)
    with run.timed("evaluate"):
        write_summary(run, network, store)
    record_seconds(run)
    with run.timed("report"):
        write_report(run)
    record_seconds(run)


def _neighbours(
    config: Config, pair: Pair, store: PatchStore, run: Run, backend: Backend
) -> Neighbours:
    others = [pair.target_path]
    if pair.target.picture is None:
        others = []
        if config.retrieval.leak_guard:
            logger.warning(
                "the target is given as features, so its own patches are not known and not left "
                "out. If its image is in the store, name it in retrieval.exclude."
            )
    path = run / "neighbours.h5"
    return retrieve_neighbours(config, pair.source_path, others, store, path, backend)


def _write_pair(run: Run, network: CollisionNetwork, pair: Pair) -> None:
    write_png(run / "source.png", pair.source)
    target, path = pair.target, run / run.target_file
    if target.picture is not None:
        write_png(path, target.picture)
    else:
        about = {"fingerprint": run.fingerprint, "origin": printable(pair.target_path)}
        write_features(path, target.pre_activation, network, image=target.image, about=about)


def _check_pair(config: Config, pair: Pair) -> None:
    if config.allow_same_image or pair.target.picture is None:
        return
    if np.array_equal(pair.source, pair.target.picture):
        raise ImageError(
            f"Source {pair.source_path} and target {pair.target_path} are the same picture, so "
            "they collide already. Choose two pictures, or repeat the paper's 'image with itself' "
            "with --set allow_same_image=true."
        )


def _start(
    config: Config,
    network: CollisionNetwork,
    pair: Pair,
    store: PatchStore | None,
    out: Path,
) -> Run:
    kind = "patches" if store else "pixels"
    inputs = {
        "source": printable(pair.source_path),
        "target": printable(pair.target_path),
        "target_given_as": pair.target.given_as,
        "target_image": pair.target.image,
        "network": network.full_name,
        "layer": network.layer,
        "store": printable(store.path) if store else None,
        "parameterisation": kind,
        "command": _command(config, pair, store, out),
    }
    identity = {
        "source": array_digest(pair.source),
        "target": pair.target.digest,
        "network": network.digest,
        "layer": network.layer,
        "store": store.fingerprint if store else None,
        "parameterisation": kind,
    }
    return start_run(out, config, inputs, identity)


def _command(config: Config, pair: Pair, store: PatchStore | None, out: Path) -> str:
    """Returns the command line that makes the run again."""
    words = ["patchcollide", "collide"]
    words += ["--source", printable(pair.source_path), "--target", printable(pair.target_path)]
    words += ["--store", printable(store.path)] if store else ["--pixels"]
    words += ["--out", printable(out)]
    for override in overrides_of(config):
        words += ["--set", override]
    return shlex.join(words)


def _announce(config: Config, network: CollisionNetwork, pair: Pair) -> None:
    _, class_name, probability = network.top(pair.source)
    require_finite(network, "source", probability)
    logger.info("source: %s, %.3f by %s", class_name, probability, network.full_name)
    target = pair.target
    logger.info("target: %s, %.3f by %s", target.class_name, target.probability, network.full_name)
    if target.probability < config.network.min_confidence:
        logger.warning(
            "the target is not classified confidently: %s with probability %.3f, below "
            "network.min_confidence = %g. A collision with it says little.",
            target.class_name,
            target.probability,
            config.network.min_confidence,
        )
