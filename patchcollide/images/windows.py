"""Parts of files, read as if each were a file of its own, and what kind of file one is."""

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from patchcollide.errors import ImageError, StoreError
from patchcollide.io.files import require_open_files

_BLOCK_BYTES = 512

# What a file begins with, and what to do about it.
_PACKED = {
    b"\x1f\x8b": ("compressed with gzip", "gunzip"),
    b"BZh": ("compressed with bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("compressed with xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unzstd"),
    b"PK\x03\x04": ("a zip archive", "unzip"),
    b"PK\x05\x06": ("an empty zip archive", "unzip"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x"),
    b"Rar!": ("a rar archive", "unrar x"),
}


class Window(io.RawIOBase):
    """A part of a file as a file of its own, read-only; closing it closes the file.

    Args:
        file: Opened for reading; nobody else may move in it.
        start: Where in it the part begins, in bytes.
        size: How long it is.
    """

    def __init__(self, file: io.FileIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._place = file, start, size, 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves, as in any file."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(begin + offset, 0)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Reads what comes next, as any file."""
        wanted = max(min(len(buffer), self._size - self._place), 0)
        self._file.seek(self._start + self._place)
        count = self._file.readinto(memoryview(buffer).cast("B")[:wanted])
        self._place += count
        return int(count)

    def close(self) -> None:
        """Closes the file too."""
        self._file.close()
        super().close()


def open_part(path: Path, time: int, start: int = 0, size: int | None = None) -> io.BufferedReader:
    """Opens a part of a file that was listed before.

    Args:
        path: The file.
        time: When it was last changed, in ns, as :func:`changed_at` gave it then.
        start: Where the part begins, in bytes.
        size: How long it is; None for all there is.

    Raises:
        StoreError: If the file is gone, or another now.
    """
    file = open_container(path)
    status = os.fstat(file.fileno())
    if status.st_mtime_ns != time:
        file.close()
        raise StoreError(
            f"{path} was changed while images were read from it. Leave it as it is, and run the "
            "same command again: finished work is kept."
        )
    return io.BufferedReader(Window(file, start, status.st_size if size is None else size))


def open_container(path: Path) -> io.FileIO:
    """Opens a file that holds many pictures; one that is gone is no fault of any picture's.

    Raises:
        StoreError: If it cannot be opened.
    """
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        require_open_files(error, path)
        raise StoreError(
            f"{path} can no longer be read ({error.strerror}), and images are to be read from it. "
            "Bring it back, or, on a cluster, let all machines see it under that path; then run "
            "the same command again: finished work is kept."
        ) from error


def changed_at(path: Path) -> int:
    """Returns when a file was last changed, in ns."""
    return path.stat().st_mtime_ns


def kind_of_file(path: Path) -> str:
    """Returns what a file is by its content: ``tar``, ``parquet`` or nothing of the kind.

    Raises:
        ImageError: If it cannot be read.
    """
    start = _first_bytes(path)
    if start.startswith(b"PAR1"):
        return "parquet"
    return "tar" if _begins_tar(start) else ""


def holds_tar(file: io.FileIO, start: int, size: int) -> bool:
    """Says whether a part of a file begins as a tar archive does."""
    file.seek(start)
    return _begins_tar(file.read(min(size, _BLOCK_BYTES)))


def packed_as(path: Path) -> str:
    """Returns that a file is packed, in which way, and what to do; nothing if it is not."""
    start = _first_bytes(path)
    for magic, (what, program) in _PACKED.items():
        if start.startswith(magic):
            return (
                f"{path} is {what}, and images are read from archives that are not packed. Unpack "
                f"it with `{program}`, and give what comes out."
            )
    return ""


def _first_bytes(path: Path) -> bytes:
    try:
        # A pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(_BLOCK_BYTES)
    except OSError as error:
        require_open_files(error, path)
        raise ImageError(
            f"{path} cannot be read ({error.strerror}). Make it readable, or move it away."
        ) from error


def _begins_tar(block: bytes) -> bool:
    """Says whether a block is a header, or the end of an empty archive."""
    if len(block) < _BLOCK_BYTES or not any(block):
        return len(block) == _BLOCK_BYTES
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
