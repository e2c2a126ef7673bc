"""Merged indexes: the bytes that FAISS writes of the same index made at once."""

import functools
import itertools

import numpy as np
import pytest

from patchcollide.errors import IndexMismatchError
from patchcollide.store import index_merging
from patchcollide.store.faiss_library import import_faiss, read_index, write_index
from patchcollide.store.index_merging import write_merged

pytestmark = pytest.mark.usefixtures("faiss")

FACTORIES = ["IVF8,PQ4x4", "IVF8,Flat", "IVF8_HNSW4,PQ4x4", "IDMap,Flat"]


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(vectors):
    """Trains each kind of index once, which takes seconds where threads wait for one another."""

    @functools.cache
    def train(factory):
        index = import_faiss().index_factory(8, factory)
        index.train(vectors)
        return index

    return train


def write_parts(index, vectors, bounds, folder):
    """Writes an index for each range of vectors; returns the files, and the index of all."""
    faiss = import_faiss()
    files, whole = [], faiss.clone_index(index)
    for number, (first, last) in enumerate(itertools.pairwise(bounds)):
        part, ids = faiss.clone_index(index), np.arange(first, last)
        for one in (part, whole):
            one.add_with_ids(vectors[first:last], ids)
        files.append(folder / f"{number}.faiss")
        write_index(part, files[-1])
    return files, whole


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("begun_holds", [0, 7])
@pytest.mark.parametrize("known", [True, False])
def test_merged_parts_are_the_index_of_all_whatever_they_hold(
    factory, begun_holds, known, trained, vectors, tmp_path, monkeypatch
):
    if not known:
        monkeypatch.setattr(index_merging, "_lists_of", lambda *_: None)
    bounds = [0, begun_holds, begun_holds, 8, 100, 400]
    files, whole = write_parts(trained(factory), vectors, bounds, tmp_path)
    write_index(whole, tmp_path / "expected.faiss")
    merged = tmp_path / "merged.faiss"
    assert write_merged(files[0], files[1:], merged, "Build it again.") == 400
    assert merged.read_bytes() == (tmp_path / "expected.faiss").read_bytes()


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("bounds", [[0, 0], [0, 0, 0], [0, 1], [0, 0, 2]])
def test_an_index_of_hardly_anything_finds_it(factory, bounds, trained, vectors, tmp_path):
    """Most of its lists are empty, of which FAISS writes nothing at all."""
    files, whole = write_parts(trained(factory), vectors, bounds, tmp_path)
    merged = tmp_path / "merged.faiss"
    assert write_merged(files[0], files[1:], merged, "Build it again.") == bounds[-1]
    for mapped in (True, False):
        index = read_index(merged, "Build it again.", mapped=mapped)
        assert index.ntotal == bounds[-1]
        for one in (index, whole):
            if hasattr(one, "nprobe"):
                one.nprobe = 8
        found, expected = (one.search(vectors[:5], 3) for one in (index, whole))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_part_is_named_and_nothing_is_written(damaged, trained, vectors, tmp_path):
    files, _ = write_parts(trained("IVF8,PQ4x4"), vectors, [0, 0, 400], tmp_path)
    files[damaged].write_bytes(files[damaged].read_bytes()[:200])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(IndexMismatchError, match=rf"{damaged}\.faiss.*Build it again"):
        write_merged(files[0], files[1:], tmp_path / "merged.faiss", "Build it again.")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("count", [3, 400])
@pytest.mark.parametrize("change", ["cut", "longer", "size", "order", "kind"])
def test_lists_that_are_not_what_their_sizes_say_are_left_to_faiss(
    count, change, trained, vectors, tmp_path
):
    """Few lists that hold anything are written with their numbers, many without."""
    files, _ = write_parts(trained("IVF8,PQ4x4"), vectors, [0, 0, count], tmp_path)
    assert index_merging._lists_of(files[0], files[1:], "Build it again.")
    data = bytearray(files[1].read_bytes())
    head = data.rindex(b"ilar")
    sizes = head + 32
    if change == "cut":
        del data[-1]
    elif change == "longer":
        data += bytes(12)
    elif change == "size":
        data[sizes + 15] = 0xFF
    elif change == "order":
        data[sizes] ^= 0x0F
    else:
        data[head + 8] ^= 0x01
    files[1].write_bytes(data)
    assert index_merging._lists_of(files[0], files[1:], "Build it again.") is None


def test_lists_of_a_merged_index_are_never_in_memory_together(
    trained, vectors, tmp_path, monkeypatch
):
    """What FAISS reads whole is the index that was begun, without its lists."""
    files, _ = write_parts(trained("IVF8,Flat"), vectors, [0, 0, 200, 400], tmp_path)
    read = []

    def watched(path, remedy, *, mapped=False, searched=True):
        read.append(mapped)
        return read_index(path, remedy, mapped=mapped, searched=searched)

    monkeypatch.setattr(index_merging, "read_index", watched)
    write_merged(files[0], files[1:], tmp_path / "merged.faiss", "Build it again.")
    assert read == [True]
