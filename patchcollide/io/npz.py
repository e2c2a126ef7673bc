"""NumPy's ``.npz`` archives, read without running what is in them or believing their sizes."""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from numpy.lib import format as npy

from patchcollide.errors import InputError
from patchcollide.shapes import ndarray

_BLOCK_BYTES = 1 << 20
# What a file may hold of each kind of number, and its name.
_KINDS = {"f": ("f", "floating-point numbers"), "i": ("iu", "whole numbers")}


class NpzReader:
    """An archive opened for reading; an array is checked by its header before it is unpacked."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, error: type[InputError]) -> None:
        self._archive = archive
        self._path = path
        self._error = error
        self._members = {
            name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")
        }

    @property
    def names(self) -> list[str]:
        """The names of the arrays, in the file's order."""
        return list(self._members)

    def shape(self, name: str, dtype: type[np.generic] = np.float32) -> tuple[int, ...]:
        """Returns the shape that an array has by its header.

        Args:
            name: Its name.
            dtype: Floating-point or whole numbers of any size, as this type is, must be in it.

        Raises:
            InputError: Of the kind given to :func:`open_npz`, when the array is missing or
                damaged, or holds anything else.
        """
        with self._member(name) as file:
            shape, _, _ = self._header(name, file, dtype)
        return shape

    def array(
        self, name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.float32
    ) -> ndarray:
        """Reads an array.

        Args:
            name: Its name.
            shape: The shape it must have; no more than that is unpacked.
            dtype: What to return; see :meth:`shape` for what may be in the file.

        Raises:
            InputError: As :meth:`shape`, and if it has another shape, or more or fewer bytes than
                its header says.
        """
        with self._member(name) as file:
            found, is_fortran, stored = self._header(name, file, dtype)
            if found != shape:
                raise self._error(
                    f"{self._path}: '{name}' should have shape {shape}, but has {found}."
                )
            values = np.empty(math.prod(shape), stored)
            with self._explained(name):
                _fill(values, file)
        ordered = values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(ordered, dtype=dtype).reshape(shape)

    @contextlib.contextmanager
    def _member(self, name: str) -> Iterator[BufferedIOBase]:
        if name not in self._members:
            raise self._error(f"{self._path} has no array '{name}'.")
        with contextlib.ExitStack() as stack:
            with self._explained(name):
                file = stack.enter_context(self._archive.open(self._members[name]))
            yield cast(BufferedIOBase, file)

    def _header(
        self, name: str, file: BufferedIOBase, wanted: type[np.generic]
    ) -> tuple[tuple[int, ...], bool, np.dtype]:
        with self._explained(name):
            version = npy.read_magic(file)
            # Later versions announce headers of up to 4 GB, and only structures need those.
            if version != (1, 0):
                raise ValueError(f"layout version {version}, expected (1, 0)")
            shape, is_fortran, dtype = npy.read_array_header_1_0(file)
            if min(shape, default=0) < 0:
                raise ValueError(f"shape {shape}")
        kinds, words = _KINDS[np.dtype(wanted).kind]
        if dtype.hasobject:
            raise self._error(
                f"{self._path} was refused: '{name}' holds Python objects, which could run code "
                f"when unpickled. Save it as an array of {words}."
            )
        if dtype.kind not in kinds or dtype.itemsize > 8:
            raise self._error(
                f"{self._path}: '{name}' should hold {words} of at most 64 bits, but holds {dtype}."
            )
        return shape, is_fortran, dtype

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turns whatever damaged bytes make the libraries raise into an error that says where."""
        try:
            yield
        except Exception as damaged:
            text = str(damaged) or type(damaged).__name__
            raise self._error(
                f"{self._path} is damaged at '{name}' ({text}). Download or make the file again."
            ) from damaged


@contextlib.contextmanager
def open_npz(path: Path, *, error: type[InputError]) -> Iterator[NpzReader]:
    """Opens an archive for reading.

    Args:
        path: The file.
        error: What to raise when it is missing, damaged, or not what is asked of it.
    """
    if not path.is_file():
        raise error(f"{path} is missing. Check the path.")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as damaged:  # Beside BadZipFile: OSError, ValueError, struct.error ...
        raise error(
            f"{path} is damaged or not an .npz file ({damaged}). Download or make it again."
        ) from damaged
    with archive:
        yield NpzReader(archive, path, error)


def _fill(values: np.ndarray, file: BufferedIOBase) -> None:
    """Reads exactly the bytes of ``values``, after which the file must end."""
    view = values.view(np.uint8).data
    done = 0
    while done < len(view):
        block = file.read(min(_BLOCK_BYTES, len(view) - done))
        if not block:
            raise ValueError(f"it ends after {done} of {len(view)} bytes")
        view[done : done + len(block)] = block
        done += len(block)
    # Reading on to the end also compares the checksum.
    if file.read(1):
        raise ValueError(f"it goes on after its {len(view)} bytes")
