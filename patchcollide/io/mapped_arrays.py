"""Arrays in files, mapped into memory while they are used: few files at a time.

A map keeps its file open, and a process may have 256 files open on macOS, 1024 on Linux, and of
maps 65,530; a store can have more shards. So the maps used longest ago are given up, and made
again when they are wanted.
"""

import errno
import mmap
import os
import threading
from itertools import islice
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np

from patchcollide.errors import InputError
from patchcollide.io.system import most_open_files

_SHARE = 4
_LEAST_MAPS, _MOST_MAPS = 4, 16_384


class MappedArray:
    """A contiguous array in a file that stays as it is.

    Args:
        path: The file.
        dtype: The type of a value.
        offset: Where the array begins, in bytes.
        shape: Its shape.
        error: What to raise when the file has become another one.
    """

    def __init__(
        self, path: Path, dtype: Any, offset: int, shape: tuple[int, ...], error: type[InputError]
    ) -> None:
        self.offset = offset
        self.shape = shape
        self.nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._path = path
        self._dtype = dtype
        self._error = error
        self._state: tuple[int, ...] | None = None
        self._map: np.memmap | None = None

    def array(self) -> np.memmap:
        """Returns the array, read-only; it can be used for as long as the caller keeps it.

        Raises:
            OSError: If the file cannot be opened, or its file system knows no maps.
            InputError: Of the kind given, if the file is not the one that was mapped at first.
        """
        with _LOCK:
            # The order is that of use: the last is the latest.
            _MAPPED.pop(self, None)
            if self._map is None:
                _give_up(_most_maps() - 1)
                self._map = self._mapped_after_others()
            _MAPPED[self] = None
            return self._map

    def give_up(self) -> None:
        """Forgets the map; the file is closed when nobody uses the array any more."""
        self._map = None

    def _mapped_after_others(self) -> np.memmap:
        try:
            return self._mapped()
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            # Other parts of the program have more open than was left to them.
            _give_up(0)
            return self._mapped()

    def _mapped(self) -> np.memmap:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if self._state not in (None, state):
                raise self._error(
                    f"{self._path} is not the file that it was when this began: it was replaced or "
                    "written to meanwhile. Run the same command again."
                )
            self._state = state
            found = np.memmap(file, self._dtype, "r", self.offset, self.shape)
        # What is used lies here and there: what lies beside it would push out what is used again.
        if hasattr(mmap, "MADV_RANDOM"):
            cast("mmap.mmap", found.base).madvise(mmap.MADV_RANDOM)
        return found


_LOCK = threading.RLock()
_MAPPED: WeakKeyDictionary[MappedArray, None] = WeakKeyDictionary()


def _most_maps() -> int:
    return min(max(most_open_files() // _SHARE, _LEAST_MAPS), _MOST_MAPS)


def _give_up(kept: int) -> None:
    """Gives up the maps used longest ago, so that at most so many are left."""
    for array in list(islice(_MAPPED, max(len(_MAPPED) - kept, 0))):
        _MAPPED.pop(array, None)
        array.give_up()
