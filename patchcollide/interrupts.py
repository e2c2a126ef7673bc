"""Ctrl-C as a request: work stops at the next safe point instead of in the middle of a step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


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
