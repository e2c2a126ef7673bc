"""Repairs make shards again from their images, and remove what killed processes left."""

import json
import logging
import os
import shutil

import pytest

from patchcollide import pipeline
from patchcollide.errors import StoreError
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.provenance import self_digest
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.helpers.indexed_stores import CONFIG, damages, entry_of, flip, make_images
from tests.helpers.killing import contents

# What killed processes left


def test_what_a_killed_repair_left_is_removed(store):
    before = contents(store)
    (store / "repair.partial").mkdir()
    (store / "repair.partial" / "shard-00000.h5").write_bytes(b"half")
    pipeline.repair(store)
    assert contents(store) == before


def test_shards_of_a_stopped_extension_are_told_but_no_damage(store, caplog, monkeypatch):
    shutil.copy(store / "shard-00003.h5", store / "shard-00004.h5")
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    assert damages(store) == {}
    assert "holds 1 shards that are no part of it, such as shard-00004.h5" in caplog.text


def test_what_killed_processes_left_is_told_and_removed(store, original, caplog, monkeypatch):
    before = contents(store)
    left = ["manifest.backup.json.partial", "shard-00007.h5.partial", "index.faiss.partial"]
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    for remove in (pipeline.repair, lambda path: pipeline.index(CONFIG, original / "images", path)):
        for name in left:
            (store / name).write_bytes(b"half")
        (store / "index.partial").mkdir()
        (store / "mine.partial").write_bytes(b"mine")
        caplog.clear()
        assert damages(store) == {}
        assert f"holds 3 half written files, such as {left[2]}" in caplog.text
        assert "index.partial is what was done of an index" in caplog.text
        remove(store)
        assert contents(store) == {**before, "mine.partial": b"mine"}
        assert not (store / "index.partial").exists()


# The images that shards are made again from


@pytest.fixture
def own_store(tmp_path):
    """A store without an index, whose images may be changed."""
    images = make_images(tmp_path / "images", 6)
    return write_store(CONFIG, images, tmp_path / "store").path


def test_images_that_moved_are_found_where_they_are_said_to_be(own_store, tmp_path):
    before = damaged = contents(own_store)
    shutil.copytree(tmp_path / "images", tmp_path / "moved", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "images")
    fingerprint = PatchStore.open(own_store).fingerprint
    flip(own_store / "shard-00001.h5", 5000)
    damaged = contents(own_store)
    with pytest.raises(
        StoreError, match=r"images does not exist.* give their folder with --images"
    ):
        pipeline.repair(own_store)
    assert contents(own_store) == damaged
    pipeline.repair(own_store, tmp_path / "moved")
    # Times of files are in a shard: it is another file with the same images.
    assert contents(own_store)["shard-00001.h5"] != before["shard-00001.h5"]
    assert PatchStore.open(own_store).fingerprint == fingerprint
    assert damages(own_store) == {}


def repaint(path):
    write_png(path, 255 - read_png(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (os.unlink, r"needs 3 images, but 1 of them are not in .*images, such as class-1/03\.png"),
        (repaint, r"cannot be made again from .*images: its images there give other pixels"),
    ],
)
def test_a_shard_whose_images_changed_is_left_as_it_is(own_store, tmp_path, change, message):
    change(tmp_path / "images" / "class-1" / "03.png")
    number = next(n for n in (0, 1) if "class-1/03.png" in entry_of(own_store, n)["names"])
    whole = contents(own_store)
    for name in ("shard-00000.h5", "shard-00001.h5"):
        flip(own_store / name, 5000)
    damaged = contents(own_store)
    with pytest.raises(StoreError, match=message):
        pipeline.repair(own_store)
    refused = f"shard-{number:05d}.h5"
    assert contents(own_store) == {**whole, refused: damaged[refused]}


def test_the_space_for_a_repair_is_asked_for_first(own_store, monkeypatch):
    (own_store / "shard-00000.h5").unlink()
    usage = shutil.disk_usage(own_store)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match=r"0\.00 GB free"):
        pipeline.repair(own_store)


def test_a_repair_says_when_a_library_is_another_now(own_store, tmp_path):
    repaint(tmp_path / "images" / "class-1" / "03.png")
    for name in ("manifest.json", "manifest.backup.json"):
        manifest = json.loads((own_store / name).read_text())
        manifest["versions"]["pillow"] = "1.0"
        manifest["digest"] = self_digest(manifest)
        (own_store / name).write_text(json.dumps(manifest, indent=2) + "\n")
    for name in ("shard-00000.h5", "shard-00001.h5"):
        flip(own_store / name, 5000)
    with pytest.raises(StoreError, match=r'versions\.pillow: found "1\.0", expected'):
        pipeline.repair(own_store)


# What a manifest says is not believed


@pytest.mark.parametrize("names", [("manifest.json", "manifest.backup.json"), ("manifest.json",)])
@pytest.mark.parametrize("file", ["../../victim.txt", "../victim.txt", "/victim.txt", "x/../y.h5"])
def test_a_repair_writes_nowhere_but_in_the_store(store, tmp_path, names, file):
    before = contents(store)
    victim = tmp_path.parent / "victim.txt"
    victims = (victim, tmp_path / "victim.txt")
    for path in victims:
        path.write_text("mine")
    for name in names:
        manifest = json.loads((store / name).read_text())
        manifest["shards"][0]["file"] = file
        manifest["digest"] = self_digest(manifest)
        (store / name).write_text(json.dumps(manifest, indent=2) + "\n")
    assert damages(store)["manifest.json"].startswith(f"names a shard outside its folder: {file!r}")
    if len(names) == 2:
        with pytest.raises(StoreError, match=r"manifest\.json, manifest\.backup\.json\. Rename "):
            pipeline.repair(store)
    else:
        pipeline.repair(store)
        assert contents(store) == before
    assert [path.read_text() for path in victims] == ["mine", "mine"]
    victim.unlink()
