"""Handwritten digits to train on and to collide: MNIST, or those inside scikit-learn.

This module owns ``torchvision.datasets``, for its download alone. MNIST's files are of the format
idx, read here: a big-endian header with the shape, then bytes.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from patchcollide.errors import DataError
from patchcollide.images.bundled import Settings, bundled_file, write_tree
from patchcollide.images.pictures import png_bytes
from patchcollide.shapes import Int64, UInt8, ndarray

SIDE_PX = 28

NUM_CLASSES = 10

ENCODING, VERSION = "digits", 1

MARKER = "digits.json"

Split = Literal["train", "test"]

SPLITS: tuple[Split, ...] = ("train", "test")

_FILES = {"train": "train", "test": "t10k"}

_BUNDLED_SIDE, _BUNDLED_SCALE = 8, 3

# As many of scikit-learn's as its documentation holds back for a test: a fifth.
_BUNDLED_TEST_SHARE = 5

MAX_BYTES = 1 << 30

_UNSIGNED_BYTES = 8


@dataclass(frozen=True)
class Digits:
    """Grey pictures of digits, white on black.

    Attributes:
        images: 28 pixels wide and high, 0..255.
        labels: 0 to 9.
        name: ``MNIST`` or ``scikit-learn digits``.
        split: Which part of the data set.
    """

    images: UInt8[ndarray, "n 28 28 1"]
    labels: Int64[ndarray, "n"]
    name: str
    split: Split

    def __len__(self) -> int:
        return len(self.labels)


def read_digits(data: Path | None, split: Split) -> Digits:
    """Reads a part of a data set of digits.

    Args:
        data: A folder with MNIST's four files, gzipped or not, or one that :func:`download_mnist`
            filled; None for scikit-learn's own digits, of 8 x 8 pixels, three times as large on a
            black border.
        split: Which part.

    Raises:
        DataError: If a file is missing or damaged, or images and labels do not fit each other.
        MissingLibraryError: If scikit-learn is not installed.
    """
    return _bundled(split) if data is None else _mnist(data, split)


def download_mnist(folder: Path) -> Path:
    """Fetches MNIST by torchvision, unless it is there; returns the folder with its files.

    Raises:
        DataError: If it cannot be had.
    """
    from torchvision.datasets import MNIST

    try:
        return Path(MNIST(str(folder), download=True).raw_folder)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"MNIST could not be downloaded into {folder}: {error}. Get its four files "
            f"({_FILES['train']}-images-idx3-ubyte.gz ...) on another machine and name their "
            "folder with --data."
        ) from error


def write_digits(folder: Path, digits: Digits, count: int) -> None:
    """Writes the first digits of a data set as ``folder/LABEL/SPLIT-NUMBER.png``.

    Args:
        folder: Where to; left alone if it holds the same digits already.
        digits: The data set.
        count: How many, in its order; all if there are fewer.

    Raises:
        ImageError: If ``folder`` holds anything else.
        DiskFullError: If the disk is full.
    """
    count = min(count, len(digits))
    settings: Settings = {
        "encoding-type": ENCODING,
        "encoding-version": VERSION,
        "name": digits.name,
        "split": digits.split,
        "count": count,
    }
    write_tree(folder, MARKER, settings, _files(digits, count))


def _files(digits: Digits, count: int) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        place = f"{digits.labels[number]}/{digits.split}-{number:05d}.png"
        yield place, png_bytes(digits.images[number])


def _mnist(folder: Path, split: Split) -> Digits:
    images = read_idx(_find(folder, f"{_FILES[split]}-images-idx3-ubyte"), 3)
    labels = read_idx(_find(folder, f"{_FILES[split]}-labels-idx1-ubyte"), 1)
    if images.shape[1:] != (SIDE_PX, SIDE_PX):
        raise DataError(
            f"{folder}: expected images of {SIDE_PX} x {SIDE_PX} pixels, but found "
            f"{images.shape[1]} x {images.shape[2]}. Give MNIST's own files, or others of its size."
        )
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: expected a label for each image of '{split}', but found {len(images)} "
            f"images and {len(labels)} labels. Get the data set again."
        )
    if len(labels) == 0 or labels.max() >= NUM_CLASSES:
        found = f"{labels.max()}" if len(labels) else "no labels"
        raise DataError(
            f"{folder}: expected labels of 0 to 9, but found {found}. Give MNIST's own files."
        )
    return Digits(images[..., None], labels.astype(np.int64), "MNIST", split)


def _find(folder: Path, name: str) -> Path:
    """Returns where a file is, under MNIST's own name or that without its type, gzipped or not."""
    for candidate in (name, f"{name}.gz", name.replace("-idx", ".idx")):
        if (folder / candidate).is_file():
            return folder / candidate
    raise DataError(
        f"{folder} holds neither {name}.gz nor {name}. Expected are MNIST's four files: name the "
        "folder that holds them."
    )


