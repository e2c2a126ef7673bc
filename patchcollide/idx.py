"""Reading idx files, the format of MNIST: a big-endian header with the shape, then bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from patchcollide.errors import DataError
from patchcollide.shapes import UInt8, ndarray

MAX_BYTES = 1 << 30
_UNSIGNED_BYTES = 8


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
