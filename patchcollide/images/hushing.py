"""Pillow's warnings, ignored while files are decoded: what is wrong with one is told in errors."""

import contextlib
import threading
import warnings


class PillowHushed:
    """Ignores Pillow's warnings while at least one thread is decoding.

    The filters of ``warnings`` are one for all threads, so threads that saved and restored them
    on their own could leave them changed for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._saved = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._saved.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"(PIL|patchcollide\.images)\b")
            self._num_inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                self._saved.close()


PILLOW_HUSHED = PillowHushed()
"""The one of the process."""
