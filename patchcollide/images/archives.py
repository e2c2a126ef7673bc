"""Pictures in tar archives: ImageNet's tar of tars, WebDataset's shards, or folders in one tar.

They are read where they lie in the archives, in any order, and nothing is unpacked.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from patchcollide.errors import ImageError
from patchcollide.images.folders import KAGGLE
from patchcollide.images.listings import Listing, class_of
from patchcollide.images.samples import RefusedError
from patchcollide.images.tars import Member, Members, read_members
from patchcollide.images.webdataset import has_labels, labels_of
from patchcollide.images.windows import changed_at, open_part
from patchcollide.progress import track

# The names of ImageNet's classes end with numbers, as those of shards do.
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class TarImage:
    """A picture in a tar archive.

    Attributes:
        path: The archive.
        time: When that was last changed, in ns.
        offset: Where in it the picture begins, in bytes.
        size: How long the picture is.
        name: Its class and its own name, with ``/``.
        label: Its class; empty without classes.
    """

    path: Path
    time: int
    offset: int
    size: int
    name: str
    label: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"

    @property
    def place(self) -> tuple[Any, ...]:
        """Orders pictures as they lie in archives."""
        return str(self.path), self.offset

    @property
    def former_name(self) -> str:
        """The same: stores of before were made of folders alone."""
        return self.name

    def open(self) -> BufferedIOBase:
        """Opens the picture; see :class:`patchcollide.images.listings.PictureFile`."""
        if not self.size:
            raise RefusedError("an empty file")
        return open_part(self.path, self.time, self.offset, self.size)

    def digest(self) -> str:
        """Returns the SHA-256 of the picture's bytes; nothing if they cannot be read."""
        try:
            with open_part(self.path, self.time, self.offset, self.size) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    def state(self) -> tuple[int, int]:
        """Returns the picture's size, and when its archive was changed."""
        return self.size, self.time


@dataclass(frozen=True)
class _Archive:
    """An archive, or one within one, whose pictures are all named in the same way."""

    path: Path
    label: str
    members: Members

    @property
    def is_flat(self) -> bool:
        """Whether its pictures lie in no folders."""
        return all("/" not in member.name for member in self.members.pictures)


def list_archives(origin: Path, paths: Sequence[Path]) -> Listing:
    """Lists the pictures of tar archives that belong together.

    Args:
        origin: What was given: an archive, a folder of them, or a pattern.
        paths: The archives.

    Raises:
        ImageError: If one is damaged, or they are of several kinds, or only some pictures have
            labels.
        StoreError: If one cannot be opened.
    """
    archives, nested = [], False
    for path in track(paths, "Listing archives", len(paths)):
        members = read_members(path)
        if members.archives and members.pictures:
            raise ImageError(
                f"{path} holds both archives, such as {members.archives[0].name}, and pictures, "
                f"such as {members.pictures[0].name}, so that it is not known which are classes. "
                "Give archives of one kind."
            )
        nested = nested or bool(members.archives)
        archives.append(_Archive(path, "", members))
        archives += _inner(path, members)
    kind, files = _arranged(origin, archives, nested, len(paths))
    taken, twice = _once_each(files)
    refused = [line for archive in archives for line in archive.members.refused]
    return Listing(
        files=tuple(taken),
        num_links=sum(archive.members.num_links for archive in archives),
        others=tuple(sorted(_left_out(archives, kind))),
        refused=(*refused, *twice),
        origin=origin,
        kind=kind,
    )


def _inner(path: Path, members: Members) -> Iterator[_Archive]:
    count = len(members.archives)
    for member in track(members.archives, "Listing archives of classes", count):
        inside = read_members(path, member)
        # Deeper than that nobody packs ImageNet.
        inside.others += [f"{member.name}: {deeper.name}" for deeper in inside.archives]
        yield _Archive(path, PurePosixPath(member.name).stem, inside)


def _left_out(archives: Sequence[_Archive], kind: str) -> Iterator[str]:
    for archive in archives:
        yield from archive.members.others
        if kind != "webdataset":
            yield from (member.name for member in archive.members.labels)


