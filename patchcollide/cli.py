"""The command line: options to settings, settings to stages, errors to sentences.

What takes seconds to import is imported by the command that needs it: ``--help`` should not wait.
"""

import functools
import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchcollide import __version__, progress
from patchcollide.errors import PatchCollideError

if TYPE_CHECKING:
    from patchcollide.config import Config

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Finds feature collisions: polytopes of different images a network cannot tell apart.",
)
logger = logging.getLogger("patchcollide.cli")

ConfigPath = Annotated[
    Path | None, typer.Option("--config", help="Settings in TOML; see configs/.", metavar="FILE")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting; may be repeated.", metavar="SECTION.KEY=VALUE"),
]
Engine = Annotated[str | None, typer.Option(help="Search engine: ann or exact.")]
StorePath = Annotated[Path, typer.Option(help="A store made by `patchcollide index`.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only warnings and errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main() -> None:
    """Runs the command line."""
    app()


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Registers a command: adds common options, turns errors into sentences and exit codes."""

    @functools.wraps(function)
    def wrapped(*, verbose: bool, quiet: bool, debug: bool, **options: Any) -> None:
        level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
        progress.show(level)
        try:
            function(**options)
        except (Exception, KeyboardInterrupt) as error:
            if debug or isinstance(error, typer.BadParameter | typer.Exit):
                raise
            raise typer.Exit(_explain(error)) from None

    # Typer reads a command's options from its signature.
    signature = inspect.signature(function)
    common = {"verbose": Verbose, "quiet": Quiet, "debug": Debug}
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in common.items()
    ]
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
    ]
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*parameters, *added]
    )
    wrapped.__annotations__ = {**function.__annotations__, **common}
    return app.command()(wrapped)


def _explain(error: BaseException) -> int:
    """Says what went wrong in one sentence; returns the exit code."""
    if isinstance(error, PatchCollideError):
        logger.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        logger.error("Stopped. Finished work is kept: run the same command again to go on.")
        return 1
    if isinstance(error, OSError) and error.filename is not None:
        logger.error(
            "%s: %s. Check that it is there and may be used.", error.filename, error.strerror
        )
        return 1
    logger.error(
        "Unexpected %s: %s. This is a defect of patchcollide; run again with --debug to see where.",
        type(error).__name__,
        error,
    )
    return 1


def _settings(path: Path | None, overrides: list[str] | None, options: dict[str, Any]) -> "Config":
    """Reads the settings; options of the command line win over ``--set``, that over the file."""
    from patchcollide.config import load_config

    # JSON's notation of text and numbers is also TOML's.
    given = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    return load_config(path, [*(overrides or []), *given])


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"patchcollide {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    del version


@command
def index(
    images: Annotated[Path, typer.Argument(help="A folder of images: class/file, or flat.")],
    out: Annotated[Path, typer.Option(help="The store's folder.")],
    fraction: Annotated[float | None, typer.Option(help="Share of each class to take.")] = None,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Cuts a folder of images into a patch store and indexes its patches."""
    from patchcollide import pipeline

    if fraction is not None:
        overrides = [*(overrides or []), f"store.fraction={fraction}"]
    pipeline.index(_settings(config, overrides, {"seed": seed}), images, out)
    typer.echo(out)


@command
def retrieve(
    image: Annotated[Path, typer.Argument(help="The source image.")],
    store: StorePath,
    out: Annotated[Path, typer.Option(help="The HDF5 file to write; a contact sheet goes beside.")],
    engine: Engine = None,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Finds the nearest patches for every location of an image."""
    from patchcollide import pipeline

    settings = _settings(config, overrides, {"retrieval.engine": engine, "seed": seed})
    typer.echo(pipeline.retrieve(settings, image, store, out))


@command
def collide(
    source: Annotated[Path, typer.Option(help="The image whose look is kept.")],
    target: Annotated[Path, typer.Option(help="The image whose features are matched.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    store: Annotated[
        Path | None, typer.Option(help="A store made by `patchcollide index`.")
    ] = None,
    pixels: Annotated[bool, typer.Option("--pixels", help="Vary pixels freely instead.")] = False,
    network: Annotated[str | None, typer.Option(help="efficientnet_lite0 or vgg16.")] = None,
    layer: Annotated[str | None, typer.Option(help="Its activation, by name.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="pretrained, random, or a .pth or .safetensors file.")
    ] = None,
    engine: Engine = None,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Finds vertices that collide with a target, measures what lies between, and reports."""
    from patchcollide import pipeline

    if (store is None) != pixels:
        raise typer.BadParameter("give either --store STORE or --pixels, not both or neither.")
    options = {
        "network.name": network,
        "network.layer": layer,
        "network.weights": weights,
        "retrieval.engine": engine,
        "seed": seed,
    }
    settings = _settings(config, overrides, options)
    _show_run(pipeline.collide(settings, source, target, out, store))


@command
def evaluate(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
) -> None:
    """Measures a run again, from its PNG files."""
    from patchcollide import pipeline

    pipeline.evaluate(run)
    _show_run(run)


@command
def report(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
) -> None:
    """Draws a run's figure and page again."""
    from patchcollide import pipeline

    typer.echo(pipeline.report(run))


@command
def demo(
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/demo"),
) -> None:
    """Makes a cat collide with a cup of espresso, from photographs that come with the libraries."""
    from patchcollide.demo import run_demo

    _show_run(run_demo(out))


def _show_run(run: Path) -> None:
    """Prints a run's numbers to standard output, and where its page is."""
    from patchcollide.runs import open_run
    from patchcollide.summaries import headline, read_summary

    for name, value in headline(read_summary(open_run(run))):
        typer.echo(f"{name:<34}{value}")
    typer.echo(run / "report.html")


if __name__ == "__main__":
    main()
