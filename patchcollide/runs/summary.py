"""``summary.json``: what a run found, in numbers."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config_files import parse_config
from patchcollide.errors import RunError
from patchcollide.evaluation.certificates import compare_with_others, walk_edges
from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.evaluation.degeneracy import measure_degeneracy
from patchcollide.evaluation.evaluate import evaluate_polytope
from patchcollide.evaluation.measures import attempt
from patchcollide.evaluation.samples import (
    HullSamples,
    load_samples,
    name_classes,
    sample_around,
    sample_null,
    save_samples,
)
from patchcollide.evaluation.visibility import measure_visibility, measure_yardsticks
from patchcollide.images.pictures import read_png
from patchcollide.images.tensors import as_batch
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import array_digest, versions
from patchcollide.io.system import peak_memory
from patchcollide.networks.feature_files import holds_features, read_features
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.runs.folder import EXACT_FILE, SAMPLES_FILE, SUMMARY_FILE, Run
from patchcollide.runs.vertices import load_vertex_pngs, load_vertices
from patchcollide.shapes import Float, UInt8, ndarray
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)


def write_summary(
    run: Run, network: CollisionNetwork, images: PatchStore | Path | None = None
) -> None:
    """Measures a run from its files and writes ``summary.json``.

    Args:
        run: Its PNG files, ``vertices.h5`` and ``config.json`` are read.
        network: The network it was made with.
        images: A store, or a folder of images, for the distances between the data set's images and
            of these to the target; without one, these and the costs are kept from the summary that
            is there.

    Raises:
        InputError: If a file is missing, damaged or belongs to another run. What fails of what is
            measured beside the vertices, such as with a folder that holds no images, is said in
            ``not_measured`` instead.
    """
    unrounded, state = load_vertices(run)
    vertices, before = load_vertex_pngs(run), _earlier_summary(run)
    summary, samples = summarise(
        network,
        run.about,
        source=read_png(run / "source.png"),
        target=read_run_target(run, network),
        vertices=vertices,
        unrounded=unrounded,
        images=images,
        before=before,
        found={**state, "neighbours": _omissions(run), "exact": read_exact(run)},
        missing={},
    )
    save_samples(run / SAMPLES_FILE, _earlier_null(run, vertices) | samples, array_digest(vertices))
    write_json(run / SUMMARY_FILE, summary)


def summarise(
    network: CollisionNetwork,
    about: dict[str, Any],
    *,
    source: UInt8[ndarray, "height width channels"],
    target: Target,
    vertices: UInt8[ndarray, "vertices height width channels"],
    unrounded: Float[ndarray, "vertices height width channels"],
    found: dict[str, Any],
    images: PatchStore | Path | None = None,
    before: dict[str, Any],
    missing: dict[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, HullSamples]]:
    """Measures a polytope.

    Args:
        network: The network it was found with.
        about: What :func:`patchcollide.runs.folder.describe` says of it.
        source: As the network saw it.
        target: What vertices are to collide with.
        vertices: 8-bit images.
        unrounded: The same before rounding, 0 to 255.
        found: How it was found: ``steps``, ``stopped_because``, ``neighbours`` and ``exact``.
        images: See :func:`write_summary`.
        before: An earlier summary, for what is not measured again; may be empty.
        missing: Takes why a measure failed that the others can do without; None to raise it.

    Returns:
        What ``summary.json`` holds, and the samples by kind, ``null`` only with images.
    """
    config, inputs = parse_config(about["config"], "the settings of the run"), about["inputs"]
    measured, hull = evaluate_polytope(
        network,
        source=source,
        target=target,
        vertices=vertices,
        unrounded=unrounded,
        settings=config.evaluation,
        seed=config.seed,
    )
    samples = {
        "hull": hull,
        **sample_around(network, target, vertices, config.evaluation, config.seed),
    }
    distance, others = before.get("dataset_distance_mean"), None

    def compare(images: PatchStore | Path) -> tuple[float | None, dict[str, Any] | None]:
        data = DatasetImages(images, config, network)
        drawn = data.draw()
        samples.update(
            sample_null(network, target, drawn, len(vertices), config.evaluation, config.seed)
        )
        found_there = compare_with_others(
            network,
            _features(network, target),
            drawn,
            measured["certificate"],
            seed=config.seed,
        )
        return data.mean_distance(), found_there

    if images is not None:
        compared = attempt("other images", lambda: compare(images), missing)
        distance, others = compared or (distance, others)
    visibility = attempt(
        "visibility",
        lambda: {
            **measure_visibility(vertices),
            "yardsticks": measure_yardsticks(vertices[0]),
        },
        missing,
    )
    summary = {
        "source": inputs["source"],
        "target": inputs["target"],
        "network": network.full_name,
        "layer": network.layer,
        "parameterisation": inputs["parameterisation"],
        "method": config.method,
        **measured,
        "sample_classes": name_classes(network, samples),
        "certificate": _certificate(measured["certificate"], vertices, before, others),
        **({} if visibility is None else {"visibility": visibility}),
        **({"not_measured": missing} if missing else {}),
        "dataset_distance_mean": distance,
        **found,
        "seconds": before.get("seconds", {}),
        "peak_memory_bytes": before.get("peak_memory_bytes", peak_memory()),
        "seed": config.seed,
        "fingerprint": about["fingerprint"],
        "versions": versions(),
    }
    return summary, samples


def _features(network: CollisionNetwork, target: Target) -> TargetFeatures:
    return TargetFeatures.of(target.pre_activation.to(network.device), network.blind)


def _earlier_null(
    run: Run, vertices: UInt8[ndarray, "vertices height width channels"]
) -> dict[str, HullSamples]:
    """Returns a null that was measured beside the same vertices before, if there is one."""
    path = run / SAMPLES_FILE
    with contextlib.suppress(RunError):
        found = load_samples(path, array_digest(vertices)) if path.exists() else {}
        return {"null": found["null"]} if "null" in found else {}
    return {}


def _certificate(
    gaps: dict[str, Any],
    vertices: UInt8[ndarray, "vertices height width channels"],
    before: dict[str, Any],
    others: dict[str, Any] | None,
) -> dict[str, Any]:
    """Returns what is claimed; what was said of the same vertices before and costs more is kept."""
    digest = array_digest(vertices)
    earlier = before.get("certificate", {})
    kept = earlier if earlier.get("vertices_digest") == digest else {}
    return {
        **gaps,
        "others": others or kept.get("others"),
        "degeneracy": asdict(measure_degeneracy(vertices.astype(np.float64))),
        "walk": kept.get("walk"),
        "vertices_digest": digest,
    }


def add_certificate(
    run: Run,
    network: CollisionNetwork,
    images: Sequence[UInt8[ndarray, "side side channels"]],
    *,
    num_pairs: int | None,
    num_edges: int | None,
    max_pieces: int,
) -> dict[str, Any]:
    """Adds to ``summary.json`` what :func:`write_summary` has no time for.

    Args:
        run: A finished run.
        network: The network it was made with.
        images: Of the data set, to stand beside the polytope; without any, what was measured of
            others is kept.
        num_pairs: At most how many pairs of them; None for all.
        num_edges: How many edges to walk; None for all.
        max_pieces: How many pieces of an edge to walk at most.

    Returns:
        The summary.

    Raises:
        RunError: If the run's vertices are not those measured, or an older version measured them.
        NetworkError: If the network is not piecewise linear.
    """
    summary = read_summary(run)
    vertices = load_vertex_pngs(run)
    certificate = summary.get("certificate", {})
    if certificate.get("vertices_digest") != array_digest(vertices):
        raise RunError(
            f"{run / SUMMARY_FILE} was not measured on the vertices that are there. Measure the "
            f"run again with `patchcollide evaluate {run.folder}`."
        )
    if "feature_distance_relative" not in certificate["hull"]:
        raise RunError(
            f"{run / SUMMARY_FILE} is of an older version, which measured gaps before the "
            f"activation. Measure the run again with `patchcollide evaluate {run.folder}`."
        )
    target = read_run_target(run, network)
    others = compare_with_others(
        network,
        _features(network, target),
        images,
        certificate,
        seed=run.config.seed,
        num_pairs=num_pairs,
    )
    certificate |= {"others": others or certificate.get("others")}
    if (run / SAMPLES_FILE).exists():
        settings = run.config.evaluation
        samples = load_samples(run / SAMPLES_FILE, array_digest(vertices))
        samples |= sample_null(network, target, images, len(vertices), settings, run.config.seed)
        save_samples(run / SAMPLES_FILE, samples, array_digest(vertices))
    # Before the walk, which a network may refuse.
    write_json(run / SUMMARY_FILE, summary)
    certificate["walk"] = walk_edges(
        network,
        as_batch(vertices),
        summary["target_class"],
        num_edges=num_edges,
        max_pieces=max_pieces,
    )
    write_json(run / SUMMARY_FILE, summary)
    return summary


def read_summary(run: Run) -> dict[str, Any]:
    """Reads ``summary.json``; RunError if it is missing or damaged."""
    return read_json(run / SUMMARY_FILE, error=RunError)


def read_exact(run: Run) -> dict[str, Any] | None:
    """Reads what linear programs said of the vertices; None if they were searched for."""
    exists = (run / EXACT_FILE).exists()
    return read_json(run / EXACT_FILE, error=RunError) if exists else None


def read_run_target(run: Run, network: CollisionNetwork) -> Target:
    """Reads the target of a run, an image or features, from its folder; errors as of these."""
    path = run / run.target_file
    if holds_features(path):
        features = read_features(path, network)
        return Target.of_features(network, features.pre_activation, features.image)
    return Target.of_picture(network, read_png(path))


def _earlier_summary(run: Run) -> dict[str, Any]:
    """Returns the summary that is there, for what cannot be measured again; empty without one."""
    if not (run / SUMMARY_FILE).exists():
        return {}
    try:
        return read_summary(run)
    except RunError as error:
        logger.warning("%s What only the making of the run could know is lost.", error)
        return {}


def record_seconds(run: Run) -> None:
    """Writes the time spent so far, by stage, into ``summary.json``."""
    write_json(run / SUMMARY_FILE, {**read_summary(run), "seconds": run.seconds()})


def _omissions(run: Run) -> dict[str, int] | None:
    path = run / "neighbours.h5"
    return vars(Neighbours.load(path).omissions) if path.exists() else None


def headline(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the numbers a person looks for first, as names and text."""
    low, high = summary["success_interval"]
    dataset = summary["dataset_distance_mean"]
    share = (
        f" ({summary['vertex_distance_mean'] / dataset:.1%} of the data set's)" if dataset else ""
    )
    return [
        ("target", f"{summary['target_class_name']}, {summary['target_probability']:.3f}"),
        ("samples in the target's class", f"{summary['success_rate']:.2%} ({low:.2%}..{high:.2%})"),
        ("mean probability of samples", f"{summary['sample_probability_mean']:.3f}"),
        ("mean distance between vertices", f"{summary['vertex_distance_mean']:.0f}{share}"),
        ("steps", f"{summary['steps']}: {summary['stopped_because']}"),
        ("seconds", f"{sum(summary['seconds'].values()):.0f}"),
        ("peak memory", f"{summary['peak_memory_bytes'] / 2**30:.1f} GB"),
    ]
