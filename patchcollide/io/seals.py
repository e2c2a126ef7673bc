"""Seals: a last line in a file that says what the bytes before it should be.

Every HDF5 file has one. HDF5 has no checksums of its own for what is stored in one piece, and
libhdf5 may loop forever on damaged metadata, so a file is opened only when its seal is whole. HDF5
itself passes over bytes behind the end of its own.
"""

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from patchcollide.errors import StoreError
from patchcollide.io.files import require_open_files
from patchcollide.io.system import OPEN_AS_IT_IS

_PREFIX = b"\npatchcollide-seal sha256:"
_SEAL_BYTES = len(_PREFIX) + 64 + 1
_BLOCK_BYTES = 1 << 20


def seal(path: Path) -> str:
    """Appends its seal to a file that has none; returns the SHA-256 of the sealed file."""
    with path.open("rb+") as file:
        body = hashlib.file_digest(file, "sha256")
        line = _seal_of(body.hexdigest())
        file.seek(0, os.SEEK_END)
        file.write(line)
    body.update(line)
    return body.hexdigest()


def sealed_digest(path: Path) -> str | None:
    """Returns the SHA-256 of a sealed file; None if its bytes are not those that were sealed.

    Raises:
        StoreError: If it is missing, or anything but a file.
    """
    body = hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        for block in _blocks(file, size - _SEAL_BYTES):
            body.update(block)
        line = file.read(_SEAL_BYTES)
    if line != _seal_of(body.hexdigest()):
        return None
    body.update(line)
    return body.hexdigest()


def is_damaged(path: Path) -> bool:
    """Says whether a file has a seal that its bytes do not fit; older files have none.

    Raises:
        StoreError: If it is missing, or anything but a file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - _SEAL_BYTES, 0))
        line = file.read(_SEAL_BYTES)
        if not line.startswith(_PREFIX):
            # Cut off within its seal, or lengthened.
            return _PREFIX in line
        file.seek(0)
        body = hashlib.sha256()
        for block in _blocks(file, size - _SEAL_BYTES):
            body.update(block)
    return line != _seal_of(body.hexdigest())


def digest_without(path: Path, start: int, stop: int) -> str:
    """Returns the SHA-256 of a file's bytes but those from ``start`` to ``stop``.

    Raises:
        StoreError: If it is missing, or anything but a file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        for block in _blocks(file, min(start, size)):
            digest.update(block)
        file.seek(stop)
        for block in _blocks(file, size - stop):
            digest.update(block)
    return digest.hexdigest()


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file for reading; a link is not followed, a pipe not waited for.

    Raises:
        StoreError: If it is missing, or anything but a file.
    """
    try:
        number = os.open(path, os.O_RDONLY | OPEN_AS_IT_IS)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing.") from error
    except OSError as error:
        require_open_files(error, path)
        raise StoreError(f"{path} cannot be read as a file ({error.strerror}).") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise StoreError(f"{path} should be a file, but is a folder, pipe or device.")
    return io.BufferedReader(io.FileIO(number))


def _seal_of(digest: str) -> bytes:
    return _PREFIX + digest.encode() + b"\n"


def _blocks(file: io.BufferedReader, num_bytes: int) -> Iterator[bytes]:
    """Yields the next bytes, so many at most: a file that grows meanwhile is not followed."""
    while num_bytes > 0 and (block := file.read(min(num_bytes, _BLOCK_BYTES))):
        num_bytes -= len(block)
        yield block
