"""Which images of a folder an audit measures: some of each class, drawn by seed."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from patchcollide.config import Config
from patchcollide.errors import ImageError
from patchcollide.evaluation.dataset import mean_pair_distance
from patchcollide.images.listings import SourceImage
from patchcollide.images.pictures import read_image, read_pixels
from patchcollide.images.sources import find_images
from patchcollide.io.provenance import fingerprint
from patchcollide.networks.network import CollisionNetwork
from patchcollide.progress import track
from patchcollide.randomness import keyed_generator
from patchcollide.shapes import UInt8, ndarray


@dataclass(frozen=True, eq=False)
class AuditImage:
    """An image to be measured.

    Attributes:
        name: Its path in the folder, with ``/``.
        label: Its class: the first folder of ``name``, empty in a flat folder.
        digest: The SHA-256 of its file.
        picture: As the network sees it.
        is_fitted: Whether it had another size in its file.
    """

    name: str
    label: str
    digest: str
    picture: UInt8[ndarray, "side side channels"]
    is_fitted: bool


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of an audit.

    Attributes:
        images: Sorted by name.
        skipped: Names of drawn files that cannot be read or measured, and why.
        num_found: How many files the folder holds.
    """

    images: tuple[AuditImage, ...]
    skipped: tuple[tuple[str, str], ...]
    num_found: int

    @property
    def digest(self) -> str:
        """Decided by the names and the files of the images."""
        return fingerprint([[image.name, image.digest] for image in self.images])

    @property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted({image.label for image in self.images})

    def mean_distance(self, num_pairs: int, seed: int) -> float | None:
        """Returns the mean L2 distance of random pairs, in 0..255; None for a single image."""
        return mean_pair_distance([image.picture for image in self.images], num_pairs, seed)


def draw_sample(
    config: Config, network: CollisionNetwork, folder: Path, *, one_class: bool = False
) -> Sample:
    """Draws ``audit.per_class`` images of each class and reads them.

    A class's choice depends on its own files, its label and the seed only, and a smaller choice is
    part of a larger one. What cannot be read is left out, and not replaced.

    Args:
        config: Sections ``audit`` and ``images``, and the seed.
        network: Decides the size and the channels of images.
        folder: A folder of images, by classes in folders.
        one_class: Whether one class will do.

    Raises:
        ImageError: If there is no such folder, if it holds no readable images, or one class only.
    """
    files = find_images(folder).files
    images: list[AuditImage] = []
    skipped: list[tuple[str, str]] = []
    drawn = _drawn(files, config.audit.per_class, config.seed)
    for file in track(drawn, "Reading images", len(drawn)):
        try:
            images.append(_read(config, network, file))
        except ImageError as error:
            skipped.append((file.name, str(error)))
    if not images:
        raise ImageError(
            f"None of the {len(skipped)} images drawn from {folder} can be read. The first: "
            f"{skipped[0][1]}"
        )
    sample = Sample(tuple(images), tuple(skipped), len(files))
    if len(sample.labels) < 2 and not one_class:
        raise ImageError(_one_class(folder, sample))
    return sample


def _drawn(files: Iterable[SourceImage], per_class: int, seed: int) -> list[SourceImage]:
    classes = defaultdict(list)
    for file in files:
        classes[file.label].append(file)
    chosen = [
        members[place]
        for label, members in classes.items()
        for place in keyed_generator(seed, label).permutation(len(members))[:per_class]
    ]
    return sorted(chosen, key=lambda file: file.name)


def _read(config: Config, network: CollisionNetwork, file: SourceImage) -> AuditImage:
    size, settings = network.input_size, config.images
    picture = read_image(
        file,
        size=size,
        fit=settings.fit,
        max_pixels=settings.max_pixels,
        channels=network.channels,
    )
    own_size = read_pixels(file, max_pixels=settings.max_pixels).shape[:2]
    return AuditImage(file.name, file.label, file.digest(), picture, own_size != (size, size))


def _one_class(folder: Path, sample: Sample) -> str:
    label = sample.labels[0]
    found = f"one, '{label}'" if label else "none: its images lie in no folder of a class"
    if sample.skipped:
        found += f" (and {len(sample.skipped)} images that cannot be read)"
    return (
        f"Expected images of two classes or more, each in a folder of its own in {folder}, but "
        f"found {found}. An audit compares classes and looks for images unlike their class. Sort "
        "the images into folders, or give --one-class to rank the images without that."
    )


def label_classes(network: CollisionNetwork, labels: Iterable[str]) -> dict[str, int]:
    """Returns the network's class of each folder that is named like one.

    Folders are compared with names, any one of several separated by commas, whatever their case,
    with ``_`` for a space; or with indices where a network's classes have no names. Names that two
    classes share are nobody's.
    """
    names = network.class_names or tuple(map(str, range(network.num_classes)))
    known = [
        (part, index)
        for index, name in enumerate(names)
        for part in {_plain(part) for part in (name, *name.split(","))}
    ]
    shared = Counter(part for part, _ in known)
    classes = {part: index for part, index in known if shared[part] == 1}
    return {label: classes[_plain(label)] for label in labels if _plain(label) in classes}


def _plain(name: str) -> str:
    # An accented letter may be one character or two.
    return unicodedata.normalize("NFC", name.strip().lower().replace("_", " "))
