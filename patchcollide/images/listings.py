"""What pictures there are, in folders, archives or tables, and which of them a store takes."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar, runtime_checkable

from patchcollide.errors import ConfigError, ImageError
from patchcollide.randomness import keyed_generator

_MOST_KINDS = 5

_LONGEST_CLASS = 200

_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")


@runtime_checkable
class PictureFile(Protocol):
    """What a picture is decoded from; as text it says where that is, for people."""

    def open(self) -> BufferedIOBase:
        """Opens the picture's bytes.

        Raises:
            RefusedError: If they are none of a picture.
            OSError: If they cannot be read.
            StoreError: If what holds them, and others, is gone or changed.
        """
        ...

    def digest(self) -> str:
        """Returns the SHA-256 of the bytes; nothing if they cannot be read."""
        ...


@runtime_checkable
class SourceImage(PictureFile, Protocol):
    """A picture of a source, small enough to be sent to other processes.

    Attributes:
        path: The file that it is, or that it lies in.
        name: Stores keep this: its class and its own name, with ``/``.
        label: Its class, which is the first part of ``name``; empty without classes.
        place: Orders pictures as they lie on the disk, among those of one source.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def place(self) -> tuple[Any, ...]: ...  # noqa: D102

    @property
    def former_name(self) -> str:
        """The name that stores of before kept."""
        ...

    def state(self) -> tuple[int, int]:
        """Returns size, 0 if it costs too much to ask, and time in ns, to be compared first."""
        ...


@dataclass(frozen=True)
class Listing:
    """What :func:`patchcollide.images.sources.find_images` found.

    Attributes:
        files: Sorted by name.
        num_links: Symbolic links, to pictures or folders, that were not followed.
        others: Names of files that were left out by their suffix, sorted.
        refused: Parts of archives that are not taken, and why, as lines for people.
        origin: Where it was looked.
        kind: What that is: ``folders``, ``tar``, ``tar of tars``, ``webdataset`` or ``parquet``.
    """

    files: tuple[SourceImage, ...]
    num_links: int
    others: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    origin: Path = Path()
    kind: str = "folders"

    def described_others(self) -> str:
        """Says in one line of what kinds the files are that were left out, and names one."""
        if not self.others:
            return "none"
        kinds = Counter(PurePosixPath(name).suffix.lower() for name in self.others)
        named = [
            f"{count} {suffix or 'without a suffix'}"
            for suffix, count in kinds.most_common(_MOST_KINDS)
        ]
        rest = len(self.others) - sum(count for _, count in kinds.most_common(_MOST_KINDS))
        named += [f"{rest} others"] if rest else []
        return f"{', '.join(named)}; such as {self.others[0]}"

    def of_classes(self, text: str) -> "Listing":
        """Returns the pictures of some classes alone.

        Args:
            text: The classes, separated by commas; their names may have commas too.

        Raises:
            ImageError: If there is no such class.
        """
        labels = {file.label for file in self.files}
        wanted = _named_classes(text, labels, self.origin)
        return replace(self, files=tuple(file for file in self.files if file.label in wanted))


def _named_classes(text: str, labels: set[str], origin: Path) -> set[str]:
    parts, found, start = text.split(","), set(), 0
    while start < len(parts):
        # The longest first: "tench, Tinca tinca" is one class of Hugging Face's.
        stops = range(len(parts), start, -1)
        names = {stop: ",".join(parts[start:stop]).strip() for stop in stops}
        stop = next((stop for stop in stops if names[stop] in labels), 0)
        if not stop:
            unknown = parts[start].strip()
            near = get_close_matches(unknown, sorted(labels), 3) or sorted(labels)[:3]
            raise ImageError(
                f"Expected classes of {origin}, separated by commas, but there is no class "
                f"'{unknown}' among its {len(labels)}, such as {', '.join(map(repr, near))}. "
                "Correct --where."
            )
        found.add(names[stop])
        start = stop
    return found


Image = TypeVar("Image", bound=SourceImage)


def sample_images(files: Sequence[Image], fraction: float, seed: int) -> list[Image]:
    """Chooses ``floor(fraction * n)`` of the ``n`` files of each class.

    A class's choice depends on its own files, its label and ``seed`` only, and a smaller
    fraction's choice is part of a larger one's.

    Args:
        files: In any order.
        fraction: Above 0, at most 1; taken as the decimal number it is written as.
        seed: At least 0.

    Returns:
        The chosen files, sorted by name.

    Raises:
        ConfigError: If ``fraction`` is out of range.
        ImageError: If no class is large enough to give a file.

    Source:
        Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019: the
        patches are those of 10 % of each ImageNet class.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(
            f"Expected a fraction of images above 0 and at most 1, but found {fraction}. "
            "Set store.fraction."
        )
    classes = defaultdict(list)
    for file in sorted(files, key=lambda file: file.name):
        classes[file.label].append(file)
    chosen = []
    for label, members in classes.items():
        # As floats, 0.29 * 100 is less than 29.
        count = math.floor(Fraction(str(fraction)) * len(members))
        order = keyed_generator(seed, label).permutation(len(members))
        chosen += [members[index] for index in order[:count]]
    if not chosen:
        sizes = sorted(len(members) for members in classes.values()) or [0]
        raise ImageError(
            f"A fraction of {fraction} of each class leaves no images: there are {len(classes)} "
            f"classes with {sizes[0]} to {sizes[-1]} images each. Set store.fraction higher, or "
            "give more images."
        )
    return sorted(chosen, key=lambda file: file.name)


def class_name(text: str) -> str:
    """Returns what a class is called in a store.

    Raises:
        ValueError: If it cannot be called so.
    """
    name = text.strip().replace("/", "_")
    if not name or len(name) > _LONGEST_CLASS or not name.isprintable() or name.startswith("."):
        raise ValueError("no name of a class")
    return name


def class_of(name: str) -> str:
    """Returns the class of a picture, the first folder of its name; empty without a folder."""
    return name.split("/")[0] if "/" in name else ""


def stored_name(name: bytes) -> str:
    r"""Returns a file's name as a store keeps it: stores hold UTF-8, file systems any bytes.

    Bytes that are no UTF-8 become ``\xff`` and the like. Where any did, or the name looks as if
    some had, its own backslashes become ``\x5c``: no two files ever have the same name in a store.
    """
    plain = former_name(name)
    if not _ESCAPED.search(plain):
        return plain
    return former_name(name.replace(b"\\", rb"\x5c"))


def former_name(name: bytes) -> str:
    """Returns a name as stores of before kept it, in which two files could have the same."""
    return name.decode(errors="backslashreplace")
