"""The pictures of a folder of classes, as archives and tables that people have them in."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

KINDS = ("tar of tars", "tar", "webdataset", "parquet")


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, in an order that is not that of names."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return found[1::2] + found[::2]


def add(archive: tarfile.TarFile, name: str, content: bytes, **about: object) -> None:
    """Adds a member, of any kind, with any name."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in about.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))


def tar_bytes(members: Sequence[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            add(archive, name, content)
    return buffer.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def class_tars(folder: Path) -> list[tuple[str, bytes]]:
    """An archive for each class."""
    labels = sorted(path.name for path in folder.iterdir())
    inside: dict[str, list[tuple[str, bytes]]] = {label: [] for label in labels}
    for path in pictures(folder):
        inside[path.parent.name].append((path.name, path.read_bytes()))
    return [(f"{label}.tar", tar_bytes(inside[label])) for label in reversed(labels)]


def samples(folder: Path) -> Iterator[list[tuple[str, bytes]]]:
    """WebDataset's samples: a picture and its class, in one of the two ways."""
    for number, path in enumerate(pictures(folder)):
        key, label = path.stem, path.parent.name
        named = json.dumps({"label": label, "width": 4}).encode()
        beside = (f"{key}.json", named) if number % 2 else (f"{key}.cls", label.encode() + b"\n")
        yield [(path.name, path.read_bytes()), beside]


def write_shards(folder: Path, out: Path, size: int = 3) -> Path:
    made = list(samples(folder))
    for number, start in enumerate(range(0, len(made), size)):
        members = [member for sample in made[start : start + size] for member in sample]
        write_tar(out / f"photos-{number:06d}.tar", members)
    return out


def write_parquet(folder: Path, path: Path, *, named: bool = True, group: int = 2) -> Path:
    """Writes a file as Hugging Face's library does, with the names of classes in its schema."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    labels = sorted(each.name for each in folder.iterdir())
    rows = pictures(folder)
    images = [{"bytes": row.read_bytes(), "path": row.name} for row in rows]
    numbers = [labels.index(row.parent.name) for row in rows]
    about = {"info": {"features": {"label": {"names": labels, "_type": "ClassLabel"}}}}
    table = pa.table(
        {
            "image": pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "label": numbers if named else [labels[number] for number in numbers],
        }
    )
    if named:
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def write_as(kind: str, folder: Path, out: Path) -> Path:
    """Writes a folder of classes as one of ``KINDS`` into a folder; returns what to index."""
    if kind == "tar of tars":
        return write_tar(out / "train.tar", class_tars(folder))
    if kind == "tar":
        members = [
            (f"./{folder.name}/{path.relative_to(folder)}", path) for path in pictures(folder)
        ]
        return write_tar(out / "photos.tar", [(name, path.read_bytes()) for name, path in members])
    if kind == "webdataset":
        return write_shards(folder, out)
    return write_parquet(folder, out / "photos.parquet")
