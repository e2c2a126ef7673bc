"""The photographs inside the wheels of scikit-image and scikit-learn, for demonstrations offline.

The only module that knows these two libraries; it reads their files and runs none of their code,
because ``skimage.data`` would download what its wheel lacks.
"""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from patchcollide.errors import ImageError, MissingLibraryError
from patchcollide.files import disk_full_explained, partial_path, read_json, write_json
from patchcollide.images import png_bytes, read_image, read_pixels, resize_square
from patchcollide.listing import keyed_generator
from patchcollide.shapes import UInt8, ndarray

MARKER = "photographs.json"
MAX_PIXELS = 10_000_000
SMALLEST_CUT = 0.3
_LIBRARIES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
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
        ImageError: If there is no such photograph, or the installed library came without it.
        MissingLibraryError: If the library that holds it is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise ImageError(
            f"There is no photograph '{name}'. Choose one of {', '.join(sorted(PHOTOGRAPHS))}."
        )
    library, place = PHOTOGRAPHS[name]
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise MissingLibraryError(
            f"The photograph '{name}' is part of {_LIBRARIES[library]}, which is not installed. "
            f"Run `pip install {_LIBRARIES[library]}`."
        )
    path = Path(spec.submodule_search_locations[0]) / place
    if not path.is_file():
        raise ImageError(
            f"The photograph '{name}' should be at {path}, but the installed "
            f"{_LIBRARIES[library]} came without it. Reinstall it from its wheel with "
            f"`pip install --force-reinstall {_LIBRARIES[library]}`."
        )
    return path


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
        DiskFullError: If there is no room left.
    """
    settings = {
        "encoding-type": "photographs",
        "encoding-version": 1,
        "cuts": cuts,
        "size": size,
        "seed": seed,
        "names": sorted(PHOTOGRAPHS),
    }
    if _is_written(folder, settings):
        return
    partial = partial_path(folder)
    # What an interrupted run left.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_full_explained(folder):
            for name in PHOTOGRAPHS:
                (partial / name).mkdir(parents=True)
                original = photograph(name)
                whole = read_image(original, size=size, fit="crop", max_pixels=MAX_PIXELS)
                pixels = read_pixels(original, max_pixels=MAX_PIXELS)
                generator = keyed_generator(seed, name)
                images = [whole, *cut_squares(pixels, cuts=cuts, size=size, generator=generator)]
                for number, image in enumerate(images):
                    (partial / name / f"{name}-{number:03d}.png").write_bytes(png_bytes(image))
            write_json(partial / MARKER, settings)
            if folder.is_dir():
                folder.rmdir()
            partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


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


def _is_written(folder: Path, settings: dict[str, object]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    marker = folder / MARKER
    if not marker.is_file():
        raise ImageError(
            f"{folder} holds something other than the photographs that belong there. Choose "
            "another folder, or remove this one."
        )
    found = read_json(marker, error=ImageError)
    differing = [key for key in settings if found.get(key) != settings[key]]
    if differing:
        raise ImageError(
            f"{folder} holds photographs written with "
            + ", ".join(f"{key} = {found.get(key)} (now {settings[key]})" for key in differing)
            + ". Choose another folder, or remove this one."
        )
    return True
