"""Building an index in parts: stopped, damaged, extended; and what of it fits a GPU."""

import logging
import shutil
from typing import Any

import numpy as np
import pytest

from patchcollide.config_files import load_config
from patchcollide.errors import IndexMismatchError
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.store import faiss_library, index_builder
from patchcollide.store.faiss_library import fits_gpu, import_faiss, on_cpu, on_gpu
from patchcollide.store.index_builder import build_index, index_factory
from patchcollide.store.index_files import ABOUT_FILE, BASIS_FILE, INDEX_FILE
from patchcollide.store.integrity import inspect
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.conftest import SMALL

NOTHING = np.empty(0, np.int64)
FILES = (INDEX_FILE, BASIS_FILE, ABOUT_FILE)


@pytest.fixture
def config():
    return load_config(overrides=[*SMALL, "store.images_per_shard=2", "index.kind=flat"])


@pytest.fixture
def store(config, write_images, tmp_path):
    """Six images in three shards."""
    return write_store(config, write_images(), tmp_path / "store")


def contents(store):
    return {name: (store.path / name).read_bytes() for name in FILES}


def stop_after(count, monkeypatch):
    """Stops the work when the given number of parts is written."""
    original = index_builder._fill_part
    calls: list[Any] = []

    def fill(*arguments, **options):
        if len(calls) == count:
            raise KeyboardInterrupt
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(index_builder, "_fill_part", fill)
    return calls


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_stopped_build_goes_on_where_it_was(count, store, config, monkeypatch):
    build_index(store, config.index, 0)
    expected = contents(store)
    for name in FILES:
        (store.path / name).unlink()
    with monkeypatch.context() as patched:
        stop_after(count, patched)
        with pytest.raises(KeyboardInterrupt):
            build_index(store, config.index, 0)
    calls = stop_after(10, monkeypatch)
    build_index(store, config.index, 0)
    assert len(calls) == 3 - count
    assert contents(store) == expected
    assert not (store.path / "index.partial").exists()


