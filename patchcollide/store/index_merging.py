"""Many indexes become one file, list by list: no more than a list is in memory at once.

FAISS merges in memory, or into a second file whose path it writes into the first. Here one file
comes to be, with the bytes that FAISS writes of the same index.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from patchcollide.io.files import written_beside
from patchcollide.progress import track
from patchcollide.store.faiss_library import import_faiss, read_index, write_index

_HEAD = struct.Struct("<4sQQ4sQ")
"""What FAISS writes before lists: that they are some, how many, the bytes of a code, whether all
sizes follow or those of lists that hold anything, and how many numbers these take."""
_SIZE = np.dtype("<u8")
_ID_BYTES = 8


def write_merged(begun: Path, parts: Sequence[Path], path: Path, remedy: str) -> int:
    """Writes an index that holds what its parts do; none of them may name what another does.

    Args:
        begun: The file of a trained index, empty or the one that is extended.
        parts: Files of others, trained alike.
        path: Where to write it, whole or not at all.
        remedy: What to do if one cannot be read.

    Returns:
        How many vectors it holds.

    Raises:
        IndexMismatchError: If one is missing or damaged.
        DiskFullError: If the disk is full.
    """
    lists = _lists_of(begun, parts, remedy)
    if lists is None:
        index = read_index(begun, remedy, searched=False)
        for part in track(parts, "Merging", len(parts)):
            index.merge_from(read_index(part, remedy, searched=False), 0)
        write_index(index, path)
        return int(index.ntotal)
    with written_beside(path) as partial, partial.open("wb") as file:
        lists.write(file)
    return lists.num_vectors


class _Lists:
    """The lists of an index that lie in files, those of a number one after the other.

    Args:
        index: The index, trained; its lists are replaced by empty ones.
        files: Whose lists it is to have, each behind what FAISS writes of the index itself.

    Raises:
        ValueError: If FAISS writes lists in another way, or a file is not as expected.
    """

    def __init__(self, index: Any, files: Sequence[Path]) -> None:
        self._index = index
        start = len(self._head(0))
        self._sizes = np.zeros(index.nlist, _SIZE)
        self._files = [_File(path, start, index.code_size, self._sizes) for path in files]
        self.num_vectors = int(self._sizes.sum())

    def write(self, file: BinaryIO) -> None:
        """Writes the index with them, once."""
        count = len(self._sizes)
        file.write(self._head(self.num_vectors))
        file.write(_HEAD.pack(b"ilar", count, self._index.code_size, b"full", count))
        file.write(self._sizes.data)
        for number in track(range(count), "Merging", count):
            entries = [one.take(number) for one in self._files]
            file.writelines(codes for codes, _ in entries)
            file.writelines(ids for _, ids in entries)

    def _head(self, num_vectors: int) -> bytes:
        """Returns how the file of the index begins with so many vectors, up to its lists."""
        faiss, index = import_faiss(), self._index
        empty = faiss.ArrayInvertedLists(index.nlist, index.code_size)
        index.replace_invlists(empty, True)
        empty.this.disown()
        index.ntotal = num_vectors
        written: bytes = faiss.serialize_index(index).tobytes()
        lists = _HEAD.pack(b"ilar", index.nlist, index.code_size, b"sprs", 0)
        if not written.endswith(lists):
            raise ValueError("This FAISS writes inverted lists in another way.")
        return written.removesuffix(lists)


class _File:
    """The lists of a file, which are taken in their order; they and their sizes stay in it.

    Args:
        path: The file.
        start: Bytes before its lists.
        code_size: Bytes of a code.
        totals: The sizes are added to these.

    Raises:
        ValueError: If it holds anything else.
    """

    def __init__(self, path: Path, start: int, code_size: int, totals: np.ndarray) -> None:
        data = np.memmap(path, np.uint8, "r")
        sizes = start + _HEAD.size
        if len(data) < sizes:
            raise ValueError(f"{path} is too short.")
        *kind, filled, count = _HEAD.unpack(data[start:sizes].tobytes())
        layout = (filled, count) == (b"full", len(totals)) or (filled, count % 2) == (b"sprs", 0)
        if kind != [b"ilar", len(totals), code_size] or not layout:
            raise ValueError(f"{path} holds something else.")
        entries = sizes + _SIZE.itemsize * count
        numbers = data[sizes:entries].view(_SIZE)
        self._numbers = None if filled == b"full" else numbers[::2]
        self._sizes = numbers if filled == b"full" else numbers[1::2]
        self._data = data[entries:].data
        self._code_size, self._next, self._place = code_size, 0, 0
        if not self._is_whole(len(totals)):
            raise ValueError(f"{path} is damaged.")
        totals[slice(None) if self._numbers is None else self._numbers] += self._sizes

    def _is_whole(self, lists: int) -> bool:
        entry, numbers = self._code_size + _ID_BYTES, self._numbers
        # Before they are added up, which could come to the right sum by going round.
        if int(self._sizes.max(initial=0)) > len(self._data):
            return False
        if entry * int(self._sizes.sum()) != len(self._data):
            return False
        if numbers is None or not len(numbers):
            return True
        return int(numbers[-1]) < lists and bool((numbers[1:] > numbers[:-1]).all())

    def take(self, number: int) -> tuple[memoryview, memoryview]:
        """Returns the codes and the identifiers of a list; numbers may only rise."""
        if self._numbers is None:
            size = int(self._sizes[number])
        elif self._next < len(self._numbers) and self._numbers[self._next] == number:
            size = int(self._sizes[self._next])
            self._next += 1
        else:
            size = 0
        begin, middle = self._place, self._place + size * self._code_size
        self._place = middle + size * _ID_BYTES
        return self._data[begin:middle], self._data[middle : self._place]


def _lists_of(begun: Path, parts: Sequence[Path], remedy: str) -> _Lists | None:
    """Returns the lists of an index in files; None if it has none, or they are written otherwise.

    Raises:
        IndexMismatchError: If the file that was begun is missing or damaged.
    """
    index = read_index(begun, remedy, mapped=True, searched=False)
    if not isinstance(index, import_faiss().IndexIVF):
        return None
    try:
        return _Lists(index, [begun, *parts])
    except (ValueError, OSError):
        # FAISS reads what it can, and says of the rest what is wrong.
        return None
