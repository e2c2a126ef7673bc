"""Standard output and standard error, whatever they lead to: a pipe that is closed, a full disk.

What a command prints to standard output is its result: where that cannot be written the command
says so, or, when nobody reads it any more, ends without a word. What it says on standard error only
accompanies the work, which goes on if nobody listens.
"""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from patchcollide.errors import ClosedOutputError, OutputError


def prepare_streams() -> None:
    r"""Makes the standard streams of this process fit to be written to.

    A stream that was closed before the process began (``>&-``) leads to nowhere: its number would
    else be that of the next file opened, and whatever a library prints would go into that.
    File names of odd bytes are written as they are, other characters that the encoding lacks as
    ``\xe9``, ``\u2588`` and so on.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest number that is free: this one.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


_ESCAPED = "patchcollide-escaped"
codecs.register_error(_ESCAPED, _escape)


def settle_streams() -> None:
    """Drops what could not be written, for Python complains of that when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def output_explained() -> Iterator[None]:
    """Turns what hinders writing to standard output into an :class:`OutputError`.

    Raises:
        ClosedOutputError: If nobody reads it any more.
        OutputError: If it cannot be written for another reason, such as a full disk.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise ClosedOutputError("Nobody reads standard output any more.") from error
    except OSError as error:
        raise OutputError(
            f"Standard output cannot be written to ({error.strerror}). Free some disk space, or "
            "send it elsewhere, then run the same command again: finished work is kept."
        ) from error


class StandardError(io.TextIOBase):
    """Standard error, whichever it is at the moment; what it does not take is lost."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Writes ``text``, if that can be done."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is waiting to be written, if that can be done."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Says whether a person sees it."""
        with contextlib.suppress(OSError, ValueError):
            return bool(self._stream.isatty())
        return False

    def fileno(self) -> int:
        """Returns the number of the file."""
        return int(self._stream.fileno())

    @property
    def _stream(self) -> Any:
        # While rich shows a bar it puts itself in the place of standard error.
        found = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return io.StringIO() if found is None else found
