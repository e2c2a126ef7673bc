"""HDF5 files as a contract with their readers: typed, versioned, whole, and free of links."""

import contextlib
import io
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from patchcollide.errors import InputError
from patchcollide.io.encodings import require_encoding
from patchcollide.io.files import require_open_files, written_beside
from patchcollide.io.mapped_arrays import MappedArray
from patchcollide.io.seals import is_damaged, seal

Attributes = Mapping[str, Any]


def write_hdf5(
    path: Path,
    *,
    encoding: str,
    version: str,
    datasets: Mapping[str, Any],
    attributes: Attributes,
) -> str:
    """Writes arrays and lists of strings as contiguous datasets, sealed, whole or not at all.

    Args:
        path: The file; an older one is replaced.
        encoding: What kind of file this is, written as ``encoding-type``.
        version: Version of the layout, written as ``encoding-version``.
        datasets: Name to NumPy array or list of strings.
        attributes: Name to JSON value; anything but numbers and strings is written as JSON text.

    Returns:
        The SHA-256 of the file.

    Raises:
        DiskFullError: If the disk is full.
    """
    with written_beside(path) as partial:
        _write_unsealed(partial, encoding, version, datasets, attributes)
        return seal(partial)


def _write_unsealed(
    path: Path, encoding: str, version: str, datasets: Mapping[str, Any], attributes: Attributes
) -> None:
    with _Sink(path, "w+") as sink, _new_file(sink) as file:
        _write_header(file, encoding, version, attributes)
        for name, value in datasets.items():
            if isinstance(value, list):
                file.create_dataset(name, data=value, dtype=h5py.string_dtype())
            else:
                file.create_dataset(name, data=np.asarray(value))


@contextlib.contextmanager
def streamed_hdf5(
    path: Path,
    *,
    encoding: str,
    version: str,
    rows: Mapping[str, np.ndarray],
    rows_per_chunk: int,
    compress: bool,
    attributes: Attributes,
) -> Iterator["Hdf5Stream"]:
    """Yields datasets to which rows are appended; the file is there, whole, when that is over.

    Args:
        path: The file; an older one is replaced.
        encoding: What kind of file this is, written as ``encoding-type``.
        version: Version of the layout, written as ``encoding-version``.
        rows: Name of each dataset to an array without rows: its type, and the shape of a row.
        rows_per_chunk: Datasets are stored, and compressed, in chunks of so many rows.
        compress: Whether chunks are compressed with gzip.
        attributes: Name to JSON value, as for :func:`write_hdf5`.

    Raises:
        DiskFullError: If the disk is full.
    """
    with written_beside(path) as partial, _Sink(partial, "w+") as sink, _new_file(sink) as file:
        _write_header(file, encoding, version, attributes)
        for name, empty in rows.items():
            file.create_dataset(
                name,
                data=empty,
                maxshape=(None, *empty.shape[1:]),
                chunks=(rows_per_chunk, *empty.shape[1:]),
                compression="gzip" if compress else None,
            )
        yield Hdf5Stream(file, sink)


class Hdf5Stream:
    """Datasets that grow together."""

    def __init__(self, file: Any, sink: "_Sink") -> None:
        self._file = file
        self._sink = sink

    def append(self, blocks: Mapping[str, np.ndarray]) -> None:
        """Writes the next rows of each dataset, best a multiple of a chunk at once."""
        for name, block in blocks.items():
            dataset = self._file[name]
            start = len(dataset)
            dataset.resize(start + len(block), axis=0)
            dataset[start:] = block
        # A full disk should end the work now, not when all the rest has been written to nowhere.
        self._sink.raise_error()


class _Sink(io.FileIO):
    """A file whose errors HDF5 never hears of: a full disk makes it crash the whole process."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        with self._noted():
            while rest and not self.error:
                rest = rest[super().write(rest) :]
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Reads zeros where nothing was written: HDF5 takes what is in its memory for the file."""
        view = memoryview(buffer).cast("B")
        num_read = super().readinto(view) or 0
        view[num_read:] = bytes(len(view) - num_read)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        with self._noted():
            super().truncate(size)
        return self.tell() if size is None else size

    def raise_error(self) -> None:
        """Raises the first error there was, if any."""
        if self.error:
            raise self.error

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


@contextlib.contextmanager
def _new_file(sink: _Sink) -> Iterator[Any]:
    try:
        with h5py.File(sink, "w", libver="v110") as file:
            yield file
    finally:
        sink.raise_error()


def _write_header(file: Any, encoding: str, version: str, attributes: Attributes) -> None:
    file.attrs["encoding-type"] = encoding
    file.attrs["encoding-version"] = version
    for name, value in attributes.items():
        plain = isinstance(value, int | float) or (isinstance(value, str) and not _is_json(value))
        file.attrs[name] = value if plain else json.dumps(value, sort_keys=True)


def _is_json(text: str) -> bool:
    return text == "null" or text.startswith(("[", "{", '"'))


