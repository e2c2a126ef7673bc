"""The command that explores a run in a browser."""

from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import Argument, Option, command, echo


@command
def explore(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
    port: Annotated[
        int, Option(min=0, max=65535, help="Where to listen, on this machine alone; 0: any.")
    ] = 0,
    open_: Annotated[bool, Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serves a page on this machine that asks the run's network about any point; Ctrl-C ends it."""
    from patchcollide.explorer.serving import explore

    explore(run, echo, port=port, browser=open_)
