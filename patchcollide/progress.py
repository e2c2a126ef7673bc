"""What a person at the terminal sees while work goes on, and Ctrl-C as a request.

There are log lines, bars, the time left; where there is no terminal, a line every half minute. The
library itself is silent: the command line switches this on; a program that shows progress in a way
of its own listens instead, or reads a file of JSON. On Ctrl-C work stops at the next safe point
instead of in the middle of a step.
"""

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, TypeVar, cast

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from patchcollide.errors import ConfigError
from patchcollide.output import StandardError, output_explained
from patchcollide.pace import Pace

T = TypeVar("T")

Listener = Callable[[str, int, int], None]
"""Is told a label, how many items are done, and of how many."""

logger = logging.getLogger("patchcollide")

_console = Console(file=cast(IO[str], StandardError()), highlight=False)

_bars_wanted = False

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)

_pace: ContextVar[Pace | None] = ContextVar("pace", default=None)

LINE_EVERY_S = 30.0
"""Seconds between two lines on one piece of work, where there is no terminal."""

_RECORD_EVERY_S = 1.0

_WIDEST = 1000


class _LineHandler(logging.Handler):
    """Prints log records as plain lines above a running bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        _console.print(prefix + self.format(record), markup=False, soft_wrap=True)


def show(level: int) -> None:
    """Prints log records from ``level`` on to standard error; bars too, up to ``INFO``."""
    global _bars_wanted
    _bars_wanted = level <= logging.INFO
    logger.handlers = [_LineHandler(), *([_records] if _records else [])]
    logger.setLevel(level)
    logger.propagate = False


class _RecordHandler(logging.Handler):
    """Writes log records, and how far work has come, as JSON: an object a line."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__(logging.INFO)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        self.write(
            {"event": "log", "level": record.levelname.lower(), "message": self.format(record)}
        )

    def write(self, record: Mapping[str, object]) -> None:
        """Writes one object, with the time; whoever reads along sees it at once."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.write(json.dumps({"time": now, **record}) + "\n")
        self._file.flush()


_records: _RecordHandler | None = None


@contextlib.contextmanager
def recording(path: Path | None) -> Iterator[None]:
    """Adds to a file of JSON what is logged and how far work comes while the block runs.

    Args:
        path: The file; None for none.

    Raises:
        ConfigError: If it cannot be written.
    """
    global _records
    if path is None:
        yield
        return
    before = _records
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"Expected a file that can be written at --log-json {path}, but: {error.strerror}. "
            "Choose another."
        ) from error
    with file:
        _records = _RecordHandler(file)
        logger.addHandler(_records)
        try:
            yield
        finally:
            logger.removeHandler(_records)
            _records = before


def note(**figures: float | None) -> None:
    """Takes note of figures of the work that is tracked, such as its loss; None for none."""
    pace = _pace.get()
    if pace is not None:
        pace.note(**figures)


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yields ``items``, with a bar and the time left when standard error is a terminal.

    Where it is none, a line is logged every :data:`LINE_EVERY_S` seconds, with the figures of
    :func:`note`. Inside :func:`listening` the listener is told instead, before each item and after
    the last.
    """
    listener = _listener.get()
    if listener is not None:
        yield from _told(items, label, total, listener)
        return
    pace = Pace(label, total)
    with _lines(pace):
        yield from _shown(_paced(items, pace), label, total)


def _paced(items: Iterable[T], pace: Pace) -> Iterator[T]:
    """Yields items; figures noted while one is at work are its pace's."""
    written = -_RECORD_EVERY_S
    for item in items:
        token = _pace.set(pace)
        try:
            yield item
        finally:
            with contextlib.suppress(ValueError):  # Another thread may close what this one began.
                _pace.reset(token)
        pace.done += 1
        now = time.monotonic()
        is_due = now - written >= _RECORD_EVERY_S or pace.done == pace.total
        if _records is not None and is_due:
            _records.write(pace.record())
            written = now


@contextlib.contextmanager
def _lines(pace: Pace) -> Iterator[None]:
    """Logs a line every half minute while the block runs, however long an item takes."""
    if not _bars_wanted or _console.is_terminal:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(LINE_EVERY_S):
            logger.info("%s", pace.line())

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _shown(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_console,
        transient=True,
        disable=not (_bars_wanted and _console.is_terminal),
    ) as progress:
        yield from progress.track(items, total=total, description=label)


def _told(items: Iterable[T], label: str, total: int, listener: Listener) -> Iterator[T]:
    done = 0
    listener(label, done, total)
    for item in items:
        yield item
        done += 1
        listener(label, done, total)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has ``listener`` told of all that this thread tracks while the block runs.

    What it raises comes out of the work that is tracked, between two items: the way to stop it.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table to standard output, its first column to the left, the others to the right.

    Raises:
        OutputError: If it cannot be written to.
    """
    table = Table(*(Column(name, no_wrap=True) for name in header[:1]), box=SIMPLE)
    for name in header[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = _OutputConsole(highlight=False)
    if not console.is_terminal:
        # A file or another program has no width: nothing is cut.
        console.width = max(console.width, _WIDEST)
    with output_explained():
        console.print(table)


class _OutputConsole(Console):
    def on_broken_pipe(self) -> None:
        """Lets the error pass, where rich would end the process."""
        raise


class StopRequest:
    """Set when the user asked to stop.

    Attributes:
        requested: Whether they did; also of a request within another that ended regardless.
    """

    def __init__(self) -> None:
        self.requested = False

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            # Asked twice: do not make an impatient person wait.
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGINT and SIGTERM while the block runs; a second one raises at once.

    Work within work that asks for requests too gets them while it runs; if it ends without having
    stopped, the work around is asked to.

    Outside the main thread, where Python delivers no signals, nothing is caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request._on_signal) for number in wanted}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        around = getattr(before[signal.SIGINT], "__self__", None)
        if isinstance(around, StopRequest) and request.requested:
            around.requested = True


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM end the block as Ctrl-C does, so that what is half written is removed."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
