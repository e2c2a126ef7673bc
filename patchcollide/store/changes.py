"""What became of a folder of images since a store was made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from patchcollide.errors import StoreError
from patchcollide.images.listings import SourceImage
from patchcollide.images.sources import in_reading_order
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

    added: tuple[SourceImage, ...]
    changed: tuple[SourceImage, ...]
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
    def to_store(self) -> list[SourceImage]:
        """The files that an extension takes, sorted by name."""
        return sorted((*self.added, *self.changed), key=lambda file: file.name)


def find_changes(
    store: PatchStore, files: Sequence[SourceImage], chosen: Sequence[SourceImage]
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
    files: Sequence[SourceImage], stored: Mapping[str, tuple[int, int, str]]
) -> list[SourceImage]:
    changed, unsure = [], []
    for file in files:
        size, time = file.state()
        stored_size, stored_time, _ = stored[file.name]
        # Of some sources, sizes are not known.
        if size != stored_size and size and stored_size:
            changed.append(file)
        elif (size, time) != (stored_size, stored_time):
            unsure.append(file)
    digests = map_in_threads(lambda each: (each[0], each[1].digest()), in_reading_order(unsure))
    for number, digest in track(digests, "Comparing files, by image", len(unsure)):
        if digest != stored[unsure[number].name][2]:
            changed.append(unsure[number])
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
