"""What lies where in a tar archive: its pictures, what goes with them, and what is not taken.

Only headers are read, and nothing is unpacked: a member is a name and a place in the file.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PurePosixPath

from patchcollide.errors import ImageError
from patchcollide.images.listings import stored_name
from patchcollide.images.pillow import readable_suffixes
from patchcollide.images.windows import holds_tar, open_container

# The longest that any writer needs for a name, and what else is told of one member.
_HEADER_BYTES = 1 << 20

# Writers fill the last record up, of 10 KiB as a rule, with zeros.
_PADDING_BYTES = 1 << 20

_LABELS = (".cls", ".json")

_NAMES_AS = dict(encoding="utf-8", errors="surrogateescape")  # noqa: C408


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its path there, without ``./``, as stores keep names.
        offset: Where in the archive it begins, in bytes.
        size: How long it is.
    """

    name: str
    offset: int
    size: int


@dataclass
class Members:
    """The members of an archive.

    Attributes:
        pictures: By suffix.
        labels: What may tell the class of a picture: ``key.cls`` and ``key.json``.
        archives: Archives in it.
        others: Names of other files.
        refused: Lines that say what is not taken, and why.
        num_links: Symbolic and hard links.
    """

    pictures: list[Member] = field(default_factory=list)
    labels: list[Member] = field(default_factory=list)
    archives: list[Member] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    num_links: int = 0

    def add(self, info: tarfile.TarInfo, file: FileIO) -> None:
        """Adds a member to where it belongs."""
        if info.isdir():
            return
        name = _plain_name(info.name)
        if name is None:
            self.refused.append(f"{info.name!a} leads out of the archive")
        elif any(part.startswith(".") for part in name.split("/")):
            return
        elif info.issym() or info.islnk():
            # Of links, only those that look like pictures are missed by anyone.
            self.num_links += _suffix(name) in readable_suffixes()
        elif not info.isreg() or info.issparse():
            kind = "a sparse file" if info.issparse() else "a pipe or device"
            self.refused.append(f"{name} is {kind}")
        else:
            self._add_file(Member(name, info.offset_data, info.size), file)

    def _add_file(self, member: Member, file: FileIO) -> None:
        suffix = _suffix(member.name)
        if suffix in readable_suffixes():
            self.pictures.append(member)
        elif suffix in _LABELS:
            self.labels.append(member)
        elif holds_tar(file, member.offset, member.size):
            self.archives.append(member)
        else:
            self.others.append(member.name)


class _Header(tarfile.TarInfo):
    """Refuses what would have tarfile read without end; reads plain headers five times as fast."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        info = cls._plain(bytes(buf), encoding, errors) or super().frombuf(buf, encoding, errors)
        is_told_of_next = not info.isreg() and not info.isdir() and info.type in _TELLING
        if info.size < 0 or (is_told_of_next and info.size > _HEADER_BYTES):
            raise tarfile.ReadError(f"a header announces {info.size} bytes")
        return info

    @classmethod
    def _plain(cls, block: bytes, encoding: str, errors: str) -> "_Header | None":
        """Reads what is asked of files' headers; None of all that has anything unusual."""
        kind, size, told = block[156:157], block[124:136], block[148:156]
        if len(block) != tarfile.BLOCKSIZE or kind not in (tarfile.REGTYPE, tarfile.XHDTYPE):
            return None
        try:
            if int(told.strip(b"\0 "), 8) != sum(block) - sum(told) + 8 * ord(" "):
                return None
            info = cls()
            info.size = int(size.strip(b"\0 "), 8)
        except ValueError:
            return None
        name, prefix = (part.partition(b"\0")[0] for part in (block[:100], block[345:500]))
        info.name = (prefix + b"/" + name if prefix else name).decode(encoding, errors)
        info.type = kind
        return info


_TELLING = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def read_members(path: Path, within: Member | None = None) -> Members:
    """Lists an archive, or an archive that is a member of one.

    Args:
        path: The archive.
        within: Its member to be listed; None for itself.

    Raises:
        ImageError: If it is damaged or truncated.
        StoreError: If it cannot be opened.
    """
    found = Members()
    with open_container(path) as file:
        start = within.offset if within else 0
        stop = start + within.size if within else os.fstat(file.fileno()).st_size
        where = f"{path}: {within.name}" if within else str(path)
        for info in _headers(file, start, stop, where):
            found.add(info, file)
    return found


def _headers(file: FileIO, start: int, stop: int, where: str) -> Iterator[tarfile.TarInfo]:
    file.seek(start)
    try:
        # A file's own position is where an archive begins.
        archive = tarfile.TarFile(fileobj=file, tarinfo=_Header, **_NAMES_AS)  # type: ignore[arg-type]
        while (info := archive.next()) is not None:
            # It would keep all members, of which there may be millions.
            archive.members.clear()  # type: ignore[attr-defined]
            if info.size < 0 or info.offset_data + info.size > stop:
                raise ImageError(_truncated(where, stop - start, info.name))
            yield info
    except (tarfile.TarError, RecursionError, ValueError, OverflowError, OSError) as error:
        if file.tell() >= stop:
            raise ImageError(_truncated(where, stop - start)) from error
        raise ImageError(
            f"{where} is a damaged tar archive ({error}, near byte {file.tell() - start}). Bring "
            "the whole one."
        ) from error
    _require_end(file, archive.offset, start, stop, where)


def _require_end(file: FileIO, end: int, start: int, stop: int, where: str) -> None:
    """Refuses an archive that does not end as it should: tarfile is silent where it stops."""
    file.seek(end)
    block = file.read(min(tarfile.BLOCKSIZE, max(stop - end, 0)))
    if len(block) < tarfile.BLOCKSIZE:
        raise ImageError(_truncated(where, stop - start))
    if any(block):
        raise ImageError(
            f"{where} is a damaged tar archive: byte {end - start} should begin a member, but does "
            "not. Bring the whole one."
        )
    if stop - end > _PADDING_BYTES:
        raise ImageError(
            f"{where} ends at byte {end - start} as a tar archive, but {stop - end} bytes follow, "
            "as if several had been joined. Give them as several files."
        )


def _truncated(where: str, size: int, name: str = "") -> str:
    inside = f", within {name!a}" if name else ""
    return (
        f"{where} is a truncated tar archive: it is cut off at byte {size}{inside}. Bring the "
        "whole one."
    )


def _plain_name(name: str) -> str | None:
    """Returns a member's name as a store keeps it; None if it leads out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts:
        return None
    return stored_name("/".join(parts).encode("utf-8", "surrogateescape"))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
