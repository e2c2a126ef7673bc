"""Pictures in Parquet files, as Hugging Face's data sets have them: ``image.bytes`` and ``label``.

The only module that imports PyArrow. A picture lies in a row of a group of rows, and a group is
read from its first row on: pictures are best read in the order of their places.
"""

import hashlib
import importlib
import importlib.util
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from patchcollide.errors import ImageError, MissingLibraryError, StoreError
from patchcollide.images.listings import Listing, class_name
from patchcollide.images.samples import RefusedError
from patchcollide.images.windows import changed_at, open_part
from patchcollide.progress import track

_ROWS_AT_ONCE = 16

_LABELS_AT_ONCE = 4096

_BUFFER_BYTES = 1 << 20

_SCHEMA = "a column image with bytes, and perhaps path, and a column label"

ParquetFile: TypeAlias = Any
"""A ``pyarrow.parquet.ParquetFile``."""


@dataclass(frozen=True, slots=True)
class ParquetImage:
    """A picture in a Parquet file.

    Attributes:
        path: The file.
        time: When that was last changed, in ns.
        group: Its group of rows.
        row: Its row within the group.
        name: Its class and its own name, with ``/``.
        label: Its class.
    """

    path: Path
    time: int
    group: int
    row: int
    name: str
    label: str

    def __str__(self) -> str:
        return f"{self.name} in {self.path}"

    @property
    def place(self) -> tuple[Any, ...]:
        """Orders pictures as they lie in files."""
        return str(self.path), self.group, self.row

    @property
    def former_name(self) -> str:
        """The same: stores of before were made of folders alone."""
        return self.name

    def open(self) -> io.BufferedIOBase:
        """Reads the picture; see :class:`patchcollide.images.listings.PictureFile`."""
        ((_, read),) = read_in_order([(0, self)])
        return read.open()

    def digest(self) -> str:
        """Returns the SHA-256 of the picture's bytes; nothing if they cannot be read."""
        ((_, read),) = read_in_order([(0, self)])
        return read.digest()

    def state(self) -> tuple[int, int]:
        """Returns when the file was changed; to ask for a picture's size is to read it."""
        return 0, self.time


@dataclass(frozen=True)
class ReadImage:
    """A picture's bytes in memory, or why they are not there.

    Attributes:
        origin: Where they are from, for people.
        content: The bytes, or an error that is raised when they are asked for.
    """

    origin: str
    content: bytes | Exception

    def __str__(self) -> str:
        return self.origin

    def open(self) -> io.BufferedIOBase:
        """Opens the bytes; see :class:`patchcollide.images.listings.PictureFile`."""
        if isinstance(self.content, Exception):
            raise self.content
        return io.BytesIO(self.content)

    def digest(self) -> str:
        """Returns the SHA-256 of the bytes; nothing if they cannot be read."""
        if isinstance(self.content, StoreError):
            raise self.content
        found = self.content
        return "" if isinstance(found, Exception) else hashlib.sha256(found).hexdigest()


def list_tables(origin: Path, paths: Sequence[Path]) -> Listing:
    """Lists the pictures of Parquet files that belong together.

    Classes are called as the schema's metadata says, or else by their labels; pictures by the last
    part of ``image.path``, or else by their file and row.

    Args:
        origin: What was given: a file, a folder of them, or a pattern.
        paths: The files.

    Raises:
        MissingLibraryError: If PyArrow is not installed.
        ImageError: If one is damaged, has other columns, or rows without a label.
    """
    found: dict[str, ParquetImage] = {}
    refused, known = [], None
    for path in track(paths, "Listing Parquet files", len(paths)):
        table = _open(path)
        try:
            names = _require_schema(path, table.schema_arrow)
            if known is not None and names != known[1]:
                raise ImageError(
                    f"{path} has other names of classes than {known[0]}. Give files of one data "
                    "set."
                )
            known = path, names
            for image in _listed(path, table, names):
                if image.name in found:
                    refused.append(f"{image.name} comes again later")
                found[image.name] = image
        finally:
            table.close()
    files = tuple(sorted(found.values(), key=lambda file: file.name))
    return Listing(files, 0, refused=tuple(refused), origin=origin, kind="parquet")


def read_in_order(
    images: Sequence[tuple[int, ParquetImage]],
) -> Iterator[tuple[int, ReadImage]]:
    """Reads pictures in the order given, each group of rows from its first row on, once.

    An error is kept in the picture and raised by whoever opens it.

    Args:
        images: Pictures, each with a number to know it by, as they lie in files.
    """
    for (path, time, group), members in groupby(
        images, key=lambda each: (each[1].path, each[1].time, each[1].group)
    ):
        wanted = {image.row: (number, str(image)) for number, image in members}
        try:
            for row, content in _group(path, time, group, wanted):
                number, origin = wanted.pop(row)
                yield number, ReadImage(origin, content)
        except (StoreError, _arrow().ArrowException, OSError) as error:
            reason = error
            if not isinstance(error, StoreError):
                reason = RefusedError(f"cannot be read ({_words(error)})")
            for number, origin in wanted.values():
                yield number, ReadImage(origin, reason)


