"""Block sums beside the shards: kept, checked, made again, and never believed when damaged."""

import logging
import os
import shutil
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.geometry import PatchGrid
from patchcollide.io.locks import locked
from patchcollide.retrieval.engines import open_searcher
from patchcollide.store import patch_sums, sums_files, sums_making
from patchcollide.store.manifest import SUMS_FILES
from patchcollide.store.patch_sums import PatchSums
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.sums_files import open_sums
from patchcollide.store.sums_making import make_sums
from tests.conftest import SMALL
from tests.helpers.blocks import blocks_of
from tests.helpers.indexed_stores import CONFIG, SETTINGS, damages, flip, make_images
from tests.helpers.killing import contents
from tests.retrieval.test_search import search_in_a_loop

Usage = namedtuple("Usage", "total used free")
CERTIFIED = load_config(overrides=[*SETTINGS, "retrieval.engine=certified"])


def certified(folder):
    store = PatchStore.open(folder)
    queries = store.patches(np.array([0, 60, 333]))
    found = open_searcher(CERTIFIED, store).search(queries, 4, np.array([0]))
    return store, queries, found


def assert_right(folder):
    store, queries, found = certified(folder)
    distances, ids = search_in_a_loop(store, queries, 4, exclude={0})
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.squared_distances, distances)


def without_sums(folder):
    for path in folder.glob(SUMS_FILES):
        path.unlink()


def test_an_index_keeps_the_sums_of_all_images(store):
    opened = PatchStore.open(store)
    for shard in opened.shards:
        file = open_sums(opened.grid, shard.origin)
        found = file.read(0, 99) if file else None
        expected = blocks_of(opened.grid).summed(np.asarray(shard.images))
        assert found is not None
        np.testing.assert_array_equal(found.sums, expected.sums)
        np.testing.assert_array_equal(found.norms, expected.norms)


def test_a_pass_reads_pixels_only_of_images_that_may_be_near(store, monkeypatch):
    read = []
    original = Shard.read
    monkeypatch.setattr(Shard, "read", lambda *a: read.append(a[1:]) or original(*a))
    _, _, found = certified(store)
    assert found.proven.all()
    assert all(stop - start == 1 for start, stop in read)


def test_single_sums_are_those_of_the_patches(store):
    opened = PatchStore.open(store)
    blocks, ids = blocks_of(opened.grid), np.array([5, 400, 1, 17, 538, 5])
    patches = opened.patches(ids)
    expected = blocks.rows_of_patches(patches)
    norms = ((patches.astype(np.int64) - 128) ** 2).sum(axis=(1, 2, 3))
    for _ in range(2):
        rows, found = PatchSums(opened).gather(ids)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(found, norms)
        # Of shards without sums they are taken from the pixels.
        (store / "sums-00002.dat").unlink(missing_ok=True)


@pytest.mark.parametrize("what", ["cut", "gone", "made again", "written to"])
def test_single_sums_stay_right_while_their_files_change(store, what, monkeypatch):
    opened = PatchStore.open(store)
    ids, path = np.arange(0, opened.num_patches, 7), store / "sums-00001.dat"
    sums, asked = PatchSums(opened), []
    monkeypatch.setattr(
        patch_sums, "open_sums", lambda *given: asked.append(given) or open_sums(*given)
    )
    before = sums.gather(ids)
    if what == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif what == "gone":
        path.unlink()
    elif what == "made again":
        beside = path.with_suffix(".new")
        beside.write_bytes(path.read_bytes())
        beside.replace(path)
    else:
        os.utime(path, (1, 1))
    for _ in range(2):
        after = sums.gather(ids)
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])
    assert len(asked) == len(opened.shards)


