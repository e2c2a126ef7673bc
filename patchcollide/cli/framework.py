"""What every command shares: the application, common options, errors turned into sentences."""

import contextlib
import dataclasses
import functools
import inspect
import json
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
import typer.models
from typer.core import TyperCommand, TyperGroup

from patchcollide import progress
from patchcollide._version import __version__
from patchcollide.errors import ClosedOutputError, OpenFilesError, PatchCollideError
from patchcollide.io.files import require_open_files
from patchcollide.output import output_explained, prepare_streams, settle_streams
from patchcollide.progress import termination_as_interrupt

if TYPE_CHECKING:
    from patchcollide.config import Config
    from patchcollide.parallel import Backend


class _NoKind:
    """Says nothing of the kind of value that ``--help`` takes, which is none."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class _Command(_NoKind, TyperCommand):
    pass


class _Group(_NoKind, TyperGroup):
    pass


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Finds feature collisions: polytopes of different images a network cannot tell apart.",
)
logger = logging.getLogger("patchcollide.cli")

_INTERRUPTED = 130
# All that typer finds wrong with a command line; it has no name of its own for them.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]

Option, Argument = typer.Option, typer.Argument
BadParameter, Exit = typer.BadParameter, typer.Exit

ConfigPath = Annotated[
    Path | None, typer.Option("--config", help="Settings in TOML; see configs/.", metavar="FILE")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting; may be repeated.", metavar="SECTION.KEY=VALUE"),
]
Engine = Annotated[str | None, typer.Option(help="Search engine: auto, ann, certified or exact.")]
Memory = Annotated[
    str | None,
    typer.Option(help="How much may be used, such as 8GB; by default 80 % of what is available."),
]
StorePath = Annotated[Path, typer.Option(help="A store made by `patchcollide index`.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
BackendName = Annotated[
    str, typer.Option("--backend", help="Where maps over shards run: local or dask.")
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of the Dask scheduler.", metavar="ADDRESS")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only warnings and errors.")]
LogJson = Annotated[
    Path | None,
    typer.Option(
        help="Add to this file what is said and how far work is: a JSON object a line.",
        metavar="FILE",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class SettingsFile:
    """Options for settings; those of the command line win over ``--set``, that over the file."""

    config: ConfigPath = None
    overrides: Overrides = None

    def read(self, options: Mapping[str, object] | None = None) -> "Config":
        """Returns the settings, with options by the names of settings; None for none given."""
        from patchcollide.config_files import load_config

        typed = [text.partition("=") for text in self.overrides or []]
        names = [name.strip("\"' ") for key, _, name in typed if key.strip() == "network.name"]
        for name in [*names, (options or {}).get("network.name")]:
            ask_for(name)
        # JSON's notation of text and numbers is also TOML's.
        given = [
            f"{key}={json.dumps(value)}"
            for key, value in (options or {}).items()
            if value is not None
        ]
        return load_config(self.config, [*(self.overrides or []), *given])


@dataclass(frozen=True)
class Settings(SettingsFile):
    """The same, with the seed."""

    seed: Seed = None

    def read(self, options: Mapping[str, object] | None = None) -> "Config":
        """Returns the settings, as :meth:`SettingsFile.read`."""
        return super().read({**(options or {}), "seed": self.seed})


def ask_for(network: object) -> None:
    """Takes note of a network that the user typed: only such may be code."""
    if isinstance(network, str) and ":" in network:
        from patchcollide.networks.factories import ask_for

        ask_for(network)


@dataclass(frozen=True)
class BackendChoice:
    """Options for where maps over shards run."""

    backend: BackendName = "local"
    scheduler: Scheduler = None

    def read(self) -> "Backend":
        """Returns it; ConfigError if the options do not fit each other."""
        from patchcollide.parallel import Backend

        return Backend(self.backend, self.scheduler)


def echo(message: object) -> None:
    """Prints a result to standard output; OutputError if it cannot be written to."""
    with output_explained():
        typer.echo(message)


def run() -> None:
    """Runs the command line of this process, and ends the process."""
    prepare_streams()
    try:
        app()
    # Commands explain theirs, unless asked not to; these are of help and version.
    except (PatchCollideError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        progress.show(logging.INFO)
        sys.exit(_explain(error))
    finally:
        settle_streams()


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Registers a command: adds common options, turns errors into sentences and exit codes.

    A parameter that is annotated with a dataclass stands for an option for each of its fields.
    """
    # Typer reads a command's options from its signature.
    signature = inspect.signature(function)
    groups = {
        name: tuple(field.name for field in dataclasses.fields(parameter.annotation))
        for name, parameter in signature.parameters.items()
        if dataclasses.is_dataclass(parameter.annotation)
    }

    @functools.wraps(function)
    def wrapped(
        *, verbose: bool, quiet: bool, debug: bool, log_json: Path | None, **options: Any
    ) -> None:
        level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
        progress.show(level)
        # What went wrong is recorded too.
        with contextlib.ExitStack() as recorded:
            try:
                recorded.enter_context(progress.recording(log_json))
                with termination_as_interrupt():
                    for name, fields in groups.items():
                        given = {field: options.pop(field) for field in fields}
                        options[name] = signature.parameters[name].annotation(**given)
                    function(**options)
            except (Exception, KeyboardInterrupt) as error:
                if debug or isinstance(error, typer.BadParameter | typer.Exit):
                    raise
                raise typer.Exit(_explain(error)) from None

    common = {"verbose": Verbose, "quiet": Quiet, "debug": Debug}
    parameters = [
        *(option for each in signature.parameters.values() for option in _options_of(each)),
        *(_option(name, kind, default=False) for name, kind in common.items()),
        _option("log_json", LogJson, default=None),
    ]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return app.command(cls=_Command)(wrapped)


