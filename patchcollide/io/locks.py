"""One writer for a store at a time, told apart by a lock that the system releases at a death.

The lock is that of ``flock`` on a file beside the store: it needs no timeouts and works over NFS.
The file's content only says who holds it. It is removed on leaving, and whoever gets hold of a
file that was removed meanwhile tries again; a killed process leaves it for the next. An empty file
that somebody else put there is locked as well, but neither written nor removed. Some file systems
have no locks: work goes on there, with a warning.
"""

import contextlib
import json
import logging
import os
import platform
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, cast

from patchcollide.errors import StoreError
from patchcollide.io.files import disk_full_explained, require_open_files
from patchcollide.io.system import OPEN_AS_IT_IS, NoLocksError, lock_file

LOCK_SUFFIX = ".lock"
_ENCODING = "patchcollide-lock"
_MOST_BYTES = 4096

logger = logging.getLogger(__name__)

_Owner = TypedDict(
    "_Owner", {"encoding-type": str, "host": str, "pid": int, "since": str}, total=False
)


@contextlib.contextmanager
def locked(store: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds the lock of the store at ``store``, which need not be there yet.

    Args:
        store: The store's folder; its parent must exist.
        shared: Others that ask for a shared lock may have it too; for those that only read.

    Raises:
        StoreError: If another process holds it, or something else is where its file goes.
        DiskFullError: If the disk is full.
    """
    path = store.with_name(store.name + LOCK_SUFFIX)
    number = None
    try:
        with disk_full_explained(path):
            number = _acquire(path, store, shared)
    except NoLocksError as error:
        if not shared:
            logger.warning(
                "%s has no locks (%s), so nothing keeps a second process from writing %s "
                "meanwhile: see that there is none.",
                store.parent,
                error.strerror,
                store,
            )
    except OSError as error:
        require_open_files(error, path)
        # A store on read-only media is read without a lock: nobody can write it either.
        if not shared:
            raise StoreError(
                f"{path} cannot be made ({error.strerror}), which guards {store} while it is "
                "written. Make its folder writable."
            ) from error
    try:
        yield
    finally:
        if number is not None:
            _release(number, path, shared)


def _acquire(path: Path, store: Path, shared: bool) -> int:
    # Known before the file is made: a process killed in between leaves one that is nobody's.
    owner = _this_process()
    while True:
        number, made = _opened(path)
        try:
            if made:
                _write_owner(number, owner)
            _require_lock_file(number, path)
            lock_file(number, shared=shared)
            if _is_at(number, path):
                if _is_ours(number):
                    _write_owner(number, owner)
                return number
        except BlockingIOError as error:
            holder = _owner(number)
            os.close(number)
            raise StoreError(
                f"{store} is in use by {holder}. Wait until that has ended, or stop it; nothing "
                "was changed."
            ) from error
        except BaseException:
            os.close(number)
            if made:
                path.unlink(missing_ok=True)
            raise
        # The former owner removed the file between our opening and locking it.
        os.close(number)


def _opened(path: Path) -> tuple[int, bool]:
    """Opens the file of a lock; says whether it was made for that, or there already."""
    flags = os.O_RDWR | OPEN_AS_IT_IS
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags), False
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True


def _release(number: int, path: Path, shared: bool) -> None:
    try:
        if shared:
            # Only the last of several readers may remove it.
            lock_file(number, shared=False)
        if _is_at(number, path) and _is_ours(number):
            path.unlink()
    except OSError:
        pass  # Left behind, it says nothing false: nobody holds it.
    finally:
        os.close(number)


def _is_at(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.lstat())
    except FileNotFoundError:
        return False


def _require_lock_file(number: int, path: Path) -> None:
    regular = stat.S_ISREG(os.fstat(number).st_mode)
    if not regular or (_content(number) and not _is_ours(number)):
        raise StoreError(
            f"{path} is where the store is locked, but holds something else. Move that away, or "
            "choose another --out."
        )


def _this_process() -> bytes:
    owner: _Owner = {
        "encoding-type": _ENCODING,
        "host": platform.node(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(owner).encode()


def _write_owner(number: int, owner: bytes) -> None:
    # Shorter content is padded rather than cut first, so that no reader finds an empty file.
    content = owner.ljust(os.fstat(number).st_size)
    os.lseek(number, 0, os.SEEK_SET)
    os.write(number, content)


def _owner(number: int) -> str:
    owner = _parsed(_content(number))
    if "pid" not in owner:
        return "another process"
    return f"process {owner['pid']} on {owner.get('host')}, since {owner.get('since')}"


def _is_ours(number: int) -> bool:
    return _parsed(_content(number)).get("encoding-type") == _ENCODING


def _content(number: int) -> bytes:
    os.lseek(number, 0, os.SEEK_SET)
    return os.read(number, _MOST_BYTES)


def _parsed(content: bytes) -> _Owner:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return cast("_Owner", value) if isinstance(value, dict) else {}