@pytest.mark.parametrize("place", ["header", "sums", "norms", "checksums", "cut", "gone"])
def test_damaged_sums_give_no_wrong_answer_and_are_told_and_repaired(store, place, caplog):
    before = contents(store)
    path = store / "sums-00001.dat"
    size, kept = path.stat().st_size, 4096
    places = {"header": 30, "sums": kept + 777, "norms": size - 700, "checksums": size - 100}
    if place in places:
        flip(path, places[place], bit=6)
    elif place == "cut":
        path.write_bytes(path.read_bytes()[: size // 2])
    else:
        path.unlink()
    sums_files._tell_damage.cache_clear()
    with locked(store):  # so that nothing is made again now
        assert_right(store)
    if place in ("sums", "norms", "checksums"):
        assert caplog.text.count("sums-00001.dat is damaged: what it should hold is comp") == 1
    assert damages(store).keys() == {"sums-00001.dat"}
    pipeline.repair(store)
    assert contents(store) == before
    assert damages(store) == {}


def test_sums_of_another_shard_are_not_taken(store):
    shutil.copy(store / "sums-00000.dat", store / "sums-00001.dat")
    opened = PatchStore.open(store)
    assert open_sums(opened.grid, opened.shards[1].origin) is None
    assert damages(store) == {"sums-00001.dat": "is undamaged, but of another shard"}
    assert_right(store)


def test_a_store_of_before_gets_its_sums_when_they_are_needed(store):
    before = contents(store)
    without_sums(store)
    assert damages(store) == {}
    assert_right(store)
    assert contents(store) == before


def test_a_store_in_use_is_searched_without_sums(store, caplog):
    without_sums(store)
    with caplog.at_level(logging.INFO, "patchcollide"), locked(store):
        assert_right(store)
    assert "is in use by" in caplog.text
    assert "Going on without block sums" in caplog.text
    assert not list(store.glob(SUMS_FILES))


def test_a_store_that_cannot_be_written_to_is_searched_without_sums(store, monkeypatch):
    without_sums(store)

    def refuse(_shard, blocks):
        del blocks
        raise PermissionError(13, "Permission denied", "sums-00000.dat")

    monkeypatch.setattr(sums_making, "_write", refuse)
    assert_right(store)
    assert not list(store.glob(SUMS_FILES))


def test_without_room_for_sums_everything_goes_on_without(images, tmp_path, monkeypatch, caplog):
    usage = Usage(10**9, 0, 6 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr("patchcollide.retrieval.planning.budgets.require_disk", lambda *_: None)
    store = PatchStore.open(pipeline.index(CONFIG, images, tmp_path / "store"))
    without_sums(store.path)
    make_sums(store, spare_bytes=2 << 20)
    assert (
        "store needs 0.00 GB for block sums, beside 0.00 GB for the index, but its disk has "
        "0.01 GB free. Searches go on without block sums, and take longer." in caplog.text
    )
    assert not list(store.path.glob(SUMS_FILES))
    assert damages(store.path) == {}


def test_a_grid_without_blocks_has_no_sums_and_its_answers_are_right(images, tmp_path):
    settings = [*SETTINGS, "patches.stride_px=1", "retrieval.query_stride_px=1"]
    config = load_config(overrides=[*settings, "images.size_px=11", "retrieval.engine=certified"])
    store = PatchStore.open(pipeline.index(config, images, tmp_path / "store"))
    assert store.grid == PatchGrid(11, 8, 1, 8)
    assert not list(store.path.glob(SUMS_FILES))
    queries = store.patches(np.array([0, 9, 40]))
    found = open_searcher(config, store).search(queries, 3, np.array([2]))
    distances, ids = search_in_a_loop(store, queries, 3, exclude={2})
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.squared_distances, distances)


def test_an_extension_sums_what_is_new_alone(tmp_path):
    images = make_images(tmp_path / "images", 5)
    out = pipeline.index(CONFIG, images, tmp_path / "store")
    states = {path.name: path.stat().st_mtime_ns for path in out.glob(SUMS_FILES)}
    make_images(tmp_path / "more", 8, seed=3)
    for number in (6, 7):
        name = f"class-{number % 2}/{number:02d}.png"
        shutil.copy(tmp_path / "more" / name, images / name)
    pipeline.index(CONFIG, images, out, extend=True)
    now = {path.name: path.stat().st_mtime_ns for path in out.glob(SUMS_FILES)}
    assert now.items() > states.items()
    assert len(now) == len(states) + 1
    assert damages(out) == {}


def test_an_index_of_before_is_bounded_by_components_of_its_own_blocks(images, tmp_path):
    # More components than a patch has sums: filters of single pixels, as all were before.
    settings = [*SMALL, "index.components=60", "index.kind=flat"]
    config = load_config(overrides=[*settings, "retrieval.engine=certified"])
    store = PatchStore.open(pipeline.index(config, images, tmp_path / "store"))
    searcher: Any = open_searcher(config, store)
    assert searcher.guide.basis.blocks is None
    assert searcher.basis.blocks == blocks_of(store.grid)
