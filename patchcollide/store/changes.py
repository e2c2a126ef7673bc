"""What became of a folder of images since a store was made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from patchcollide.errors import StoreError
from patchcollide.images.folders import ImageFile, source_digest, source_state
from patchcollide.io.hdf5 import open_hdf5
from patchcollide.parallel import map_in_threads
from patchcollide.progress import track
from patchcollide.store.manifest import VERSION
from patchcollide.store.reader import SHARD_ENCODING, PatchStore

_NAMED = 3


@dataclass(frozen=True)
class Changes:
    """How a folder differs from a store.

    Attributes:
        added: Files that the store should take but has not.
        changed: Files it has, but with other bytes.
        removed: Names of images it has, whose files are gone.
        known_removed: Those that were gone already when the store was last extended.
    """

    added: tuple[ImageFile, ...]
    changed: tuple[ImageFile, ...]
    removed: tuple[str, ...]
    known_removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        kinds = {
            "added": [file.name for file in self.added],
            "removed": self.removed,
            "changed": [file.name for file in self.changed],
        }
        return ", ".join(_counted(kind, names) for kind, names in kinds.items() if names)

    @property
    def to_store(self) -> list[ImageFile]:
        """The files that an extension takes, sorted by name."""
        return sorted((*self.added, *self.changed), key=lambda file: file.name)


def find_changes(
    store: PatchStore, files: Sequence[ImageFile], chosen: Sequence[ImageFile]
) -> Changes:
    """Compares a store with a folder of images.

    A file of the same size and time is taken for the same; of one whose time is another, its
    bytes are compared, so that a copied or touched folder counts as unchanged.

    Args:
        store: The store.
        files: All images in the folder.
        chosen: Those of them that a store with these settings should hold.

    Raises:
        StoreError: If a shard is damaged.
    """
    stored = _stored_sources(store)
    present = {file.name for file in files}
    known = set(store.manifest["removed"])
    gone = [name for name in stored if name not in present]
    return Changes(
        added=tuple(file for file in chosen if file.name not in stored),
        changed=tuple(_changed([file for file in chosen if file.name in stored], stored)),
        removed=tuple(sorted(name for name in gone if name not in known)),
        known_removed=tuple(sorted(name for name in gone if name in known)),
    )


def _changed(
    files: Sequence[ImageFile], stored: Mapping[str, tuple[int, int, str]]
) -> list[ImageFile]:
    changed, unsure = [], []
    for file in files:
        size, time = source_state(file.path)
        stored_size, stored_time, _ = stored[file.name]
        if size != stored_size:
            changed.append(file)
        elif time != stored_time:
            unsure.append(file)
    digests = map_in_threads(source_digest, (file.path for file in unsure))
    label = "Comparing files, by image"
    for file, digest in zip(unsure, track(digests, label, len(unsure)), strict=True):
        if digest != stored[file.name][2]:
            changed.append(file)
    return changed


def _stored_sources(store: PatchStore) -> dict[str, tuple[int, int, str]]:
    """Returns size, time and digest of each image's file by name; of the last one stored so."""
    sources: dict[str, tuple[int, int, str]] = {}
    for shard, entry in zip(store.shards, store.manifest["shards"], strict=True):
        count = len(shard.names)
        with open_hdf5(
            store.path / entry["file"],
            encoding=SHARD_ENCODING,
            version=VERSION,
            error=StoreError,
            checked=False,
        ) as file:
            sizes = file.array("source_sizes", np.int64, (count,))
            times = file.array("source_times", np.int64, (count,))
            digests = file.strings("source_digests", count)
        states = zip(sizes.tolist(), times.tolist(), digests, strict=True)
        sources.update(zip(shard.names, states, strict=True))
    return sources


def _counted(kind: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} {kind} ({', '.join(names[:_NAMED])}{more})"