def _bundled(split: Split) -> Digits:
    path = bundled_file("sklearn", "datasets/data/digits.csv.gz")
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    # Of 0..16, small pictures on black, with a border as MNIST's have one.
    small = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8)
    small = small.reshape(-1, _BUNDLED_SIDE, _BUNDLED_SIDE)
    large = small.repeat(_BUNDLED_SCALE, axis=1).repeat(_BUNDLED_SCALE, axis=2)
    border = (SIDE_PX - large.shape[1]) // 2
    images = np.pad(large, ((0, 0), (border, border), (border, border)))[..., None]
    labels = table[:, -1].astype(np.int64)
    # The last are by other writers than the first, so the test is of hands never seen.
    cut = len(labels) - len(labels) // _BUNDLED_TEST_SHARE
    part = slice(None, cut) if split == "train" else slice(cut, None)
    return Digits(images[part], labels[part], "scikit-learn digits", split)


def read_idx(path: Path, num_dims: int) -> UInt8[ndarray, "*shape"]:
    """Reads an idx file of unsigned bytes, gzipped or not; the content tells which.

    Args:
        path: The file.
        num_dims: How many dimensions it must have: 1 for labels, 3 for images.

    Raises:
        DataError: If the file is missing, is no such file, is truncated, goes on behind its end,
            or announces more than 1 GiB, which is refused before it is read.

    Source:
        Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits".
    """
    try:
        with path.open("rb") as plain:
            is_zipped = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_zipped else path.open("rb") as file:
            shape = _shape(file.read(4 + 4 * num_dims), num_dims, path)
            expected = math.prod(shape)
            # One byte more than announced tells a file that goes on.
            data = file.read(expected + 1)
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing. Check the folder, or get the data set again."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as an idx file ({error}). Get the data set again."
        ) from error
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise DataError(
            f"{path} should hold {expected} bytes for its shape {shape}, but holds {found}: it is "
            "truncated or damaged. Get the data set again."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _shape(header: bytes, num_dims: int, path: Path) -> tuple[int, ...]:
    """Reads the header: two zeros, the type, the number of dimensions, and their sizes."""
    expected = bytes([0, 0, _UNSIGNED_BYTES, num_dims])
    if header[:4] != expected or len(header) != 4 + 4 * num_dims:
        raise DataError(
            f"{path} should be an idx file of unsigned bytes with {num_dims} dimensions, and so "
            f"start with {expected.hex()}, but starts with {header[:4].hex() or 'nothing'}. Check "
            "that images and labels are not mixed up."
        )
    shape = tuple(int(size) for size in np.frombuffer(header[4:], ">u4"))
    if math.prod(shape) > MAX_BYTES:
        raise DataError(
            f"{path} announces the shape {shape}, more than {MAX_BYTES} bytes, which no such data "
            "set has: it is damaged. Get the data set again."
        )
    return shape
