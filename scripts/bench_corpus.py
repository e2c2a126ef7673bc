"""The patches that other searches than ours find, as vectors, and what such a search is."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from patchcollide.store.descriptors import Basis
from patchcollide.store.index_files import BASIS_FILE
from patchcollide.store.reader import PatchStore

IMAGES_AT_ONCE = 32
TRAINING_PATCHES = 65_536


@dataclass(frozen=True)
class Corpus:
    """The patches that may be found, those of some images of a store, as vectors of their values.

    Attributes:
        store: The store.
        numbers: The images.
        deadline: Until when, of :func:`time.monotonic`, they are handed out to be built from.
    """

    store: PatchStore
    numbers: np.ndarray
    deadline: float = math.inf

    @property
    def num_patches(self) -> int:
        """How many patches there are."""
        return len(self.numbers) * self.store.grid.num_positions

    @property
    def dimension(self) -> int:
        """How long a vector is."""
        return self.store.grid.dimension

    @property
    def dtype(self) -> Any:
        """The smallest type that holds a vector's values as they are."""
        return np.uint8

    @property
    def num_bytes(self) -> int:
        """Their size as float32 vectors."""
        return 4 * self.num_patches * self.dimension

    def vectors(self, patches: np.ndarray) -> np.ndarray:
        """Returns patches as float32 vectors."""
        return patches.reshape(len(patches), -1).astype(np.float32)

    def images(self) -> Iterator[np.ndarray]:
        """Yields the images in blocks, averaged down where windows are."""
        for start in range(0, len(self.numbers), IMAGES_AT_ONCE):
            block = [self.store.image(int(n)) for n in self.numbers[start:][:IMAGES_AT_ONCE]]
            yield self.store.grid.reduce(np.stack(block))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the patches in blocks, as float32 vectors.

        Raises:
            TimeoutError: If that takes too long.
        """
        grid, begun, done = self.store.grid, time.monotonic(), 0
        size, step = (grid.patch_size, grid.patch_size), grid.stride // grid.factor
        for images in self.images():
            if time.monotonic() > self.deadline:
                share = f"{100 * done / len(self.numbers):.0f} % of the patches"
                minutes = (time.monotonic() - begun) / 60
                raise TimeoutError(f"stopped: {share} after {minutes:.0f} minutes of building")
            done += len(images)
            windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
            patches = np.moveaxis(windows[:, ::step, ::step], 3, -1)
            yield self.vectors(patches.reshape(-1, *patches.shape[3:]))

    def whole(self, dtype: Any = np.float32) -> np.ndarray:
        """Returns all patches."""
        every = np.empty((self.num_patches, self.dimension), dtype)
        first = 0
        for block in self.blocks():
            every[first : first + len(block)] = block
            first += len(block)
        return every

    def sample(self, num_patches: int) -> np.ndarray:
        """Returns random patches as float32 vectors."""
        rng = np.random.default_rng(0)
        size = min(num_patches, self.num_patches)
        rows = rng.choice(self.num_patches, size=size, replace=False)
        return self.vectors(self.store.patches(self.ids(rows)))

    def ids(self, rows: np.ndarray) -> np.ndarray:
        """Returns the patch identifiers of rows; -1 stays -1."""
        positions = self.store.grid.num_positions
        images, places = np.divmod(rows, positions)
        return np.where(rows < 0, -1, self.numbers[images] * positions + places)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Returns the rows of patch identifiers, all of them of the corpus; -1 stays -1."""
        positions = self.store.grid.num_positions
        images, places = np.divmod(ids, positions)
        return np.where(ids < 0, -1, np.searchsorted(self.numbers, images) * positions + places)


@dataclass(frozen=True)
class Components(Corpus):
    """The same patches by their first principal components, those of the store's index."""

    @cached_property
    def basis(self) -> Basis:
        """What describes patches."""
        return Basis.load(self.store.path / BASIS_FILE, store=self.store)

    @property
    def dimension(self) -> int:
        """See :class:`Corpus`."""
        return self.basis.num_components

    @property
    def dtype(self) -> Any:
        """See :class:`Corpus`."""
        return np.float32

    def vectors(self, patches: np.ndarray) -> np.ndarray:
        """See :class:`Corpus`."""
        return self.basis.describe_patches(patches)


class Peer(ABC):
    """Another search; what it is built from is a corpus.

    Attributes:
        about: What it is, for the result.
        breadths: How thoroughly it searches, one after the other; what that means is its own.
    """

    about: str
    breadths: tuple[int, ...] = (0,)

    def refusal(self, corpus: Corpus) -> str | None:
        """Says why it is not to be tried, whatever the memory."""
        del corpus
        return None

    @abstractmethod
    def needed_bytes(self, corpus: Corpus) -> int:
        """Returns how much memory it takes, roughly."""

    @abstractmethod
    def build(self, corpus: Corpus) -> None:
        """Does all that comes before the first query."""

    @abstractmethod
    def search(self, queries: np.ndarray, k: int, breadth: int) -> np.ndarray:
        """Returns the rows of the ``k`` nearest patches of each query, a patch; -1 for none."""
