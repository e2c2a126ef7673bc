"""Draws a run's figure and writes its page, and pictures of it for papers.

These are PNG, or PDF or SVG with letters and lines as vectors.
"""

from pathlib import Path

import torch

from patchcollide.composition.contributions import Contributions
from patchcollide.errors import RunError
from patchcollide.evaluation.samples import HullSamples, load_samples
from patchcollide.evaluation.simplex import hull_images, uniform_weights
from patchcollide.evaluation.summary import Summary
from patchcollide.images.pictures import read_png
from patchcollide.io.files import output_path, write_text
from patchcollide.io.provenance import array_digest
from patchcollide.randomness import Purpose, seeded
from patchcollide.report.charts import draw_history, draw_samples
from patchcollide.report.closeups import make_closeups
from patchcollide.report.figures import (
    caption,
    write_contact_sheet,
    write_figure,
    write_polytope_figure,
)
from patchcollide.report.headlines import figure_title
from patchcollide.report.live import make_live
from patchcollide.report.page import render_page
from patchcollide.report.sheet import FORMATS
from patchcollide.report.tables import comparison_rows
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.runs.folder import CONTRIBUTIONS_FILE, SAMPLES_FILE, SUMMARY_FILE, Run
from patchcollide.runs.summary import read_summary
from patchcollide.runs.vertices import load_history, load_vertex_pngs
from patchcollide.shapes import UInt8, ndarray

# The paper's Tables 1, 3 and 5 are laid out alike: a run is one of them by what it is of.
KINDS = ("table", "table1", "table3", "table5", "differences", "neighbours")

_NUM_SAMPLES = 5

_IMAGES = ("source", "target", "neighbours")


def write_picture(run: Run, path: Path, kind: str) -> Path:
    """Draws a run for a paper.

    Args:
        run: A finished run.
        path: The file to write; its suffix, ``.png``, ``.pdf`` or ``.svg``, decides the
            format.
        kind: ``"table"`` as in the paper's Tables 1, 3 and 5, by whose numbers it may be called
            too: vertices, what differs most in purple boxes, samples between them;
            ``"differences"`` as on the run's page; ``"neighbours"``, the contact sheet of a run of
            patches.

    Returns:
        Where it was written.

    Raises:
        RunError: If the suffix or the kind is another, if neighbours are asked of a run of free
            pixels, or if a file of the run is missing or damaged.
        DiskFullError: If the disk is full.
    """
    if path.suffix.lower() not in FORMATS:
        raise RunError(f"--out {path} should end in {' or '.join(FORMATS)}.")
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
    samples, said = _samples(run, summary, vertices)
    write_polytope_figure(
        path,
        source=read_png(run / "source.png"),
        target=_target(run),
        vertices=vertices,
        samples=samples,
        title=title,
        captions=_captions(summary),
        sample_captions=said,
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
    found, positions = Neighbours.load(run / "neighbours.h5"), run.config.grid.num_positions
    write_neighbour_sheet(path, found, positions)


def write_neighbour_sheet(path: Path, neighbours: Neighbours, positions_per_image: int) -> None:
    """Draws windows of the source and their neighbours, for locations spread over it.

    Args:
        path: The picture to write.
        neighbours: What is shown.
        positions_per_image: Patches of each image of the store, which their identifiers count by.
    """
    write_contact_sheet(
        path,
        source=neighbours.source,
        patches=neighbours.windows,
        squared_distances=neighbours.squared_distances,
        locations=neighbours.grid.corners_px(),
        window_px=neighbours.grid.window_size,
        names=[
            [neighbours.image_names.get(patch // positions_per_image, "") for patch in row]
            for row in neighbours.ids.tolist()
        ],
    )


def _target(run: Run) -> UInt8[ndarray, "height width channels"] | None:
    return read_png(run / "target.png") if run.target_file == "target.png" else None


def _captions(summary: Summary) -> list[str]:
    return [
        caption(summary["source_class_name"], summary["source_probability"]),
        caption(summary["target_class_name"], summary["target_probability"]),
        *(caption(v["class_name"], v["probability"]) for v in summary["vertices"]),
    ]


def _samples(
    run: Run, summary: Summary, vertices: UInt8[ndarray, "vertices height width channels"]
) -> tuple[UInt8[ndarray, "samples height width channels"], list[str]]:
    """Returns images between the vertices and what the network says of them.

    The first ones that were measured; of runs of before they were kept some of which nothing is
    known. None for a single vertex.
    """
    count = _NUM_SAMPLES if len(vertices) > 1 else 0
    kept = _sample_pictures(run, vertices)
    if kept is None:
        weights = uniform_weights(count, len(vertices), seeded(run.config.seed, Purpose.SHOWN))
        return hull_images(weights, vertices), []
    hull, named = kept["hull"], {c["class"]: c["class_name"] for c in summary["sample_classes"]}
    said = zip(hull.classes[:count].tolist(), hull.probabilities[:count].tolist(), strict=True)
    return hull_images(torch.from_numpy(hull.weights[:count]), vertices), [
        caption(named[number], chance) for number, chance in said
    ]


def write_report(run: Run) -> Path:
    """Writes ``figure.png`` and ``report.html`` from the other files of a run.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file is missing or damaged.
        DiskFullError: If the disk is full.
    """
    summary = read_summary(run)
    try:
        return _write(run, summary)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run / SUMMARY_FILE} is damaged ({type(error).__name__}: {error}). Measure the run "
            f"again with `patchcollide evaluate {run.folder}`."
        ) from error


def _write(run: Run, summary: Summary) -> Path:
    write_run_differences(run / "figure.png", run, figure_title(summary))
    names = [*_IMAGES, *(f"vertex-{number}" for number in range(summary["num_vertices"]))]
    vertices = load_vertex_pngs(run)
    samples = _sample_pictures(run, vertices)
    page = render_page(
        summary=summary,
        config=run.about["config"],
        images={n: (run / f"{n}.png").read_bytes() for n in names if (run / f"{n}.png").exists()},
        closeups=make_closeups(vertices),
        history_svg=draw_history(load_history(run)),
        samples_svg=_draw_samples(summary, samples),
        live=make_live(summary, samples, _composed(run), run.config.grid.num_positions),
        comparison=comparison_rows(summary, of_digits=vertices.shape[-1] == 1),
        command=run.inputs["command"],
    )
    write_text(run / "report.html", page)
    return run / "report.html"


def _sample_pictures(
    run: Run, vertices: UInt8[ndarray, "vertices height width channels"]
) -> dict[str, HullSamples] | None:
    """Returns a run's samples; None for runs of before they were kept."""
    path = run / SAMPLES_FILE
    return load_samples(path, array_digest(vertices)) if path.exists() else None


def _composed(run: Run) -> tuple[Contributions, Neighbours] | None:
    """Returns what vertices are composed of, if they are and it was kept."""
    path = run / CONTRIBUTIONS_FILE
    if not path.exists():
        return None
    return Contributions.load(path, run.fingerprint), Neighbours.load(run / "neighbours.h5")


def _draw_samples(summary: Summary, samples: dict[str, HullSamples] | None) -> str:
    if samples is None:
        return ""
    known = (samples["hull"], samples.get("null"), summary["target_probability"])
    return "\n".join(draw_samples(*known))
