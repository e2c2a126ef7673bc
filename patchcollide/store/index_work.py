"""The folder of the work on an index: what was done before it was stopped, if it is undamaged."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from patchcollide.errors import IndexMismatchError
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import file_digest
from patchcollide.store.index_files import WORK_FOLDER, Build
from patchcollide.store.reader import PatchStore

logger = logging.getLogger(__name__)

BASIS, BEGUN, PART = "basis", "begun", "part-"
_BUILD_FILE = "build.json"


def claim_work(store: PatchStore, build: Build) -> Path:
    """Returns the folder of unfinished work, emptied if that was for another index."""
    folder = store.path / WORK_FOLDER
    about = folder / _BUILD_FILE
    try:
        same = read_json(about, error=IndexMismatchError) == build
    except IndexMismatchError:
        same = False
    if not same:
        if folder.exists():
            logger.info("%s was begun for another index, or is damaged: beginning anew.", folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_json(about, build)
    return folder


def remove_work(folder: Path) -> bool:
    """Removes the work on an index, now complete, from a store's folder; says whether it was there.

    A process that is killed just before leaves it.
    """
    work = folder / WORK_FOLDER
    if work.is_symlink() or not work.is_dir():
        return False
    shutil.rmtree(work)
    return True


def kept(folder: Path, stem: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """Returns a file of the work, made now unless it is there and its bytes are as written."""
    found = sorted(folder.glob(f"{stem}.*{suffix}"))
    if len(found) == 1 and is_whole(found[0]):
        return found[0]
    for path in found:
        logger.info("%s is damaged: making it again.", path)
        path.unlink()
    path = folder / f"{stem}{suffix}"
    make(path)
    made = named_by_digest(path)
    if made not in found:
        # What was made from another one does not go with this.
        later = (BEGUN, PART) if stem == BASIS else (PART,)
        for old in (old for name in later for old in folder.glob(f"{name}*.faiss")):
            if old != made:
                old.unlink()
    return made


def named_by_digest(path: Path) -> Path:
    """Renames a file so that its name holds the digest of its bytes."""
    return path.rename(path.with_stem(f"{path.stem}.{file_digest(path)}"))


def is_whole(path: Path) -> bool:
    """Says whether a file's bytes are still those that its name holds the digest of."""
    return path.is_file() and path.name.split(".")[1] == file_digest(path)
