"""The command that traces how far apart images can be at which tolerance of features."""

from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import (
    BackendChoice,
    BadParameter,
    Engine,
    Option,
    Settings,
    command,
    echo,
)
from patchcollide.cli.network_options import NetworkChoice
from patchcollide.cli.runs import DataImages, Device, Origin, Source, Target


@command
def frontier(
    source: Source,
    target: Target,
    out: Annotated[Path, Option(help="The folder of runs, tables and figures.")],
    tightness: Annotated[
        str, Option(help="Bounds on features, between 0 and 1.", metavar="GAMMA,GAMMA...")
    ] = "0.3,0.2,0.1,0.05",
    *,
    origin: Origin,
    images: DataImages = None,
    chosen: NetworkChoice,
    device: Device = None,
    engine: Engine = None,
    where: BackendChoice,
    given: Settings,
) -> None:
    """Makes a collision for each of several bounds on features, and sets them side by side.

    Says how far apart images may be at which tolerance; each is a run of its own within OUT.
    """
    from patchcollide import pipeline
    from patchcollide.report.frontier import frontier_lines
    from patchcollide.runs.frontier import CHART_FILE

    origin.require_one()
    bounds = _read_bounds(tightness)
    options = {
        **chosen.options,
        "network.device": device,
        "retrieval.device": device,
        "retrieval.engine": engine,
    }
    settings, backend = given.read(options), where.read()
    found = pipeline.trace_frontier(
        settings,
        source,
        target,
        out,
        bounds,
        store_path=origin.store,
        neighbours_path=origin.neighbours,
        images=images,
        backend=backend,
    )
    echo("\n".join(frontier_lines(found)))
    echo(out / CHART_FILE)


def _read_bounds(text: str) -> list[float]:
    try:
        bounds = [float(word) for word in text.split(",")]
    except ValueError:
        bounds = []
    if not bounds or len(set(bounds)) < len(bounds) or not all(0 < bound < 1 for bound in bounds):
        raise BadParameter(
            "--tightness should be numbers between 0 and 1, each once, with commas between them, "
            f"such as 0.2,0.1, but is {text}."
        )
    return bounds
