"""The audit stage: how large the polytopes of a data set's images are, ranked, with findings."""

import logging
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from patchcollide.audit.adequacy import blindness, measure_adequacy, whole_size
from patchcollide.audit.documents import Audit, Failure, Record, Row
from patchcollide.audit.files import (
    AUDIT_FILE,
    RECORDS_FILE,
    TABLE_FILE,
    RecordFile,
    is_failure,
    require_audit_files,
    write_table,
)
from patchcollide.audit.findings import add_findings, measure_trust, summarise_classes, suspects
from patchcollide.audit.page import write_audit_page
from patchcollide.audit.samples import AuditImage, Sample, draw_sample, label_classes
from patchcollide.audit.sizes import MeasuredPolytope, VertexFinder, choose_finder, measure_polytope
from patchcollide.config import Config
from patchcollide.config_files import overrides_of
from patchcollide.errors import InputError, InterruptedWorkError, ProgramError
from patchcollide.evaluation.measures import attempt
from patchcollide.images.pictures import resize_square, write_png
from patchcollide.io.files import output_path, write_json
from patchcollide.io.provenance import printable, versions
from patchcollide.networks.loading import load_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.progress import note, stop_requests, track
from patchcollide.runs.folder import AUDIT_ENCODING, Run, RunIdentity, RunInputs, start_run
from patchcollide.shapes import UInt8, ndarray
from patchcollide.torch_modes import proof_modes

logger = logging.getLogger(__name__)

IMAGES_FOLDER = "images"
NUM_SHOWN = 2
"""How many vertices of each image are kept as pictures."""
_PICTURE_PX = 96
_VERSION = 2
"""Which figures these are: since 2, features behind the activation and visibility by frequency."""


@proof_modes(grad=True)
def audit(config: Config, folder: Path, out: Path, *, one_class: bool = False) -> Path:
    """Measures the polytopes of a sample of images, ranks them, and reports.

    Interrupted at any point, the same call goes on with the first image that is not measured.

    Args:
        config: All settings; sections ``audit`` and ``network`` matter, for a descent also
            ``objective`` and ``optimiser``.
        folder: Images, by classes in folders.
        out: The audit's folder.
        one_class: Whether images of one class, or of none, will do.

    Returns:
        ``out``.

    Raises:
        InputError: If the images, the network, its layer or ``out`` cannot be used, or no image's
            polytope can be measured. A single one that cannot is left out, listed with the reason.
        InterruptedWorkError: If the user stopped it; what is measured is kept.
        DiskFullError: If the disk is full.
    """
    out = output_path(out)
    network = load_network(config.network, config.seed)
    sample = draw_sample(config, network, folder, one_class=one_class)
    finder = choose_finder(config, network)
    run = _start(config, network, sample, finder, folder, out, one_class)
    if run.finished:
        require_audit_files(run)
        logger.info("%s holds this audit already: nothing to do.", out)
        return out
    _announce(network, sample, finder)
    try:
        measured = _measure_all(config, network, sample, finder, run)
        sample, records = _without_failures(sample, measured)
    except InputError:
        if all(map(is_failure, RecordFile(run / RECORDS_FILE).read())):
            run.discard()
        raise
    found = _conclude(config, network, sample, finder, run, records)
    write_json(run / AUDIT_FILE, found)
    write_table(run / TABLE_FILE, found["images"])
    write_audit_page(run, found)
    finished = run.finish()
    # audit.json holds them all.
    (finished / RECORDS_FILE).unlink()
    return out


def _start(
    config: Config,
    network: CollisionNetwork,
    sample: Sample,
    finder: VertexFinder,
    folder: Path,
    out: Path,
    one_class: bool,
) -> Run:
    words = ["patchcollide", "audit", printable(folder), "--out", printable(out)]
    words += ["--one-class"] if one_class else []
    for override in overrides_of(config):
        words += ["--set", override]
    described: RunInputs = {
        "images": printable(folder),
        "network": network.full_name,
        "layer": network.layer,
        "command": shlex.join(words),
    }
    identity: RunIdentity = {
        "images": sample.digest,
        "network": network.digest,
        "layer": network.layer,
        "method": finder.method,
        "measures": _VERSION,
    }
    return start_run(out, config, described, identity, AUDIT_ENCODING)


def _announce(network: CollisionNetwork, sample: Sample, finder: VertexFinder) -> None:
    how = "linear programs" if finder.method == "exact" else "a descent over pixels"
    logger.info(
        "%d images of %d classes, %s, layer '%s' (%d units), by %s.",
        len(sample.images),
        len(sample.labels),
        network.full_name,
        network.layer,
        network.units,
        how,
    )
    known = label_classes(network, sample.labels)
    if unnamed := [label for label in sample.labels if label not in known]:
        logger.info(
            "%d of %d folders are named like no class of %s, such as '%s': whether it takes their "
            "images for the right class is not measured.",
            len(unnamed),
            len(sample.labels),
            network.full_name,
            unnamed[0],
        )
    for name, reason in sample.skipped:
        logger.warning("%s is left out: %s", name, reason)
    if fitted := sum(image.is_fitted for image in sample.images):
        size = network.input_size
        logger.info("%d of them had another size than %d x %d and were fitted.", fitted, size, size)


