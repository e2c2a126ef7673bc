"""What operating systems say and do differently: memory, cores, locks, how a file is opened."""

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

if sys.platform != "win32":
    import fcntl
    import resource

_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")

OPEN_AS_IT_IS = sum(
    # Windows has none of the first three, and elsewhere every file is binary.
    getattr(os, name, 0)
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)
"""For ``os.open``: no link is followed, no pipe waited for, no child inherits the file."""

# 524 is ENOTSUPP, which the kernel should keep to itself, but Lustre and NFS servers pass on.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, 524}


# Of glibc's mallopt, and what it comes to by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30}
_USUAL = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25}


class NoLocksError(OSError):
    """A file system, or the operating system, has no locks."""


def available_memory() -> int:
    """Returns the bytes that programs can still have; in a container, at most its limit."""
    try:
        available = int(psutil.virtual_memory().available)
    except OSError:
        # In a chroot without /proc; what is free leaves out what caches would give back.
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    if _MEMORY_LIMIT.exists():
        limit = _MEMORY_LIMIT.read_text(encoding="ascii").strip()
        available = min(available, int(limit)) if limit.isdecimal() else available
    return available


def total_memory() -> int:
    """Returns the bytes of memory of this machine."""
    try:
        return int(psutil.virtual_memory().total)
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory() -> int:
    """Returns the most bytes of memory that this process had so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Has the C library keep what the block frees for what it allocates next, where it is glibc.

    Else each tensor above 32 MB goes back to the system and comes anew, page by page and full of
    zeros: a fifth of a step of a descent. All of it goes back at the end.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for name, value in _KEPT.items():
        library.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            library.mallopt(name, value)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Returns the C library if it is glibc, of which alone the numbers of options are known."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def usable_cores() -> int:
    """Returns how many cores this process may use; where that is not known, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores() -> float:
    """Returns how many cores were busy, on average of the last minute; 0 if that is not known."""
    try:
        return float(psutil.getloadavg()[0])
    except OSError:
        return 0.0


def most_open_files() -> int:
    """Returns how many files this process may have open at once."""
    if sys.platform == "win32":
        return 8192
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if most != resource.RLIM_INFINITY else sys.maxsize


def user_number() -> int:
    """Returns the number of the user, who need not have a name; 0 on Windows, as ``stat`` says."""
    return os.getuid() if sys.platform != "win32" else 0


def lock_file(number: int, *, shared: bool) -> None:
    """Locks an open file, without waiting, until it is closed.

    Args:
        number: The file's descriptor.
        shared: Whether others may have a shared lock meanwhile.

    Raises:
        BlockingIOError: If another has it.
        NoLocksError: If there are no locks where the file lies.
    """
    try:
        if sys.platform == "win32":
            raise OSError(errno.ENOSYS, "Function not implemented")
        fcntl.flock(number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocksError(error.errno, error.strerror) from error
        raise
