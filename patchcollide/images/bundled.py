"""Files inside the wheels of scikit-image and scikit-learn: real data without a download.

The only module that knows where these two libraries are. It runs none of their code, because
``skimage.data`` would download what its wheel lacks. Trees of pictures made of these files are
written once, whole or not at all.
"""

import shutil
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from patchcollide.errors import DataError, ImageError, MissingLibraryError
from patchcollide.io.files import (
    disk_full_explained,
    is_occupied,
    partial_path,
    read_json,
    write_json,
)

Settings = Mapping[str, int | str | list[str]]
"""What decides a tree of pictures; its ``encoding-type`` says what they are."""

_LIBRARIES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def bundled_file(library: str, place: str) -> Path:
    """Returns the path of a file inside an installed library.

    Args:
        library: ``"skimage"`` or ``"sklearn"``.
        place: Its path inside.

    Raises:
        MissingLibraryError: If the library is not installed.
        DataError: If it came without the file.
    """
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise MissingLibraryError(
            f"{Path(place).name} is part of {_LIBRARIES[library]}, which is not installed. Run "
            f"`pip install {_LIBRARIES[library]}`."
        )
    path = Path(spec.submodule_search_locations[0]) / place
    if not path.is_file():
        raise DataError(
            f"{Path(place).name} should be at {path}, but the installed {_LIBRARIES[library]} came "
            "without it. Reinstall it from its wheel with "
            f"`pip install --force-reinstall {_LIBRARIES[library]}`."
        )
    return path


def write_tree(
    folder: Path, marker: str, settings: Settings, files: Iterable[tuple[str, bytes]]
) -> None:
    """Writes files into a folder, unless it was written with the same settings before.

    Args:
        folder: Where to write; its parents are made.
        marker: The name of a JSON file with the settings.
        settings: What decides the content.
        files: Paths in the folder, and what they hold; not asked for when all is there.

    Raises:
        ImageError: If ``folder`` holds anything else.
        DiskFullError: If the disk is full.
    """
    if is_occupied(folder):
        _require_same(folder, marker, settings)
        return
    partial = partial_path(folder)
    # What an interrupted run left.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_full_explained(folder):
            for place, content in files:
                path = partial / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            write_json(partial / marker, settings)
            if folder.is_dir():
                folder.rmdir()
            partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _require_same(folder: Path, marker: str, settings: Settings) -> None:
    what = settings["encoding-type"]
    if not (folder / marker).is_file():
        raise ImageError(
            f"{folder} holds something other than the {what} that belong there. Choose another "
            "folder, or remove this one."
        )
    found = read_json(folder / marker, error=ImageError)
    differing = [key for key in settings if found.get(key) != settings[key]]
    if differing:
        raise ImageError(
            f"{folder} holds {what} written with "
            + ", ".join(f"{key} = {found.get(key)} (now {settings[key]})" for key in differing)
            + ". Choose another folder, or remove this one."
        )
