"""Runs within several bounds on features, set side by side: how far apart at which tolerance."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import RunError
from patchcollide.evaluation.frontier import Frontier, frontier_point
from patchcollide.images.pictures import read_png
from patchcollide.io.files import output_path, write_json, write_text
from patchcollide.optimisation.methods.registry import require_bound
from patchcollide.parallel import LOCAL, Backend
from patchcollide.progress import note, track
from patchcollide.report.frontier import frontier_lines, write_frontier_chart
from patchcollide.runs.collide import collide
from patchcollide.runs.folder import CONFIG_FILE, Run, open_run
from patchcollide.runs.summary import read_summary
from patchcollide.runs.vertices import load_vertex_pngs

logger = logging.getLogger(__name__)

FRONTIER_ENCODING = "patchcollide-frontier"
CHART_FILE = "frontier.png"
_VERSION = "1"


def trace_frontier(
    config: Config,
    source: Path,
    target: Path,
    out: Path,
    bounds: Sequence[float],
    *,
    store_path: Path | None = None,
    neighbours_path: Path | None = None,
    images: Path | None = None,
    backend: Backend = LOCAL,
) -> Frontier:
    """Makes a run within each bound, and writes what they found side by side.

    Each is what :func:`patchcollide.runs.collide.collide` makes with that ``objective.tightness``,
    in a folder of its own. Interrupted at any point, the same call goes on where it was; runs that
    are there are kept, so bounds can be added.

    Args:
        config: All settings but the bound.
        source: The image whose look is kept.
        target: The image whose features are matched, or a file of features.
        out: The folder for runs, ``frontier.json``, ``.md``, ``.png``, ``.pdf``
            and ``.svg``.
        bounds: Each between 0 and 1, once.
        store_path: Where patches come from, as the others.
        neighbours_path: Neighbours found before.
        images: A folder of the data set's images.
        backend: Where engines pass over the store.

    Returns:
        What ``frontier.json`` holds.

    Raises:
        ConfigError: If the method knows no bound.
        RunError: If ``out`` is a run itself, or holds runs of other settings.
        InputError: As ``collide`` does, like the other errors.
    """
    out = output_path(out)
    if (out / CONFIG_FILE).exists():
        raise RunError(
            f"{out} is a run, but a frontier wants a folder for several. Choose another --out."
        )
    require_bound(config)
    runs = []
    tracked = track(sorted(bounds, reverse=True), "Tracing the frontier", len(bounds))
    for number, bound in enumerate(tracked, start=1):
        logger.info("Tightness %s, %d of %d.", bound, number, len(bounds))
        objective = config.objective.model_copy(update={"tightness": bound})
        tightened = config.model_copy(update={"objective": objective})
        folder = out / f"tightness-{bound}"
        collide(tightened, source, target, folder, store_path, backend, neighbours_path, images)
        runs.append(open_run(folder))
        note(tau=read_summary(runs[-1])["tightness"]["hull"]["tau_max"])
    found = _side_by_side(runs)
    write_json(out / "frontier.json", found)
    write_text(out / "frontier.md", "\n".join(frontier_lines(found)) + "\n")
    for name in (CHART_FILE, "frontier.pdf", "frontier.svg"):
        write_frontier_chart(out / name, found)
    return found


def _side_by_side(runs: Sequence[Run]) -> Frontier:
    summaries = [read_summary(run) for run in runs]
    first, source = summaries[0], read_png(runs[0] / "source.png")
    share = runs[0].config.objective.source_distance
    bounded = bool(share) and first["parameterisation"] == "pixels"
    return {
        "encoding-type": FRONTIER_ENCODING,
        "encoding-version": _VERSION,
        "source": first["source"],
        "target": first["target"],
        "network": first["network"],
        "layer": first["layer"],
        "parameterisation": first["parameterisation"],
        "target_probability": first["target_probability"],
        "dataset_distance": first["dataset_distance_mean"],
        "source_bound": 255 * share * math.sqrt(source.size) if bounded else None,
        "seed": first["seed"],
        "points": [
            frontier_point(
                run.config.objective.tightness,
                run.folder.name,
                summary,
                load_vertex_pngs(run),
                source,
            )
            for run, summary in zip(runs, summaries, strict=True)
        ],
    }
