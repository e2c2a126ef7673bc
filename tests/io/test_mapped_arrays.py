"""However many arrays there are, few files are open; each is the array of its file."""

import errno
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from patchcollide.errors import StoreError
from patchcollide.io import mapped_arrays
from patchcollide.io.mapped_arrays import MappedArray


def num_open():
    return psutil.Process().num_fds()


@pytest.fixture
def arrays(tmp_path):
    """Twenty arrays of seven numbers behind a header, each of its own number."""
    made = []
    for number in range(20):
        path = tmp_path / str(number)
        path.write_bytes(b"head" + np.full(7, number, np.uint8).tobytes())
        made.append(MappedArray(path, np.uint8, 4, (7,), StoreError))
    return made


def test_few_files_are_open_and_the_latest_used_stay(arrays, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "most_open_files", lambda: 20)  # a quarter: five maps
    before = num_open()
    for number in [*range(20), *np.random.default_rng(0).integers(0, 20, 200).tolist()]:
        assert (arrays[number].array() == number).all()
        assert num_open() <= before + 5
    latest = [arrays[number].array() for number in range(5)]
    arrays[0].array()
    arrays[5].array()
    assert arrays[0].array() is latest[0]
    assert arrays[1].array() is not latest[1]


def test_an_array_in_use_outlives_its_map(arrays, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "most_open_files", lambda: 0)
    kept = [array.array() for array in arrays]
    assert [int(array[6]) for array in kept] == list(range(20))


def test_files_are_closed_when_nobody_uses_their_arrays(arrays):
    gc.collect()
    before = num_open()
    for array in arrays:
        array.array()
    assert num_open() == before + 20
    del array
    arrays.clear()
    gc.collect()
    assert num_open() == before


def test_where_others_opened_too_many_files_maps_give_way(arrays, monkeypatch):
    for array in arrays[:10]:
        array.array()
    original = np.memmap
    refused: list[int] = []

    def refuse_once(*arguments):
        if not refused:
            refused.append(num_open())
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        assert num_open() <= refused[0] - 10
        return original(*arguments)

    monkeypatch.setattr(np, "memmap", refuse_once)
    assert (arrays[10].array() == 10).all()
    assert refused


def test_threads_see_the_right_arrays(arrays, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "most_open_files", lambda: 20)
    numbers = np.random.default_rng(1).integers(0, 20, 2000).tolist()
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda number: int(arrays[number].array().max()), numbers))
    assert seen == numbers


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_became_another_one_is_not_mapped_again(arrays, replace, tmp_path):
    arrays[3].array()
    arrays[3].give_up()
    path = tmp_path / "3"
    content = path.read_bytes()
    if replace:
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(path)
    else:
        path.write_bytes(content + b"!")
    with pytest.raises(StoreError, match="3 is not the file that it was when this began"):
        arrays[3].array()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells how maps are read")
def test_what_lies_beside_is_not_read_too(arrays, tmp_path):
    kept = arrays[3].array()
    maps = Path("/proc/self/smaps").read_text().split("\n")
    (place,) = [n for n, line in enumerate(maps) if line.endswith(str(tmp_path / "3"))]
    flags = next(line for line in maps[place:] if line.startswith("VmFlags:"))
    assert "rr" in flags.split()
    assert int(kept[0]) == 3