def _arranged(
    origin: Path, archives: Sequence[_Archive], nested: bool, num_given: int
) -> tuple[str, list[TarImage]]:
    """Returns what kind the archives are of, and their pictures by the names that follow of it."""
    full = [archive for archive in archives if archive.members.pictures]
    labelled = [archive for archive in full if has_labels(archive.members)]
    if labelled:
        return "webdataset", [file for archive in full for file in _sample_images(archive)]
    if not nested and num_given > 1 and any(archive.is_flat for archive in full):
        full = [replace(archive, label=archive.path.stem) for archive in full]
        _require_classes(origin, full)
        nested = True
    if nested:
        _require_labels(origin, full)
        return "tar of tars", [file for archive in full for file in _class_images(archive)]
    return "tar", _folder_images(full)


def _require_labels(origin: Path, archives: Sequence[_Archive]) -> None:
    """Refuses archives of which some lie in others, whose names are classes, and some do not."""
    if plain := [archive.path for archive in archives if not archive.label]:
        raise ImageError(
            f"{origin} holds archives of two kinds: some hold archives of classes, but {plain[0]} "
            "holds pictures. Give archives of one kind."
        )


def _require_classes(origin: Path, archives: Sequence[_Archive]) -> None:
    """Refuses archives of unlabelled pictures whose own names are not those of classes."""
    names = [archive.label for archive in archives]
    if any(not archive.is_flat for archive in archives):
        flat = next(archive.path for archive in archives if archive.is_flat)
        other = next(archive.path for archive in archives if not archive.is_flat)
        raise ImageError(
            f"{origin} holds archives of two kinds: {other} has its pictures in folders, {flat} "
            "has them in none. Give archives of one kind."
        )
    if not all(map(_WORDNET_ID.fullmatch, names)) and all(name[-1:].isdigit() for name in names):
        raise ImageError(
            f"{origin} holds {len(names)} archives of pictures without labels, such as "
            f"{archives[0].path}: expected key.cls or key.json beside each key.jpg, or archives "
            "named after classes. Add labels, or name the archives so."
        )


def _images(archive: _Archive, names: dict[Member, tuple[str, str]]) -> list[TarImage]:
    time = changed_at(archive.path)
    return [
        TarImage(archive.path, time, member.offset, member.size, name, label)
        for member, (name, label) in names.items()
    ]


def _class_images(archive: _Archive) -> list[TarImage]:
    """Names pictures after the archive of their class."""
    label = archive.label
    return _images(
        archive,
        {member: (_in_class(member.name, label), label) for member in archive.members.pictures},
    )


def _in_class(name: str, label: str) -> str:
    return f"{label}/{name.removeprefix(f'{label}/')}"


def _folder_images(archives: Sequence[_Archive]) -> list[TarImage]:
    """Names pictures by their folders, below those that are around all classes."""
    names = [member.name for archive in archives for member in archive.members.pictures]
    around = _around_classes(names)
    found = []
    for archive in archives:
        inside = {
            member: member.name.removeprefix(around)
            for member in archive.members.pictures
            if member.name.startswith(around)
        }
        found += _images(archive, {key: (name, class_of(name)) for key, name in inside.items()})
    return found


def _around_classes(names: Sequence[str]) -> str:
    """Returns the folders, with ``/``, that lie around the classes of an archive."""
    for name in names:
        before, train, _ = name.partition(f"{KAGGLE}/")
        if train and (not before or before.endswith("/")):
            return before + train
    around = ""
    while True:
        firsts = {name.removeprefix(around).split("/")[0] for name in names}
        deep = all(name.removeprefix(around).count("/") > 1 for name in names)
        if len(firsts) != 1 or not deep:
            return around
        around += f"{firsts.pop()}/"


def _once_each(files: Sequence[TarImage]) -> tuple[list[TarImage], list[str]]:
    """Returns pictures sorted by name, of two of one name the later, as unpacking would leave."""
    by_name: dict[str, TarImage] = {}
    twice = []
    for file in files:
        if file.name in by_name:
            twice.append(f"{by_name[file.name]} comes again later")
        by_name[file.name] = file
    return sorted(by_name.values(), key=lambda file: file.name), twice


def _sample_images(archive: _Archive) -> list[TarImage]:
    """Names the pictures of a shard after their labels."""
    labels = labels_of(archive.path, archive.members)
    return _images(
        archive,
        {member: (_in_class(member.name, label), label) for member, label in labels.items()},
    )