def test_a_damaged_part_is_made_again(store, config, monkeypatch):
    build_index(store, config.index, 0)
    expected = contents(store)
    for name in FILES:
        (store.path / name).unlink()
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            build_index(store, config.index, 0)
    part = next((store.path / "index.partial").glob("part-00001*"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 4
    part.write_bytes(content)
    build_index(store, config.index, 0)
    assert contents(store) == expected


def stopped_after(count, store, config, monkeypatch):
    """Builds until so many parts are made; returns the folder of the work."""
    with monkeypatch.context() as patched:
        stop_after(count, patched)
        with pytest.raises(KeyboardInterrupt):
            build_index(store, config.index, 0)
    return store.path / "index.partial"


@pytest.mark.parametrize("pattern", ["basis.*.h5", "begun.*.faiss", "part-00001.*", "build.json"])
@pytest.mark.parametrize("extends", [False, True])
def test_whatever_is_damaged_of_unfinished_work_is_made_again(
    store, config, write_images, pattern, extends, monkeypatch, caplog, rng
):
    if extends:
        build_index(store, config.index, 0)
        store = write_store(config, write_images(num=15), store.path, extend=True)
    work = stopped_after(2, store, config, monkeypatch)
    copy = shutil.copytree(store.path, store.path.with_name("undisturbed"))
    build_index(PatchStore.open(copy), config.index, 0)
    damaged = sorted(work.glob(pattern.replace("00001", "*")))[-1]
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    content = bytearray(damaged.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    damaged.write_bytes(content)
    with caplog.at_level(logging.INFO):
        build_index(store, config.index, 0)
    assert contents(store) == contents(PatchStore.open(copy))
    told = "beginning anew" if pattern == "build.json" else f"{damaged} is damaged: making it"
    # The handler may stand at two loggers: a record is told once all the same.
    assert sum(told in record.getMessage() for record in set(caplog.records)) == 1


def test_what_does_not_go_with_a_basis_made_again_is_not_kept(store, config, monkeypatch):
    """Another machine gives the last bits otherwise: parts of both are never merged."""
    work = stopped_after(2, store, config, monkeypatch)
    (basis,) = work.glob("basis.*.h5")
    basis.write_bytes(basis.read_bytes() + b"more")
    basis.rename(basis.with_name(f"basis.{'0' * 64}.h5"))
    calls = stop_after(10, monkeypatch)
    build_index(store, config.index, 0)
    assert len(calls) == 3


def test_work_that_is_left_of_a_complete_index_is_told_and_removed(
    store, config, monkeypatch, caplog
):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(index_builder, "remove_work", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(store, config.index, 0)
    work = store.path / "index.partial"
    assert (store.path / "index.json").exists()
    assert work.exists()
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    assert not inspect(store.path).damages
    assert f"{work} is what was done of an index before it was stopped" in caplog.text
    with caplog.at_level(logging.INFO):
        build_index(store, config.index, 0)
    assert not work.exists()
    assert "Removed what was left of the work" in caplog.text


def test_unfinished_work_of_other_settings_is_not_taken_up(store, config, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            build_index(store, config.index, 0)
    other = load_config(overrides=[*SMALL, "index.kind=flat", "index.components=5"])
    build_index(store, other.index, 0)
    assert open_index(store, other.index).basis.num_components == 5


@pytest.mark.parametrize("kind", ["flat", "ivf-flat"])
@pytest.mark.parametrize("stopped", [False, True])
def test_an_index_grows_with_its_store(
    kind, stopped, config, store, write_images, tmp_path, monkeypatch, rng
):
    settings = load_config(overrides=[*SMALL, f"index.kind={kind}"]).index
    build_index(store, settings, 0)
    basis = (store.path / BASIS_FILE).read_bytes()
    folder = write_images(num=9)
    extended = write_store(config, folder, store.path, extend=True)
    assert extended.num_images == 9
    with pytest.raises(IndexMismatchError, match="if the store was extended"):
        open_index(extended, settings)
    if stopped:
        with monkeypatch.context() as patched:
            stop_after(1, patched)
            with pytest.raises(KeyboardInterrupt):
                build_index(extended, settings, 0)
    build_index(extended, settings, 0)
    assert (store.path / BASIS_FILE).read_bytes() == basis
    queries = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    found = open_index(extended, settings).search(queries, 4, NOTHING)
    expected = ExhaustiveSearcher(extended).search(queries, 4, NOTHING)
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_a_build_killed_before_it_was_complete_does_not_add_twice(
    config, store, write_images, monkeypatch
):
    """The extended index is in place, the file that makes it complete is not."""
    build_index(store, config.index, 0)
    extended = write_store(config, write_images(num=9), store.path, extend=True)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(index_builder, "write_about", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(extended, config.index, 0)
    build_index(extended, config.index, 0)
    index = open_index(extended, config.index).index
    assert index.ntotal == 9 * extended.grid.num_positions


def test_an_index_opens_without_the_settings_of_its_building_machine(store, config, tmp_path):
    build_index(store, config.index, 0)
    moved = tmp_path / "moved"
    shutil.copytree(store.path, moved)
    shutil.rmtree(store.path)
    found = open_index(PatchStore.open(moved), config.index)
    assert found.index.ntotal == 6 * store.grid.num_positions


@pytest.mark.parametrize(
    ("factory", "fits"),
    [
        ("IVF16384,PQ32", True),
        ("IVF16384,PQ96", True),
        ("IVF16384,PQ128", False),
        ("IVF16384_HNSW32,PQ32", False),
        ("IVF100,Flat", True),
        ("IDMap,Flat", False),
    ],
)
def test_what_fits_a_gpu(factory, fits):
    assert fits_gpu(factory) is fits


def test_on_a_gpu_lists_need_no_graph():
    assert index_factory(load_config().index, 37_011_074, gpu=True) == "IVF16384,PQ32"


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("factory", ["IVF1,Flat", "IDMap,Flat"])
def test_an_index_goes_to_the_gpu_when_there_is_one_that_it_fits(count, factory, monkeypatch):
    class Faiss:
        """Stands in for a FAISS with GPUs, of which there are none to test with."""

        get_num_gpus = staticmethod(lambda: count)
        StandardGpuResources = staticmethod(lambda: "resources")

        @staticmethod
        def index_cpu_to_gpu(resources, number, index):
            return (resources, number, index)

    monkeypatch.setattr(faiss_library, "import_faiss", lambda: Faiss)
    moved = on_gpu("index", factory)
    assert moved == (("resources", 0, "index") if count and factory.startswith("IVF") else "index")
    assert on_cpu("index") == "index"


def test_a_gpu_search_that_loses_too_many_to_exclusion_is_done_again(
    store, config, rng, monkeypatch
):
    settings = load_config(overrides=[*SMALL, "index.kind=flat", "index.rerank=10"]).index
    build_index(store, settings, 0)
    searcher = open_index(store, settings)

    class OnGpu:
        """Searches like a GPU does: as many as asked for, excluded ones among them."""

        nprobe = 0

        def search(self, descriptors, count):
            return searcher.index.search(descriptors, count)

    with_gpu = type(searcher)(
        store, searcher.basis, searcher.index, OnGpu(), searcher.rerank, searcher.probes
    )
    queries = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for excluded in (NOTHING, np.array([2]), np.array([0, 1, 2, 4, 5])):
        found = with_gpu.search(queries, 5, excluded)
        expected = searcher.search(queries, 5, excluded)
        np.testing.assert_array_equal(found.ids, expected.ids)
        assert not np.isin(found.ids // store.grid.num_positions, excluded).any()


def test_a_graph_over_the_lists_finds_what_the_lists_hold(monkeypatch, store, rng):
    monkeypatch.setattr(index_builder, "_MOST_LISTS_WITHOUT_GRAPH", 1)
    settings = load_config(overrides=[*SMALL, "index.kind=ivf-flat"]).index
    build_index(store, settings, 0)
    searcher = open_index(store, settings)
    faiss = import_faiss()
    assert isinstance(faiss.downcast_index(searcher.index.quantizer), faiss.IndexHNSW)
    queries = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    expected = ExhaustiveSearcher(store).search(queries, 4, NOTHING)
    np.testing.assert_array_equal(searcher.search(queries, 4, NOTHING).ids, expected.ids)
