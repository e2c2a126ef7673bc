"""``summary.json``: what a run found, in numbers; its parts are typed in ``evaluation``."""

import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from patchcollide.config import Config
from patchcollide.config_files import parse_recorded
from patchcollide.errors import RunError
from patchcollide.evaluation.claims import compare_with_others
from patchcollide.evaluation.closeness import measure_closeness
from patchcollide.evaluation.controls import Controls
from patchcollide.evaluation.dataset import DatasetImages
from patchcollide.evaluation.degeneracy import measure_degeneracy
from patchcollide.evaluation.driven_units import DrivenUnit, rank_units
from patchcollide.evaluation.evaluate import Collision, CollisionGaps, Measured, evaluate_polytope
from patchcollide.evaluation.known_changes import ANOTHER, median_distance
from patchcollide.evaluation.measures import attempt
from patchcollide.evaluation.samples import (
    HullSamples,
    load_samples,
    name_classes,
    save_samples,
)
from patchcollide.evaluation.sampling import sample_around, sample_null
from patchcollide.evaluation.summary import Claims, ExactRecord, Fallible, HowFound, Summary
from patchcollide.evaluation.verdicts import describe_tightness, yardstick_of_others
from patchcollide.evaluation.visibility import Visibility, measure_visibility, measure_yardsticks
from patchcollide.images.pictures import read_png
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import array_digest, versions
from patchcollide.io.system import freed_memory_kept, peak_memory
from patchcollide.networks.feature_files import holds_features, read_features
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.units import driven_units
from patchcollide.proofs.worst import WorstFound, claims_of_hull, find_worst_sample
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.runs.folder import EXACT_FILE, SAMPLES_FILE, SUMMARY_FILE, Run, RunRecord
from patchcollide.runs.pictures import OF_STORE
from patchcollide.runs.vertices import load_vertex_pngs, load_vertices
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)

_NOTHING = cast(Summary, {})

_MOST_ALIKE = 5


@dataclass(frozen=True)
class SummaryOptions:
    """What a summary is made with, beside the polytope.

    Attributes:
        images: A store, or a folder of images, for the distances between the data set's images and
            of these to the target; None to keep those of ``before``.
        before: An earlier summary, for what is not measured again; None without one.
        missing: Takes why a measure failed that the others can do without; None to raise it.
    """

    images: PatchStore | Path | None = None
    before: Summary | None = None
    missing: dict[str, str] | None = None


def write_summary(
    run: Run, network: CollisionNetwork, images: PatchStore | Path | None = None
) -> None:
    """Measures a run from its files and writes ``summary.json``.

    Args:
        run: Its PNG files, ``vertices.h5`` and ``config.json`` are read.
        network: The network it was made with.
        images: See :class:`SummaryOptions`; what these give, and the costs, are else kept from the
            summary that is there.

    Raises:
        InputError: If a file is missing, damaged or belongs to another run. What fails of what is
            measured beside the vertices, such as with a folder that holds no images, is said in
            ``not_measured`` instead.
    """
    unrounded, state = load_vertices(run)
    vertices, before = load_vertex_pngs(run), _earlier_summary(run)
    source, target = read_png(run / "source.png"), read_run_target(run, network)
    collision = Collision(network, source, target, vertices, unrounded)
    found: HowFound = {**state, "neighbours": _omissions(run), "exact": read_exact(run)}
    options = SummaryOptions(images, before, missing={})
    with freed_memory_kept():
        summary, samples = summarise(run.about, collision, found, options)
    save_samples(run / SAMPLES_FILE, _earlier_null(run, vertices) | samples, array_digest(vertices))
    write_json(run / SUMMARY_FILE, summary)


def summarise(
    about: RunRecord, collision: Collision, found: HowFound, options: SummaryOptions
) -> tuple[Summary, dict[str, HullSamples]]:
    """Measures a polytope.

    Args:
        about: What :func:`patchcollide.runs.folder.describe` says of it.
        collision: Its vertices, and what they are to collide with.
        found: How it was found.
        options: What it is compared with, and what is kept.

    Returns:
        What ``summary.json`` holds, and the samples by kind, ``null`` only with images.
    """
    network, inputs, missing = collision.network, about["inputs"], options.missing
    config = parse_recorded(about["config"], "the settings of the run")
    before = options.before or _NOTHING
    measured = evaluate_polytope(collision, config.evaluation, config.seed)
    samples = {"hull": measured.hull} | sample_around(
        collision.quick, collision.target, collision.vertices, config.evaluation, config.seed
    )
    others = _Others(before.get("dataset_distance_mean"))
    if (images := options.images) is not None:
        compare = DatasetImages(images, config, network)
        found_there = attempt(
            "other images", lambda: _compare(about, collision, measured, compare), missing
        )
        others = found_there or others
        samples |= others.samples
    fallible = _fallible(collision, config, missing, exact=found["exact"] is not None)
    claims = _claims(measured.gaps, collision, before, others.controls)
    tightness = describe_tightness(collision, measured, config, missing)
    another = _another(others, before)
    tightness["yardstick"] |= yardstick_of_others(claims, claims.get("others"), another)
    if missing:
        fallible["not_measured"] = missing
    summary: Summary = {
        "source": inputs["source"],
        "target": inputs["target"],
        "network": network.full_name,
        "layer": network.layer,
        "parameterisation": inputs["parameterisation"],
        "method": config.method,
        **measured.figures,
        "certificate": claims,
        "sample_classes": name_classes(network, samples),
        "tightness": tightness,
        "worst_found": _worst_found(collision, measured.hull, config.seed),
        **fallible,
        "dataset_distance_mean": others.distance,
        **found,
        "seconds": before.get("seconds", {}),
        "peak_memory_bytes": before.get("peak_memory_bytes", peak_memory()),
        "seed": config.seed,
        "fingerprint": about["fingerprint"],
        "versions": versions(),
    }
    return summary, samples