def _group(
    path: Path, time: int, group: int, wanted: dict[int, Any]
) -> Iterator[tuple[int, bytes | Exception]]:
    """Yields the contents of some rows of a group, up to the last of them."""
    last = max(wanted)
    with open_part(path, time) as file:
        table = _open(path, file)
        column = "image.bytes" if _is_struct(table.schema_arrow) else "image"
        start = 0
        for batch in table.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False
        ):
            values = batch.column(0)
            if column != "image":
                values = values.field("bytes")
            for row in range(start, start + len(values)):
                if row in wanted:
                    content = values[row - start].as_py()
                    yield row, content or RefusedError("a row without bytes")
            start += len(values)
            if start > last:
                return


def _open(path: Path, file: io.BufferedIOBase | None = None) -> ParquetFile:
    arrow = _arrow()
    try:
        # With a buffer, a group of rows is read piece by piece and not as a whole.
        return importlib.import_module("pyarrow.parquet").ParquetFile(
            file or path,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )
    except (arrow.ArrowException, OSError) as error:
        raise ImageError(
            f"{path} is a damaged or truncated Parquet file ({_words(error)}). Bring the whole one."
        ) from error


def _arrow() -> Any:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingLibraryError(
            "PyArrow is not installed, which Parquet files are read with. Install "
            "`patchcollide[parquet]`."
        )
    return importlib.import_module("pyarrow.lib")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _require_schema(path: Path, schema: Any) -> list[str] | None:
    """Returns the names of classes, None if the file has none; refuses other columns."""
    types = importlib.import_module("pyarrow.types")
    columns = {field.name: field.type for field in schema}
    image = columns.get("image")
    if image is not None and types.is_struct(image):
        parts = {image.field(number).name: image.field(number).type for number in range(len(image))}
        image = parts.get("bytes")
    label = columns.get("label")
    is_binary = image is not None and (types.is_binary(image) or types.is_large_binary(image))
    is_class = label is not None and (
        types.is_integer(label) or types.is_string(label) or types.is_large_string(label)
    )
    if not is_binary or not is_class:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise ImageError(
            f"Expected {_SCHEMA}, in {path}, but found {found or 'no columns'}. Rename its columns "
            "so, or give other files."
        )
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about.get("info", {}).get("features", {}).get("label", {}).get("names")
        return None if names is None else [class_name(str(name)) for name in names]
    except (ValueError, AttributeError, TypeError) as error:
        raise ImageError(
            f"{path} has metadata of Hugging Face that name no classes ({error}). Write it again."
        ) from error


def _is_struct(schema: Any) -> bool:
    types = importlib.import_module("pyarrow.types")
    return bool(types.is_struct(schema.field("image").type))


def _listed(path: Path, table: ParquetFile, names: list[str] | None) -> Iterator[ParquetImage]:
    time, number, unlabelled = changed_at(path), 0, []
    struct = table.schema_arrow.field("image").type if _is_struct(table.schema_arrow) else None
    has_paths = struct is not None and struct.get_field_index("path") >= 0
    columns = ["label", "image.path"] if has_paths else ["label"]
    batches = partial(table.iter_batches, _LABELS_AT_ONCE, columns=columns, use_threads=False)
    for group in range(table.num_row_groups):
        row = 0
        for batch in _batches(path, batches, group):
            labels = batch.column("label").to_pylist()
            inside = batch.column("image").field("path").to_pylist() if has_paths else []
            for place, label in enumerate(labels):
                known = _known_label(path, label, names)
                own = _own_name(inside[place] if has_paths else None) or f"{path.stem}-{number:07d}"
                if known is None:
                    unlabelled.append(own)
                else:
                    yield ParquetImage(path, time, group, row, f"{known}/{own}", known)
                row, number = row + 1, number + 1
    if unlabelled:
        raise ImageError(
            f"{path} holds {number} pictures, but {len(unlabelled)} of them have no label, such as "
            f"{unlabelled[0]}. Give another split."
        )


def _batches(path: Path, batches: Any, group: int) -> Iterator[Any]:
    try:
        yield from batches(row_groups=[group])
    except (_arrow().ArrowException, OSError) as error:
        raise ImageError(
            f"{path} is a damaged Parquet file ({_words(error)}). Bring the whole one."
        ) from error


def _known_label(path: Path, label: str | int | None, names: list[str] | None) -> str | None:
    if label is None or label == -1:
        return None
    if names is None:
        try:
            return class_name(str(label))
        except ValueError:
            return None
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise ImageError(
            f"{path} has a label {label!r}, but names {len(names)} classes, 0 to "
            f"{len(names) - 1}. Write it again."
        )
    return names[label]


def _own_name(path: str | None) -> str:
    """Returns a picture's own name, of the path that it once had; nothing if that gives none."""
    name = PurePosixPath((path or "").replace("\\", "/")).name
    return name if name.isprintable() and name not in (".", "..") else ""
