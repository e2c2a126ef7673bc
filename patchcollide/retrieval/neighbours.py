"""Neighbours of every location of a source image, and the file that holds them."""

import operator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from patchcollide.config import Config
from patchcollide.errors import GeometryError, RetrievalError
from patchcollide.geometry import Canvas, PatchGrid
from patchcollide.images.pictures import read_square
from patchcollide.images.pillow import Picture
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.io.provenance import versions
from patchcollide.shapes import Bool, Int64, UInt8, ndarray

ENCODING = "patchcollide-neighbours"

VERSION = "3"

# Version 2 had no margin.
_OLDER = ("2",)


@dataclass(frozen=True)
class Omissions:
    """What the retrieval policy left out, counted.

    Attributes:
        leaked_images: Images of the store that are the source or the target, or near copies.
        excluded_images: Images whose name matches ``retrieval.exclude``.
        overlapping_patches: Patches that overlap a nearer one of the same image.
    """

    leaked_images: int
    excluded_images: int
    overlapping_patches: int


@dataclass(frozen=True)
class Neighbours:
    """The ``k`` nearest allowed patches of each location of a source image.

    Attributes:
        source: The source image, as it was cut.
        grid: The geometry of the locations, in pixels of the source.
        ids: Patch identifiers, nearest first.
        squared_distances: Squared L2 between 8-bit patches.
        proven: Of which locations it is proven that no allowed patch is nearer.
        patches: The neighbours' windows, at the resolution of the source, and what lies around.
        margin: How far the patches reach over the windows on each side, in pixels.
        image_names: Name of the image of each identifier, by image number.
        omissions: What was left out.
    """

    source: UInt8[ndarray, "side side 3"]
    grid: PatchGrid
    ids: Int64[ndarray, "locations k"]
    squared_distances: Int64[ndarray, "locations k"]
    proven: Bool[ndarray, "locations"]
    patches: UInt8[ndarray, "locations k support support 3"]
    margin: int
    image_names: dict[int, str]
    omissions: Omissions

    @property
    def windows(self) -> UInt8[ndarray, "locations k window window 3"]:
        """The neighbours' windows without what lies around, as a view."""
        inside = slice(self.margin, self.margin + self.grid.window_size)
        return self.patches[:, :, inside, inside]

    def save(self, path: Path, *, settings: dict[str, Any], seed: int, store: str) -> None:
        """Writes ``neighbours.h5``, with the settings and the store's fingerprint."""
        numbers = np.array(sorted(self.image_names), dtype=np.int64)
        write_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            datasets={
                "source": self.source,
                "ids": self.ids,
                "squared_distances": self.squared_distances,
                "certified": self.proven,
                "patches": self.patches,
                "image_numbers": numbers,
                "image_names": [self.image_names[int(number)] for number in numbers],
            },
            attributes={
                "grid": self.grid.to_dict(),
                "margin_px": self.margin,
                "omissions": asdict(self.omissions),
                "settings": settings,
                "seed": seed,
                "store": store,
                "versions": versions(),
            },
        )

    @classmethod
    def load(cls, path: Path) -> "Neighbours":
        """Reads ``neighbours.h5``; files of version 2 have no margin.

        Raises:
            RetrievalError: If it is missing, damaged or of another version.
        """
        with open_hdf5(
            path,
            encoding=ENCODING,
            version=VERSION,
            error=RetrievalError,
            older=_OLDER,
        ) as file:
            try:
                grid = PatchGrid(**file.attribute("grid"))
                found = 0 if file.version in _OLDER else file.attribute("margin_px")
                margin = operator.index(found)  # A TypeError unless it is a whole number.
                support = Canvas.of(grid, margin).support
                omissions = Omissions(**file.attribute("omissions"))
            except (TypeError, GeometryError) as error:
                raise RetrievalError(f"{path} is damaged ({error}). Make it again.") from error
            locations = grid.num_positions
            ids = file.array("ids", np.int64, (locations, None))
            k = ids.shape[1]
            numbers = file.array("image_numbers", np.int64, (None,))
            names = file.strings("image_names", len(numbers))
            return cls(
                source=file.array("source", np.uint8, (grid.image_size, grid.image_size, 3)),
                grid=grid,
                ids=ids,
                squared_distances=file.array("squared_distances", np.int64, (locations, k)),
                proven=file.array("certified", np.bool_, (locations,)),
                patches=file.array("patches", np.uint8, (locations, k, support, support, 3)),
                margin=margin,
                image_names=dict(zip(numbers.tolist(), names, strict=True)),
                omissions=omissions,
            )


def require_neighbours(config: Config, source: Picture, path: Path) -> None:
    """Checks that a file of neighbours can be composed under the settings.

    Args:
        config: Sections ``images``, ``patches``, ``retrieval`` and ``composition``.
        source: The image they must be of.
        path: A file that :func:`retrieve_neighbours` or :func:`import_neighbours` wrote.

    Raises:
        RetrievalError: If it is missing or damaged, or made with another source, geometry or
            margin, or holds fewer neighbours than are to be composed.
        ImageError: If the source cannot be read.
    """
    picture = read_square(config, source, config.images.size_px)
    require_neighbours_of(config, picture, Neighbours.load(path), f"{path}", f"{source}")


def require_neighbours_of(
    config: Config,
    picture: UInt8[ndarray, "side side 3"],
    found: Neighbours,
    name: str,
    source: str,
) -> None:
    """Does what :func:`require_neighbours` does, of what is in memory.

    Args:
        config: See there.
        picture: The image they must be of, at ``images.size_px``.
        found: The neighbours.
        name: What they are called in errors.
        source: What the image is called in errors.
    """
    grid = config.grid.with_stride(config.retrieval.query_stride_px)
    expected = (grid, config.composition.margin_px)
    if (found.grid, found.margin) != expected:
        raise RetrievalError(
            f"{name} holds neighbours on {found.grid} with a margin of {found.margin} pixels, but "
            f"the settings ask for {grid} with {expected[1]}. Change the settings "
            "(composition.margin_px, retrieval.query_stride_px, patches, images.size_px), or "
            "retrieve again."
        )
    if not np.array_equal(found.source, picture):
        raise RetrievalError(
            f"{name} holds the neighbours of another picture than {source}, or of that one made "
            "square in another way. Give --source as it was then, with the same images.fit."
        )
    if found.ids.shape[1] < config.composition.neighbours:
        raise RetrievalError(
            f"{name} holds {found.ids.shape[1]} neighbours of each location, but "
            f"composition.neighbours = {config.composition.neighbours}. Set it to at most that."
        )