class Hdf5Reader:
    """A file opened for reading, of one encoding; every read checks kind, link and shape.

    Attributes:
        version: Its ``encoding-version``.
    """

    def __init__(self, file: Any, path: Path, error: type[InputError], version: str) -> None:
        self.version = version
        self._file = file
        self._path = path
        self._error = error

    def has_attribute(self, name: str) -> bool:
        """Says whether there is such an attribute; older files lack some."""
        with self._explained(name):
            return name in self._file.attrs

    def attribute(self, name: str) -> Any:
        """Returns an attribute; JSON text comes back as what it encodes."""
        if name not in self._file.attrs:
            raise self._error(f"{self._path} has no attribute '{name}'. Make the file again.")
        with self._explained(name):
            value = self._file.attrs[name]
            if isinstance(value, str) and _is_json(value):
                return json.loads(value)
        return value.item() if isinstance(value, np.generic) else value

    def array(self, name: str, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
        """Reads dataset ``name``, which must have this type and shape (None: any length)."""
        dataset = self._dataset(name, shape)
        if dataset.dtype != np.dtype(dtype):
            raise self._error(
                f"{self._path}: '{name}' should be {np.dtype(dtype)}, but is {dataset.dtype}."
            )
        with self._explained(name):
            return np.asarray(dataset[()])

    def strings(self, name: str, length: int | None = None) -> list[str]:
        """Reads a one-dimensional dataset of strings, which must have this length (None: any)."""
        dataset = self._dataset(name, (length,))
        if h5py.check_string_dtype(dataset.dtype) is None:
            raise self._error(f"{self._path}: '{name}' should hold strings, not {dataset.dtype}.")
        with self._explained(name):
            return [str(text) for text in dataset.asstr()[()]]

    def memory_map(self, name: str, dtype: Any, shape: tuple[int | None, ...]) -> MappedArray:
        """Returns a contiguous dataset, to be mapped into memory when it is used.

        Raises:
            InputError: Of the kind given to :func:`open_hdf5`, when the dataset is chunked,
                filtered, stored elsewhere, or reaches beyond the end of the file.
        """
        dataset = self._dataset(name, shape)
        offset = dataset.id.get_offset()
        if offset is None or dataset.chunks or dataset.dtype != np.dtype(dtype):
            raise self._error(
                f"{self._path}: '{name}' should be a contiguous {np.dtype(dtype)} dataset without "
                f"filters, but is {dataset.dtype}, chunks {dataset.chunks}. Make the file again."
            )
        if offset + dataset.nbytes > self._path.stat().st_size:
            raise self._error(
                f"{self._path} is truncated: '{name}' ends at byte {offset + dataset.nbytes}, the "
                f"file at {self._path.stat().st_size}. Make the file again."
            )
        return MappedArray(self._path, dtype, offset, dataset.shape, self._error)

    def _dataset(self, name: str, shape: tuple[int | None, ...]) -> Any:
        # External and soft links could point the reader at any file: only hard links are read.
        with self._explained(name):
            known = name in self._file.keys()  # noqa: SIM118
            link = self._file.get(name, getlink=True) if known else None
            dataset = self._file[name] if isinstance(link, h5py.HardLink) else None
        if dataset is None:
            raise self._error(f"{self._path} has no dataset '{name}'. Make the file again.")
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise self._error(f"{self._path}: '{name}' is not a dataset stored in the file itself.")
        fits = len(shape) == dataset.ndim and all(
            want in (None, have) for want, have in zip(shape, dataset.shape, strict=True)
        )
        if not fits:
            raise self._error(
                f"{self._path}: '{name}' should have shape {shape}, but has {dataset.shape}."
            )
        return dataset

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turns whatever HDF5 raises at damaged bytes into an error that names file and key."""
        try:
            yield
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as damaged:
            raise self._error(
                f"{self._path} is damaged at '{name}' ({damaged}). Make the file again."
            ) from damaged


@contextlib.contextmanager
def open_hdf5(
    path: Path,
    *,
    encoding: str,
    version: str,
    error: type[InputError],
    older: Collection[str] = (),
    checked: bool = True,
) -> Iterator[Hdf5Reader]:
    """Opens a file of one encoding for reading; one that has a seal must fit it.

    Args:
        path: The file.
        encoding: The ``encoding-type`` it must have.
        version: The ``encoding-version`` it must have.
        error: What to raise when it is missing, damaged, or of another kind or version.
        older: Versions that the caller reads as well.
        checked: Whether to look at the seal, which takes reading the whole file.
    """
    if not path.is_file():
        raise error(f"{path} is missing. Check the path, or make it again.")
    if checked and is_damaged(path.resolve()):
        raise error(
            f"{path} is damaged: it does not hold the bytes that were written. Make it again."
        )
    try:
        file = h5py.File(path, "r")
    except OSError as damaged:
        require_open_files(damaged, path)
        raise error(f"{path} is not a readable HDF5 file ({damaged}). Make it again.") from damaged
    with file:
        # As text: an array, which another program's file may hold there, compares to an array.
        names = ("encoding-type", "encoding-version")
        found = {name: str(file.attrs.get(name)) for name in names}
        if found["encoding-version"] not in older or found["encoding-type"] != encoding:
            remedy = "Make it again with this version of patchcollide."
            require_encoding(found, path, (encoding, version), error, remedy)
        yield Hdf5Reader(file, path, error, found["encoding-version"])
