"""Writing files so that nobody ever sees half of one."""

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from patchcollide.errors import DiskFullError, InputError, OpenFilesError
from patchcollide.io.provenance import self_digest
from patchcollide.io.system import most_open_files, user_number

PARTIAL_SUFFIX = ".partial"

# EFBIG: a limit on file size (ulimit -f, some network mounts) reads like a full disk to the user.
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_OPEN_FILES = {errno.EMFILE, errno.ENFILE}
_TOO_MANY_OPEN = os.strerror(errno.EMFILE)


def output_path(path: Path) -> Path:
    """Returns where an output goes, with links resolved; refuses what can be no output.

    Raises:
        InputError: If ``path`` is the root folder, or lies inside a file or a folder that cannot
            be written to.
    """
    resolved = path.resolve()
    try:
        if not resolved.name:
            raise InputError(f"--out {path} is the root folder. Choose a folder in it.")
        resolved.parent.mkdir(parents=True, exist_ok=True)
        # Only trying tells: permissions say nothing of read-only and special file systems.
        with tempfile.TemporaryDirectory(dir=resolved.parent, prefix=".patchcollide-"):
            pass
    except OSError as error:
        require_open_files(error, resolved)
        raise InputError(
            f"--out {path} cannot be made ({error.strerror}: {error.filename}). Choose a place in "
            "a folder that can be written to."
        ) from error
    return resolved


def cache_file(name: str) -> Path:
    """Returns where a file is, or goes, that is kept between commands and can be made again.

    That is ``$XDG_CACHE_HOME/patchcollide``, by default ``~/.cache/patchcollide``; for users who
    have no home, or none that can be written to, as in many containers, a folder of their own
    among the temporary ones.

    Raises:
        InputError: If there is none of these.
    """
    # A relative one is to be passed over, says the XDG Base Directory Specification.
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    usual = given if given.is_absolute() else expanded(Path("~/.cache"))
    folder = usual / "patchcollide"
    if usual.is_absolute() and ((folder / name).exists() or _can_make(folder)):
        return folder / name
    temporary = Path(tempfile.gettempdir()) / f"patchcollide-{user_number()}"
    if not _is_own(temporary):
        raise InputError(
            f"{name} should be kept in {folder}, which cannot be made, or in {temporary}, which "
            "another user has made. Set XDG_CACHE_HOME to a folder that can be written to."
        )
    return temporary / name


def _can_make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _is_own(folder: Path) -> bool:
    """Makes a folder that only this user can write to; says whether it is one."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == user_number() and stat.S_ISDIR(status.st_mode) and not shared


def expanded(path: Path) -> Path:
    """Returns ``path`` with ``~`` as the user's home, or as it is if there is none."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_occupied(path: Path) -> bool:
    """Says whether something other than an empty folder is at ``path``."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def partial_path(path: Path) -> Path:
    """Returns where ``path`` is written before it is renamed."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


def half_written(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Returns what killed processes left in a folder of files of these names, sorted."""
    found = (path for pattern in patterns for path in folder.glob(pattern + PARTIAL_SUFFIX))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


@contextlib.contextmanager
def disk_full_explained(path: Path) -> Iterator[None]:
    """Turns the operating system's "no space left" into a :class:`DiskFullError` about ``path``."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # FAISS reports its write errors as text, without the number.
        text = str(error)
        number = getattr(error, "errno", None)
        if number in _DISK_FULL or any(os.strerror(code) in text for code in _DISK_FULL):
            raise DiskFullError(
                f"No space to write {path} ({os.strerror(number or errno.ENOSPC)}). Free some disk "
                "space or choose another place, then run the same command again: finished work "
                "is kept."
            ) from error
        raise


def require_open_files(error: BaseException, path: Path | str) -> None:
    """Raises :class:`OpenFilesError` if what hindered work at ``path`` is that files are open.

    That says nothing of the file, and so must not be taken for damage.

    Args:
        error: Whatever was raised; what it was raised from is looked at as well.
        path: What was to be opened.
    """
    cause: BaseException | None = error
    while cause is not None:
        # FAISS reports its errors as text, without the number.
        if getattr(cause, "errno", None) in _OPEN_FILES or _TOO_MANY_OPEN in str(cause):
            raise OpenFilesError(
                f"{path} cannot be opened: {most_open_files()} files may be open at once in this "
                "process, and are. Raise that with `ulimit -n 4096`, then run the same command "
                "again: finished work is kept."
            ) from error
        cause = cause.__cause__ or cause.__context__


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yields a path to write to; renames it to ``path`` on success, removes it on failure.

    Raises:
        DiskFullError: If the disk is full.
    """
    partial = partial_path(path)
    try:
        with disk_full_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` as UTF-8, whole or not at all."""
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes ``value`` and its digest as indented JSON, whole or not at all.

    NaN and infinity are refused.
    """
    # What is read is digested: numbers as keys, for one, are read as text.
    read = json.loads(json.dumps(value, allow_nan=False))
    write_text(path, sealed_json(read))


def sealed_json(value: Mapping[str, Any]) -> str:
    """Returns the text of a JSON file that holds ``value``, as it is read, and its digest."""
    content = {key: part for key, part in value.items() if key != "digest"}
    return json.dumps({**content, "digest": self_digest(content)}, indent=2) + "\n"


def read_json(
    path: Path,
    *,
    error: type[InputError],
    max_bytes: int = 256 << 20,
    sealed: bool = False,
    remedy: str = "Make it again.",
) -> dict[str, Any]:
    """Reads a JSON object, without its digest; if it has one, its content must fit it.

    Args:
        path: The file.
        error: What to raise when the file is missing, too large or not a JSON object.
        max_bytes: Larger files are refused unread.
        sealed: Whether it must have a digest, which files of before had not.
        remedy: What to do if it is damaged.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise error(f"{path} is larger than {max_bytes} bytes, which no file of its kind is.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise error(f"{path} is missing. Check the path, or make it again.") from missing
    except (ValueError, OSError, RecursionError) as damaged:
        require_open_files(damaged, path)
        raise error(f"{path} cannot be read ({damaged}). {remedy}") from damaged
    if not isinstance(value, dict):
        raise error(f"{path} should hold a JSON object, but holds a {type(value).__name__}.")
    has_digest = "digest" in value
    if not take_digest(value) or (sealed and not has_digest):
        raise error(f"{path} is damaged (its content does not have its digest). {remedy}")
    return value


def take_digest(value: dict[str, Any]) -> bool:
    """Removes its digest from a JSON object; says whether it fits, or there never was one."""
    if not value:
        return True
    # It is written last: there it is found even if a bit of its name is flipped.
    name = "digest" if "digest" in value else list(value)[-1]
    rest = {key: part for key, part in value.items() if key != name}
    fits = bool(value[name] == _digest_of(rest))
    if name == "digest":
        del value[name]
        return fits
    return not fits


def _digest_of(value: Mapping[str, Any]) -> str:
    try:
        return self_digest(value)
    except (ValueError, RecursionError):  # NaN, which JSON does not know but Python reads.
        return ""
