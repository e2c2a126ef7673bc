"""Commands that show: figures of runs and of the paper, and the explorer in a browser."""

from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import Argument, Option, command, echo
from patchcollide.cli.network_options import RunCode


@command
def figure(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
    out: Annotated[Path, Option(help="The picture to write: NAME.pdf, NAME.svg or NAME.png.")],
    kind: Annotated[
        str,
        Option(
            help="table, as in the paper's Tables 1, 3 and 5 (or table1, table3, table5); "
            "differences; or neighbours, the contact sheet."
        ),
    ] = "table",
) -> None:
    """Draws a run for a paper: letters and lines are vectors in PDF and SVG."""
    from patchcollide.runs.folder import open_run
    from patchcollide.runs.report import write_picture

    echo(write_picture(open_run(run), out, kind))


@command
def animate(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
    out: Annotated[
        Path, Option(help="The animation to write: NAME.webp, without loss, or NAME.gif.")
    ],
    per_leg: Annotated[
        int, Option("--frames-per-leg", min=1, help="From a vertex to the next.")
    ] = 12,
    rate: Annotated[
        float, Option("--frames-per-second", min=0.1, max=50, help="How fast it is shown.")
    ] = 12.0,
    captions: Annotated[
        bool, Option("--captions/--no-captions", help="Say each frame's class beneath; or not.")
    ] = True,
    *,
    code: RunCode,
) -> None:
    """Animates a tour of a run's polytope: along all edges between vertices, then to the centre."""
    from patchcollide.runs.animate import write_tour
    from patchcollide.runs.folder import open_run

    del code
    echo(
        write_tour(
            open_run(run),
            out,
            samples_per_leg=per_leg,
            frames_per_second=rate,
            with_captions=captions,
        )
    )


@command
def figure1(
    out: Annotated[Path, Option(help="The picture to write: NAME.pdf, NAME.svg or NAME.png.")],
    unit: Annotated[int, Option(min=0, max=7, help="The unit that is pushed down.")] = 0,
    seed: Annotated[int, Option(help="Of the network that is trained for it.")] = 0,
) -> None:
    """Draws the paper's Figure 1 of a real layer with two inputs, trained on digits in seconds."""
    from patchcollide.io.files import output_path
    from patchcollide.reproduction.figure1 import lower_unit, require_format, write_half_planes
    from patchcollide.reproduction.figure1_layer import train_planar_layer

    require_format(out)
    out = output_path(out)
    layer = train_planar_layer(seed)
    lowered = lower_unit(layer.polytope, unit, layer.points[layer.target])
    write_half_planes(out, layer, lowered)
    echo(out)


@command
def explore(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
    port: Annotated[
        int, Option(min=0, max=65535, help="Where to listen, on this machine alone; 0: any.")
    ] = 0,
    open_: Annotated[bool, Option("--open", help="Open the page in a browser.")] = False,
    *,
    code: RunCode,
) -> None:
    """Serves a page on this machine that asks the run's network about any point; Ctrl-C ends it."""
    from patchcollide.explorer.serving import explore

    del code
    explore(run, echo, port=port, browser=open_)
