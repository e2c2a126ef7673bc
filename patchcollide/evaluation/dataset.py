"""Images of the data set that a polytope is compared with: of a store, or of a folder."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.images.pictures import read_image
from patchcollide.images.sources import find_images
from patchcollide.images.tensors import as_batch, pairwise_distances, resized, to_channels
from patchcollide.networks.network import CollisionNetwork
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.shapes import UInt8, ndarray
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

MOST_OF_FOLDER = 512
"""How many images of a folder are read to measure their distances."""


@dataclass(frozen=True)
class DatasetImages:
    """Images as a network sees them, drawn by seed.

    Attributes:
        place: A store, or a folder of images.
        config: How images are read and how many are compared, and the seed.
        network: Decides their size and channels.
    """

    place: PatchStore | Path
    config: Config
    network: CollisionNetwork

    def draw(self, count: int | None = None) -> list[UInt8[ndarray, "side side channels"]]:
        """Returns so many readable images, by default ``evaluation.null_images``; or all.

        Raises:
            ImageError: If the folder is none, or holds no images.
        """
        count = self.config.evaluation.null_images if count is None else count
        network, seed = self.network, self.config.seed
        if isinstance(self.place, PatchStore):
            return images_of_store(self.place, count, seed, network.channels)
        return images_of_folder(
            self.place, self.config, count, network.input_size, network.channels
        )

    def same_class(self, image: Path, count: int) -> list[UInt8[ndarray, "side side channels"]]:
        """Returns at most so many readable images of an image's class, without itself, by seed.

        Classes are folders, by their names; none for an image in no folder of such a name.
        """
        label, config, channels = image.parent.name, self.config, self.network.channels
        if isinstance(self.place, PatchStore):
            own = f"{label}/{image.name}"

            def is_other(name: str) -> bool:
                return name.startswith(f"{label}/") and name != own

            return images_of_store(self.place, count, config.seed, channels, is_other)
        # A folder without images has none of the class either.
        with contextlib.suppress(ImageError):
            if label:
                return images_of_folder(
                    self.place / label,
                    config,
                    count,
                    self.network.input_size,
                    channels,
                    lambda name: name != image.name,
                )
        return []

    def mean_distance(self) -> float | None:
        """Returns the mean L2 distance of random pairs, in 0..255; None if there are not two.

        Raises:
            ImageError: As :meth:`draw`.
        """
        num_pairs, seed = self.config.evaluation.dataset_pairs, self.config.seed
        network = self.network
        if isinstance(self.place, PatchStore):
            size, channels = network.input_size, network.channels
            return dataset_distance(self.place, num_pairs, seed, size=size, channels=channels)
        return mean_pair_distance(self.draw(MOST_OF_FOLDER), num_pairs, seed)


@proof_modes()
def dataset_distance(
    store: PatchStore, num_pairs: int, seed: int, *, size: int, channels: int = 3
) -> float | None:
    """Returns the mean L2 distance of random pairs of a store's images, in 0..255.

    Pairs are of two different readable images, scaled to ``size`` pixels, as vertices are; None if
    there are not two.
    """
    readable = np.flatnonzero(store.valid).tolist()

    def image(number: int) -> UInt8[ndarray, "side side channels"]:
        return to_channels(store.image(number), channels)

    found = _distances_of_pairs(readable, image, num_pairs, seed, size)
    # One after the other: another order of adding up has other last bits.
    return sum(found) / num_pairs if found else None


def mean_pair_distance(
    images: Sequence[UInt8[ndarray, "side side channels"]], num_pairs: int, seed: int
) -> float | None:
    """Returns the mean L2 distance of random pairs of images, in 0..255; None without a pair."""
    found = _distances_of_pairs(range(len(images)), images.__getitem__, num_pairs, seed)
    return float(np.mean(found)) if found else None


def _distances_of_pairs(
    numbers: Sequence[int],
    image: Callable[[int], UInt8[ndarray, "side side channels"]],
    num_pairs: int,
    seed: int,
    size: int | None = None,
) -> list[float]:
    """Returns distances of random pairs of two different images, scaled to ``size``; or none."""
    if len(numbers) < 2:
        return []
    rng = seeded_numpy(seed, Purpose.DATA_PAIRS)
    found = []
    for _ in range(num_pairs):
        first, second = rng.choice(numbers, size=2, replace=False).tolist()
        pair = as_batch(np.stack([image(first), image(second)]))
        found.append(float(pairwise_distances(pair if size is None else resized(pair, size))))
    return found


def images_of_store(
    store: PatchStore,
    count: int,
    seed: int,
    channels: int = 3,
    wanted: Callable[[str], bool] = bool,
) -> list[UInt8[ndarray, "side side channels"]]:
    """Draws readable images of a store whose names are wanted, all of them if there are fewer."""
    readable = [n for n in np.flatnonzero(store.valid).tolist() if wanted(store.names[n])]
    chosen = seeded_numpy(seed, Purpose.DATA_IMAGES).permutation(readable)[:count]
    return [to_channels(store.image(int(number)), channels) for number in np.sort(chosen)]


def images_of_folder(
    folder: Path,
    config: Config,
    count: int,
    size: int,
    channels: int = 3,
    wanted: Callable[[str], bool] = bool,
) -> list[UInt8[ndarray, "size size channels"]]:
    """Draws readable images of a folder whose names are wanted, all of them if there are fewer.

    Raises:
        ImageError: If there is no such folder, or it holds no images.
    """
    files = [file for file in find_images(folder).files if wanted(file.name)]
    found: list[UInt8[ndarray, "size size channels"]] = []
    fit, max_pixels = config.images.fit, config.images.max_pixels
    for number in seeded_numpy(config.seed, Purpose.DATA_IMAGES).permutation(len(files)):
        if len(found) == count:
            break
        try:
            found.append(
                read_image(
                    files[number], size=size, fit=fit, max_pixels=max_pixels, channels=channels
                )
            )
        except ImageError:
            continue  # Of a folder that nobody sorted, some may be damaged.
    return found