def _measure_all(
    config: Config, network: CollisionNetwork, sample: Sample, finder: VertexFinder, run: Run
) -> list[Record | Failure]:
    file = RecordFile(run / RECORDS_FILE)
    records = file.read()
    done = {record["name"] for record in records}
    classes = label_classes(network, sample.labels)
    (run / IMAGES_FOLDER).mkdir(exist_ok=True)
    left = [(number, image) for number, image in enumerate(sample.images) if image.name not in done]
    try:
        with stop_requests() as request:
            for number, image in track(left, "Measuring polytopes", len(left)):
                record = _measure(config, network, finder, run, number, image, classes)
                # Last, so that what is recorded is whole.
                file.append(record)
                records.append(record)
                if not is_failure(record):
                    note(tau=record["feature_distance_relative"], size=record["size"])
                if request.requested and len(records) < len(sample.images):
                    raise InterruptedWorkError("The user asked to stop between two images.")
    except InterruptedWorkError as error:
        raise InterruptedWorkError(
            f"Stopped after {len(records)} of {len(sample.images)} images. Run the same command "
            "again to go on."
        ) from error
    return records


def _measure(
    config: Config,
    network: CollisionNetwork,
    finder: VertexFinder,
    run: Run,
    number: int,
    image: AuditImage,
    classes: Mapping[str, int],
) -> Record | Failure:
    """Measures an image and writes its pictures; returns its record, or why there is none.

    One image's failure is not that of the others.
    """
    begun = time.perf_counter()
    label_class = classes.get(image.label)
    reason: dict[str, str] = {}
    measured = attempt(
        image.name,
        lambda: measure_polytope(config, network, finder, image.picture, label_class),
        reason,
    )
    if measured is None:
        return {"name": image.name, "not_measured": reason[image.name]}
    pictures = _write_pictures(run, number, image, measured)
    return {
        "name": image.name,
        "label": image.label,
        "sha256": image.digest,
        "is_fitted": image.is_fitted,
        **measured.figures,
        "pictures": pictures,
        "seconds": time.perf_counter() - begun,
    }


def _without_failures(
    sample: Sample, records: list[Record | Failure]
) -> tuple[Sample, list[Record]]:
    """Leaves images out whose polytope could not be measured, and says why.

    Raises:
        ProgramError: If none could be.
    """
    failed = {each["name"]: each["not_measured"] for each in records if is_failure(each)}
    if len(failed) == len(records):
        name, reason = next(iter(failed.items()))
        raise ProgramError(
            f"None of the {len(failed)} images' polytopes could be measured. The first, {name}: "
            f"{reason}"
        )
    kept = tuple(image for image in sample.images if image.name not in failed)
    return (
        replace(sample, images=kept, skipped=(*sample.skipped, *failed.items())),
        [record for record in records if not is_failure(record)],
    )


def _write_pictures(
    run: Run, number: int, image: AuditImage, measured: MeasuredPolytope
) -> list[str]:
    """Writes an image and some of its vertices, small; returns the names of the files."""
    names = []
    for place, picture in enumerate([image.picture, *measured.vertices[:NUM_SHOWN]]):
        suffix = f"-vertex-{place - 1}" if place else ""
        names.append(f"{IMAGES_FOLDER}/{number:06d}{suffix}.png")
        write_png(run / names[-1], _small(picture))
    return names


def _small(picture: UInt8[ndarray, "side side channels"]) -> UInt8[ndarray, "_ _ channels"]:
    side, channels = len(picture), picture.shape[2]
    if side <= _PICTURE_PX:
        return picture
    rgb = np.repeat(picture, 3, axis=2) if channels == 1 else picture
    small = resize_square(rgb, left=0, top=0, side=side, size=_PICTURE_PX)
    return small[..., :channels]


def _conclude(
    config: Config,
    network: CollisionNetwork,
    sample: Sample,
    finder: VertexFinder,
    run: Run,
    records: list[Record],
) -> Audit:
    """Returns what ``audit.json`` holds."""
    distance = sample.mean_distance(config.evaluation.dataset_pairs, config.seed)
    judged_records = add_findings(records)
    whole = whole_size(network.channels * network.input_size**2)
    blind = blindness(judged_records, whole).tolist()
    rows: list[Row] = [
        {**row, "size_share": row["size"] / distance if distance else None, "blindness": value}
        for row, value in zip(judged_records, blind, strict=True)
    ]
    judged = [row["agrees"] for row in rows if row["agrees"] is not None]
    return {
        "encoding-type": AUDIT_ENCODING,
        "encoding-version": _VERSION,
        "fingerprint": run.fingerprint,
        "images": rows,
        "network": run.inputs["network"],
        "layer": run.inputs["layer"],
        "command": run.inputs["command"],
        "folder": run.inputs["images"],
        "network_digest": network.digest,
        "method": finder.method,
        "seed": config.seed,
        "settings": run.about["config"],
        "versions": versions(),
        "images_digest": sample.digest,
        "num_found": sample.num_found,
        "skipped": [{"name": name, "reason": reason} for name, reason in sample.skipped],
        "data_distance": distance,
        "whole_size": whole,
        "agreement": float(np.mean(judged)) if judged else None,
        "named_labels": sorted(label_classes(network, sample.labels)),
        "adequacy": measure_adequacy(rows, whole, config.seed),
        "classes": summarise_classes(rows, distance),
        "suspects": suspects(rows),
        "trust": measure_trust(rows, config.seed),
        "seconds": sum(record["seconds"] for record in records),
    }
