"""Pictures that are files in folders, and whether they are still the same."""

import hashlib
import os
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NoReturn

from patchcollide.errors import ImageError, StoreError
from patchcollide.images.listings import Listing, class_of, former_name, stored_name
from patchcollide.images.pillow import open_picture, readable_suffixes
from patchcollide.io.seals import open_regular

UNREADABLE = (-1, -1)

KAGGLE = "ILSVRC/Data/CLS-LOC/train"
"""Where the training images lie in what Kaggle gives of ImageNet."""


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

    def __str__(self) -> str:
        return str(self.path)

    @property
    def place(self) -> tuple[Any, ...]:
        """Folders do not tell where their files lie: in the order of names."""
        return ()

    @property
    def former_name(self) -> str:
        """The name that stores of before kept."""
        depth = self.name.count("/") + 1
        return former_name(os.fsencode("/".join(self.path.parts[-depth:])))

    def open(self) -> BufferedIOBase:
        """Opens the file; see :class:`patchcollide.images.listings.PictureFile`."""
        return open_picture(self.path)

    def digest(self) -> str:
        """Returns the SHA-256 of the file's bytes; nothing if they cannot be read."""
        return source_digest(self.path)

    def state(self) -> tuple[int, int]:
        """Returns the file's size and modification time; ``UNREADABLE`` if it is gone."""
        return source_state(self.path)


def list_folder(folder: Path) -> Listing:
    """Lists pictures in ``folder`` and below, by suffix: all kinds that can be read.

    Hidden files and folders are passed over, and symbolic links are counted but not followed:
    a link may lead round in a circle, or bring the same picture into a store twice. Only
    ``folder`` itself may be a link. Of Kaggle's ImageNet, given at any level above its classes,
    the training images are listed.

    Raises:
        ImageError: If a part of the folder cannot be listed.
    """
    root = training_folder(folder)
    files, num_links, others = [], 0, []
    suffixes = readable_suffixes()
    for place, folders, names in os.walk(root, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        num_links += sum(Path(place, name).is_symlink() for name in folders)
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if path.is_symlink():
                # Of links to files, only those that look like pictures are missed by anyone.
                num_links += path.suffix.lower() in suffixes or not path.is_file()
            elif path.suffix.lower() in suffixes:
                files.append(_image_file(path, root))
            else:
                others.append(_image_file(path, root).name)
    files.sort(key=lambda file: file.name)
    return Listing(tuple(files), num_links, tuple(sorted(others)), origin=folder)


def training_folder(folder: Path) -> Path:
    """Returns where classes lie in Kaggle's ImageNet, of any folder above; any other as it is."""
    places = (KAGGLE, *(KAGGLE.split("/", part)[-1] for part in (1, 2)))
    found = [folder / place for place in places if (folder / place).is_dir()]
    # A folder that is merely called train may be anybody's.
    if not found and folder.resolve().name == "CLS-LOC" and (folder / "train").is_dir():
        return folder / "train"
    return found[0] if found else folder


def _refuse_folder(error: OSError) -> NoReturn:
    raise ImageError(
        f"{error.filename} cannot be listed ({error.strerror}). Make it readable, or move it away."
    ) from error


def _image_file(path: Path, folder: Path) -> ImageFile:
    name = stored_name(os.fsencode(path.relative_to(folder).as_posix()))
    return ImageFile(path, name, class_of(name))


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
