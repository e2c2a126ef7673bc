"""Pictures of a finished run for papers, as PNG or as PDF with letters and lines as vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchcollide.errors import RunError
from patchcollide.evaluation import hull_images
from patchcollide.files import output_path
from patchcollide.images import read_png
from patchcollide.neighbours import Neighbours
from patchcollide.polytope import seeded, uniform_weights
from patchcollide.report.figures import caption, write_contact_sheet, write_figure
from patchcollide.report.polytopes import write_polytope_figure
from patchcollide.runs import SUMMARY_FILE, Run, load_vertex_pngs
from patchcollide.shapes import UInt8, ndarray
from patchcollide.summaries import read_summary

# The paper's Tables 1, 3 and 5 are laid out alike: a run is one of them by what it is of.
KINDS = ("table", "table1", "table3", "table5", "differences", "neighbours")
SUFFIXES = (".png", ".pdf")
_NUM_SAMPLES = 5
_PURPOSE = 6
"""Tells the seed of the samples shown from those of the samples measured."""


def write_picture(run: Run, path: Path, kind: str) -> Path:
    """Draws a run for a paper.

    Args:
        run: A finished run.
        path: The file to write; its suffix, ``.png`` or ``.pdf``, decides the format.
        kind: ``"table"`` as in the paper's Tables 1, 3 and 5, by whose numbers it may be called
            too: vertices, what differs most in purple boxes, samples between them;
            ``"differences"`` as on the run's page; ``"neighbours"``, the contact sheet of a run of
            patches.

    Returns:
        Where it was written.

    Raises:
        RunError: If the suffix or the kind is another, if neighbours are asked of a run of free
            pixels, or if a file of the run is missing or damaged.
        DiskFullError: If there is no room left.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise RunError(f"--out {path} should end in {' or '.join(SUFFIXES)}.")
    if kind not in KINDS:
        raise RunError(f"--kind should be one of {', '.join(KINDS)}, but is {kind}.")
    path = output_path(path)
    if kind == "neighbours":
        _write_run_neighbours(path, run)
        return path
    summary = read_summary(run)
    try:
        title = f"{summary['network']}, {summary['layer']}, {summary['parameterisation']}"
        if kind == "differences":
            write_run_differences(path, run, title)
        else:
            write_run_polytope(path, run, title)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run / SUMMARY_FILE} is damaged ({type(error).__name__}: {error}). Measure the run "
            f"again with `patchcollide evaluate {run.folder}`."
        ) from error
    return path


def write_run_polytope(path: Path, run: Run, title: str) -> None:
    """Draws a run as the paper's Tables 1, 3 and 5 show theirs; errors as above."""
    summary, vertices = read_summary(run), load_vertex_pngs(run)
    write_polytope_figure(
        path,
        source=read_png(run / "source.png"),
        target=_target(run),
        vertices=vertices,
        samples=_samples(vertices, run.config.seed),
        title=title,
        captions=_captions(summary),
    )


def write_run_differences(path: Path, run: Run, title: str) -> None:
    """Draws a run's vertices, and where each differs from their mean; errors as above."""
    write_figure(
        path,
        source=read_png(run / "source.png"),
        target=_target(run),
        vertices=load_vertex_pngs(run),
        title=title,
        captions=_captions(read_summary(run)),
    )


def _write_run_neighbours(path: Path, run: Run) -> None:
    if not (run / "neighbours.h5").exists():
        raise RunError(
            f"{run.folder} varies {run.inputs['parameterisation']}, so it has no neighbours to "
            "show. Choose another --kind, or a run of patches (`patchcollide collide --store`)."
        )
    write_neighbour_sheet(path, Neighbours.load(run / "neighbours.h5"))


def write_neighbour_sheet(path: Path, neighbours: Neighbours) -> None:
    """Draws windows of the source and their neighbours, for locations spread over it."""
    write_contact_sheet(
        path,
        source=neighbours.source,
        patches=neighbours.windows,
        squared_distances=neighbours.squared_distances,
        locations=neighbours.grid.corners_px(),
        window_px=neighbours.grid.window_size,
    )


def _target(run: Run) -> UInt8[ndarray, "height width channels"] | None:
    return read_png(run / "target.png") if run.target_file == "target.png" else None


def _captions(summary: Mapping[str, Any]) -> list[str]:
    return [
        caption(summary["source_class_name"], summary["source_probability"]),
        caption(summary["target_class_name"], summary["target_probability"]),
        *(caption(v["class_name"], v["probability"]) for v in summary["vertices"]),
    ]


def _samples(
    vertices: UInt8[ndarray, "vertices height width channels"], seed: int
) -> UInt8[ndarray, "samples height width channels"]:
    """Returns images between the vertices, uniformly drawn; none for a single vertex."""
    count = _NUM_SAMPLES if len(vertices) > 1 else 0
    weights = uniform_weights(count, len(vertices), seeded(seed, _PURPOSE))
    return hull_images(weights, vertices)