def _fallible(
    collision: Collision, config: Config, missing: dict[str, str] | None, *, exact: bool
) -> Fallible:
    """Measures what a summary can do without."""
    vertices, source, found = collision.vertices, collision.source, Fallible()
    visibility = attempt("visibility", lambda: _visibility(collision), missing)
    if visibility is not None:
        found["visibility"] = visibility
    closeness = attempt("closeness", lambda: measure_closeness(vertices, source), missing)
    if closeness is not None:
        found["closeness"] = closeness
    ranks = attempt("units", lambda: _driven_units(collision, config, exact=exact), missing)
    if ranks is not None:
        found["driven_units"] = ranks
    return found


def _worst_found(collision: Collision, hull: HullSamples, seed: int) -> WorstFound:
    return find_worst_sample(
        collision.quick,
        collision.vertices,
        collision.target.class_index,
        hull.weights,
        hull.target_probabilities,
        seed,
    )


@dataclass(frozen=True)
class _Others:
    """Images of the data set: their mean distance, how near they are, what lies between.

    And how near those of the target's class are.
    """

    distance: float | None
    controls: Controls | None = None
    another: float | None = None
    samples: dict[str, HullSamples] = field(default_factory=dict)


def _compare(
    about: RunRecord, collision: Collision, measured: Measured, images: DatasetImages
) -> _Others:
    network, drawn, seed = collision.network, images.draw(), images.config.seed
    count, settings = len(collision.vertices), images.config.evaluation
    alike = images.same_class(Path(about["inputs"]["target"].removeprefix(OF_STORE)), _MOST_ALIKE)
    another = median_distance(network, collision.target, alike)
    null = sample_null(collision.quick, collision.target, drawn, count, settings, seed)
    hull = measured.gaps["hull"]
    controls = compare_with_others(network, collision.features, drawn, hull, seed=seed)
    return _Others(images.mean_distance(), controls, another, null)


def _another(others: _Others, before: Summary) -> float | None:
    """Returns tau of other images of the target's class, as measured now or before."""
    if others.another is None and "tightness" in before:
        return before["tightness"]["yardstick"].get(ANOTHER)
    return others.another


def _driven_units(collision: Collision, config: Config, *, exact: bool) -> list[DrivenUnit]:
    units = driven_units(config, collision.features, exact=exact)
    if not len(units):
        return []
    return rank_units(collision.at_vertices.pre_activation, collision.features, units)


def _visibility(collision: Collision) -> Visibility:
    seen = measure_visibility(collision.vertices)
    return {**seen, "yardsticks": measure_yardsticks(collision.vertices[0])}


def _earlier_null(
    run: Run, vertices: UInt8[ndarray, "vertices height width channels"]
) -> dict[str, HullSamples]:
    """Returns a null that was measured beside the same vertices before, if there is one."""
    path = run / SAMPLES_FILE
    with contextlib.suppress(RunError):
        found = load_samples(path, array_digest(vertices)) if path.exists() else {}
        return {"null": found["null"]} if "null" in found else {}
    return {}


def _claims(
    gaps: CollisionGaps, collision: Collision, before: Summary, others: Controls | None
) -> Claims:
    """Returns what is claimed; what was said of the same vertices before and costs more is kept."""
    digest = array_digest(collision.vertices)
    kept = before.get("certificate") or cast(Claims, {})
    if kept.get("vertices_digest") != digest:
        kept = cast(Claims, {})
    collided = collision.network, collision.vertices, collision.target
    found = {
        **gaps,
        "others": others or kept.get("others"),
        "degeneracy": measure_degeneracy(collision.vertices.astype(np.float64)),
        "walk": kept.get("walk"),
        "vertices_digest": digest,
        **claims_of_hull(*collided, kept.get("proofs")),
        **({"aimed": kept["aimed"]} if "aimed" in kept else {}),
    }
    return cast(Claims, found)


def read_summary(run: Run) -> Summary:
    """Reads ``summary.json``; RunError if it is missing or damaged."""
    return cast(Summary, read_json(run / SUMMARY_FILE, error=RunError))


def read_exact(run: Run) -> ExactRecord | None:
    """Reads what linear programs said of the vertices; None if none were solved."""
    if not (run / EXACT_FILE).exists():
        return None
    return cast(ExactRecord, read_json(run / EXACT_FILE, error=RunError))


def read_run_target(run: Run, network: CollisionNetwork) -> Target:
    """Reads the target of a run, an image or features, from its folder; errors as of these."""
    path = run / run.target_file
    if holds_features(path):
        features = read_features(path, network)
        return Target.of_features(network, features.pre_activation, features.image)
    return Target.of_picture(network, read_png(path))


def _earlier_summary(run: Run) -> Summary | None:
    """Returns the summary that is there, for what cannot be measured again; None without one."""
    if not (run / SUMMARY_FILE).exists():
        return None
    try:
        return read_summary(run)
    except RunError as error:
        logger.warning("%s What only the making of the run could know is lost.", error)
        return None


def record_seconds(run: Run) -> None:
    """Writes the time spent so far, by stage, into ``summary.json``."""
    write_json(run / SUMMARY_FILE, {**read_summary(run), "seconds": run.seconds()})


def _omissions(run: Run) -> dict[str, int] | None:
    path = run / "neighbours.h5"
    return vars(Neighbours.load(path).omissions) if path.exists() else None
