"""What tells whether an image's file is still the one that was stored."""

import hashlib
from pathlib import Path

from patchcollide.errors import StoreError
from patchcollide.seals import open_regular

UNREADABLE = (-1, -1)


def source_state(path: Path) -> tuple[int, int]:
    """Returns a file's size and modification time in nanoseconds, to be compared first.

    Files that are gone, or may not be looked at, have the state ``UNREADABLE``.
    """
    try:
        status = path.lstat()
    except OSError:
        return UNREADABLE
    return status.st_size, status.st_mtime_ns


def source_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes; nothing if they cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (StoreError, OSError):
        return ""