def arrange(groups: Mapping[str, Sequence[str]]) -> None:
    """Puts the commands into groups, for ``--help``, in the order in which they are used.

    Args:
        groups: The names of all commands, by the title of their group.

    Raises:
        ValueError: If a command is in no group, or a group names one that there is not.
    """
    known = {_name_of(info): info for info in app.registered_commands}
    named = [name for names in groups.values() for name in names]
    if sorted(known) != sorted(named):
        raise ValueError(f"Commands and groups differ in {sorted(known.keys() ^ set(named))}.")
    for title, names in groups.items():
        for name in names:
            known[name].rich_help_panel = title
    app.registered_commands = [known[name] for name in named]


def _name_of(info: typer.models.CommandInfo) -> str:
    function: Any = info.callback
    return info.name or str(function.__name__).rstrip("_").replace("_", "-")


def _options_of(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Returns what stands on the command line for a parameter of a command's function."""
    kind = parameter.annotation
    if not dataclasses.is_dataclass(kind):
        return [_option(parameter.name, kind, parameter.default)]
    return [_option(field.name, field.type, field.default) for field in dataclasses.fields(kind)]


def _option(name: str, kind: Any, default: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    if get_origin(kind) is Annotated and get_args(kind)[0] is bool:
        get_args(kind)[1].metavar = ""  # a switch takes no value
    return inspect.Parameter(name, keyword, default=default, annotation=kind)


def run_in_process(words: list[str]) -> None:
    """Runs a command as the command line would, as loud as the one that is running.

    Args:
        words: What a person types after ``patchcollide``.

    Raises:
        ConfigError: If there is no such command, or it knows no such option.
        KeyboardInterrupt: If the user stopped it.
        PatchCollideError: Whatever the command raises, as it is.
    """
    from patchcollide.errors import ConfigError

    level = progress.logger.level
    loudness = ["--verbose"] if level <= logging.DEBUG else []
    loudness = ["--quiet"] if level > logging.INFO else loudness
    try:
        # Of Ctrl-C typer leaves its own exit code, or, in older versions, an exception.
        if app([*words, *loudness, "--debug"], standalone_mode=False) == _INTERRUPTED:
            raise KeyboardInterrupt
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _UsageError as error:
        raise ConfigError(
            f"`patchcollide {shlex.join(words)}` is no command that can be run: "
            f"{error.format_message()}"
        ) from None


def _explain(error: BaseException) -> int:
    """Says what went wrong in one sentence; returns the exit code."""
    try:
        require_open_files(error, getattr(error, "filename", None) or "A file")
    except OpenFilesError as found:
        error = found
    if isinstance(error, ClosedOutputError):
        return error.exit_code
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
    if isinstance(error, OSError):
        logger.error(
            "%s. So says the operating system; run the same command again when that is mended.",
            error.strerror or error,
        )
        return 1
    logger.error(
        "Unexpected %s: %s. This is a defect of patchcollide; run again with --debug to see where.",
        type(error).__name__,
        error,
    )
    return 1


def _print_version(wanted: bool) -> bool:
    if wanted:
        echo(f"patchcollide {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, metavar="", help="Say which."
        ),
    ] = False,
) -> None:
    del version
