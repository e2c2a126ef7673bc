"""Which pictures a folder holds, which of them a store takes, and whether they are the same."""

import hashlib
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import NoReturn

from patchcollide.errors import ConfigError, ImageError, StoreError
from patchcollide.images.pillow import readable_suffixes
from patchcollide.io.seals import open_regular
from patchcollide.randomness import keyed_generator

_MOST_KINDS = 5

_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")

UNREADABLE = (-1, -1)


@dataclass(frozen=True)
class ImageFile:
    """A picture's file.

    Attributes:
        path: Where to read it.
        name: Its path relative to the folder it was found in, with ``/``; stores keep this.
        label: Its class, which is the first folder of ``name``; empty in a flat folder.
    """

    path: Path
    name: str
    label: str


@dataclass(frozen=True)
class Listing:
    """What :func:`find_images` found.

    Attributes:
        files: Sorted by name.
        num_links: Symbolic links, to pictures or folders, that were not followed.
        others: Names of files that were left out by their suffix, sorted.
    """

    files: tuple[ImageFile, ...]
    num_links: int
    others: tuple[str, ...] = ()

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


def find_images(folder: Path) -> Listing:
    """Finds pictures in ``folder`` and below, by suffix: all kinds that can be read.

    Hidden files and folders are passed over, and symbolic links are counted but not followed:
    a link may lead round in a circle, or bring the same picture into a store twice. Only
    ``folder`` itself may be a link.

    Raises:
        ImageError: If ``folder`` is missing, is no folder, has a part that cannot be listed, or
            holds no pictures.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ImageError(f"Expected a folder of images, but {folder} {found}. Check the path.")
    files, num_links, others = [], 0, []
    suffixes = readable_suffixes()
    for place, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        num_links += sum(Path(place, name).is_symlink() for name in folders)
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if path.is_symlink():
                # Of links to files, only those that look like pictures are missed by anyone.
                num_links += path.suffix.lower() in suffixes or not path.is_file()
            elif path.suffix.lower() in suffixes:
                files.append(_image_file(path, folder))
            else:
                others.append(_image_file(path, folder).name)
    if not files:
        raise ImageError(
            f"Expected images ({' '.join(sorted(suffixes))}) in {folder} or its folders, but found "
            f"none, only {len(others)} other files and {num_links} symbolic links, which are not "
            "followed. Check the path, or copy the images there."
        )
    files.sort(key=lambda file: file.name)
    return Listing(tuple(files), num_links, tuple(sorted(others)))


def sample_images(files: Sequence[ImageFile], fraction: float, seed: int) -> list[ImageFile]:
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


def _refuse_folder(error: OSError) -> NoReturn:
    raise ImageError(
        f"{error.filename} cannot be listed ({error.strerror}). Make it readable, or move it away."
    ) from error


def _image_file(path: Path, folder: Path) -> ImageFile:
    name = stored_name(os.fsencode(path.relative_to(folder).as_posix()))
    return ImageFile(path, name, name.split("/")[0] if "/" in name else "")


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
