"""The vertices of a run and the history of their descent, as its folder holds them."""

import csv
from collections.abc import Sequence

import numpy as np

from patchcollide.errors import RunError
from patchcollide.evaluation.summary import Ending
from patchcollide.images.folders import source_digest
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.files import written_beside
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.io.provenance import versions
from patchcollide.optimisation.descent import history_columns
from patchcollide.optimisation.vertices import FoundVertices
from patchcollide.runs.folder import (
    CONFIG_FILE,
    CONTRIBUTIONS_FILE,
    HISTORY_FILE,
    VERTICES_FILE,
    Run,
)
from patchcollide.shapes import Float32, UInt8, ndarray

VERTICES_ENCODING = "patchcollide-vertices"

_VERSION = "1"


def save_found(run: Run, found: FoundVertices) -> None:
    """Writes what a descent ended with: ``vertices.h5``, PNG files, the history, contributions."""
    save_history(run, found.history, history_columns(found.history))
    if found.contributions is not None:
        found.contributions.save(run / CONTRIBUTIONS_FILE, run.fingerprint)
    save_vertices(run, found.unrounded, found.state)


def save_vertices(
    run: Run, vertices: Float32[ndarray, "vertices height width channels"], state: Ending
) -> None:
    """Writes ``vertices.h5`` and ``vertex-0.png`` ...

    Args:
        run: Where to.
        vertices: Images in 0..255, unrounded.
        state: Kept with them.
    """
    for number, vertex in enumerate(vertices):
        write_png(run / f"vertex-{number}.png", np.rint(vertex).astype(np.uint8))
    write_hdf5(
        run / VERTICES_FILE,
        encoding=VERTICES_ENCODING,
        version=_VERSION,
        datasets={"vertices": vertices},
        attributes={
            **state,
            "history_digest": source_digest(run / HISTORY_FILE),
            "fingerprint": run.fingerprint,
            "settings": run.about["config"],
            "inputs": run.inputs,
            "seed": run.about["seed"],
            "versions": versions(),
        },
    )


def load_vertices(
    run: Run,
) -> tuple[Float32[ndarray, "vertices height width channels"], Ending]:
    """Reads ``vertices.h5``: unrounded images in 0..255, and how the descent ended.

    Raises:
        RunError: If it is missing, damaged, or of another run.
    """
    path = run / VERTICES_FILE
    with open_hdf5(path, encoding=VERTICES_ENCODING, version=_VERSION, error=RunError) as file:
        if file.attribute("fingerprint") != run.fingerprint:
            raise RunError(f"{path} belongs to another run than {run / CONFIG_FILE}.")
        state: Ending = {
            "steps": file.attribute("steps"),
            "stopped_because": file.attribute("stopped_because"),
        }
        if file.has_attribute("shrunk_to"):
            state["shrunk_to"] = file.attribute("shrunk_to")
        return file.array("vertices", np.float32, (None, None, None, None)), state


def load_vertex_pngs(run: Run) -> UInt8[ndarray, "vertices height width channels"]:
    """Reads ``vertex-0.png`` ..., which is all that is needed to check a collision.

    Raises:
        RunError: If one is missing, or they are not of one size.
    """
    images = []
    for number in range(run.config.optimiser.num_vertices):
        path = run / f"vertex-{number}.png"
        if not path.exists():
            raise RunError(f"{path} is missing. Put it back, or make the run again.")
        images.append(read_png(path))
    if len({image.shape for image in images}) > 1:
        raise RunError(f"{run.folder}: the vertices' PNG files are not of one size.")
    return np.stack(images)


def require_one_shape(run: Run, rounded: ndarray, unrounded: ndarray) -> None:
    """Raises :class:`RunError` if a run's PNG files are of another shape than ``vertices.h5``."""
    if rounded.shape != unrounded.shape:
        raise RunError(
            f"{run.folder}: the vertices' PNG files are of shape {rounded.shape}, but "
            f"{VERTICES_FILE} holds {unrounded.shape}. Make the run again."
        )


def save_history(run: Run, history: Sequence[dict[str, float]], columns: Sequence[str]) -> None:
    """Writes ``history.csv``: one row a step, empty where a column was not measured."""
    with (
        written_beside(run / HISTORY_FILE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=columns, restval="")
        writer.writeheader()
        writer.writerows(history)


def _require_own_history(run: Run) -> None:
    """Raises :class:`RunError` if ``vertices.h5`` was written beside another history."""
    path = run / VERTICES_FILE
    if not path.exists():
        return
    with open_hdf5(path, encoding=VERTICES_ENCODING, version=_VERSION, error=RunError) as file:
        known = file.has_attribute("history_digest")
        digest = file.attribute("history_digest") if known else None
    if digest and digest != source_digest(run / HISTORY_FILE):
        raise RunError(
            f"{run / HISTORY_FILE} is damaged: it does not hold the bytes that were written. Make "
            "the run again."
        )


def load_history(run: Run) -> list[dict[str, float]]:
    """Reads ``history.csv``; what was not measured is left out of a row.

    Raises:
        RunError: If it is missing or damaged.
    """
    path = run / HISTORY_FILE
    if not path.exists():
        raise RunError(f"{path} is missing. Make the run again.")
    _require_own_history(run)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}). Make the run again.") from error
    if not all("step" in row for row in rows):
        raise RunError(f"{path} is damaged: it has rows without a step. Make the run again.")
    return rows
