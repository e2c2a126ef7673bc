"""Photographs inside the wheels of scikit-image and scikit-learn, for demonstrations offline."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from patchcollide.errors import ImageError
from patchcollide.images.bundled import Settings, bundled_file, write_tree
from patchcollide.images.pictures import png_bytes, read_image, read_pixels, resize_square
from patchcollide.progress import track
from patchcollide.randomness import keyed_generator
from patchcollide.shapes import UInt8, ndarray

ENCODING, VERSION = "photographs", 1

MARKER = "photographs.json"
MAX_PIXELS = 10_000_000
SMALLEST_CUT = 0.3
_SKIMAGE_FILES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
_SKLEARN_FILES = ("china.jpg", "flower.jpg")

#: Name of each photograph -> its library and its place there.
PHOTOGRAPHS = {
    **{Path(file).stem: ("skimage", f"data/{file}") for file in _SKIMAGE_FILES},
    **{Path(file).stem: ("sklearn", f"datasets/images/{file}") for file in _SKLEARN_FILES},
}


def photograph(name: str) -> Path:
    """Returns the path of an original, such as ``"chelsea"`` or ``"coffee"``.

    Raises:
        ImageError: If there is no such photograph.
        DataError: If the installed library came without it.
        MissingLibraryError: If the library that holds it is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise ImageError(
            f"There is no photograph '{name}'. Choose one of {', '.join(sorted(PHOTOGRAPHS))}."
        )
    return bundled_file(*PHOTOGRAPHS[name])


def write_photographs(folder: Path, *, cuts: int = 24, size: int = 256, seed: int = 0) -> None:
    """Writes an ImageNet-shaped tree of PNG files, ``folder/NAME/NAME-000.png`` and so on.

    Number 000 is the whole photograph, fitted; the others are squares cut out of it. The tree
    appears whole or not at all, and one that is there already, made with the same settings, is
    left alone.

    Args:
        folder: Where to write; its parents are made.
        cuts: Squares to cut out of each photograph.
        size: Side of each image, in pixels.
        seed: Of the places and scales of the cuts.

    Raises:
        ImageError: If ``folder`` holds anything else, or a photograph is missing or unreadable.
        MissingLibraryError: If a library that holds photographs is not installed.
        DiskFullError: If the disk is full.
    """
    settings: Settings = {
        "encoding-type": ENCODING,
        "encoding-version": VERSION,
        "cuts": cuts,
        "size": size,
        "seed": seed,
        "names": sorted(PHOTOGRAPHS),
    }
    total = len(PHOTOGRAPHS) * (1 + cuts)
    files = track(_files(cuts, size, seed), "Writing photographs", total)
    write_tree(folder, MARKER, settings, files)


def _files(cuts: int, size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    for name in PHOTOGRAPHS:
        original = photograph(name)
        whole = read_image(original, size=size, fit="crop", max_pixels=MAX_PIXELS)
        pixels = read_pixels(original, max_pixels=MAX_PIXELS)
        generator = keyed_generator(seed, name)
        images = [whole, *cut_squares(pixels, cuts=cuts, size=size, generator=generator)]
        for number, image in enumerate(images):
            yield f"{name}/{name}-{number:03d}.png", png_bytes(image)


def cut_squares(
    image: UInt8[ndarray, "h w 3"], *, cuts: int, size: int, generator: np.random.Generator
) -> Iterator[UInt8[ndarray, "size size 3"]]:
    """Yields ``cuts`` random squares of ``image``, every other one mirrored.

    The side of a square is uniform between 0.3 and 1 of the image's shorter side, its place is
    uniform, and it is scaled to ``size`` pixels.
    """
    height, width = image.shape[:2]
    for number in range(cuts):
        side = max(1, round(generator.uniform(SMALLEST_CUT, 1) * min(height, width)))
        top = int(generator.integers(height - side + 1))
        left = int(generator.integers(width - side + 1))
        square = resize_square(image, left=left, top=top, side=side, size=size)
        yield np.ascontiguousarray(square[:, ::-1]) if number % 2 else square
