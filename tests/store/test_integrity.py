"""No work is lost: kills are survived, and every damage to a store is found and repaired."""

import errno
import json
import logging
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import StoreError
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.provenance import self_digest
from patchcollide.retrieval.exhaustive import ExactSearcher
from patchcollide.store import integrity
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.helpers.killing import KILLED, Commands, contents

SETTINGS = (*SMALL, "store.images_per_shard=3", "index.kind=flat")
CONFIG = load_config(overrides=SETTINGS)
WORDS = [word for override in SETTINGS for word in ("--set", override)]
STORE_FILES = {
    "manifest.json",
    "manifest.backup.json",
    "shard-00000.h5",
    "shard-00001.h5",
    "shard-00002.h5",
    "shard-00003.h5",
}
INDEX_FILES = {"index.faiss", "index.json", "basis.h5"}


def make_images(folder, num, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(num):
        place = folder / f"class-{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{number:02d}.png", rng.integers(0, 256, (33, 32, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """An indexed store of ten images in four shards, and its images; never changed."""
    folder = tmp_path_factory.mktemp("original")
    images = make_images(folder / "images", 10)
    (images / "class-0" / "bad.png").write_text("no picture")
    pipeline.index(CONFIG, images, folder / "store")
    return folder


@pytest.fixture
def store(original, tmp_path):
    shutil.copytree(original / "store", tmp_path / "store")
    assert contents(tmp_path / "store").keys() == STORE_FILES | INDEX_FILES
    return tmp_path / "store"


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def damages(store, **options):
    found = pipeline.verify(store, **options)
    return {damage.file: damage.what for damage in found.damages}


def entry_of(store, number):
    return json.loads((store / "manifest.json").read_text())["shards"][number]


# Killed


def test_an_indexing_that_is_killed_five_times_ends_like_an_undisturbed_one(tmp_path):
    images = make_images(tmp_path / "images", 36)
    rng = np.random.default_rng(11)
    with Commands() as command:
        assert command("index", images, "--out", tmp_path / "undisturbed", *WORDS) == 0
        whole = command.spent
        words = ["index", images, "--out", tmp_path / "store", *WORDS]
        shares = rng.uniform(0.05, 0.5, 5)
        statuses = [command(*words, killed_after=share * whole) for share in shares]
        assert statuses[0] == KILLED
        assert set(statuses) <= {KILLED, 0}
        assert command(*words) == 0
        assert command("verify", tmp_path / "store") == 0
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
    assert not (tmp_path / "store.partial").exists()
    assert not (tmp_path / "store.lock").exists()


# Found and repaired


def test_every_flipped_bit_is_found_and_repaired(store, original):
    before = contents(store)
    rng = np.random.default_rng(5)
    names = sorted(before)
    for number in range(20):
        name = names[number % len(names)]
        flip(store / name, rng.integers(len(before[name])), rng.integers(8))
        found = damages(store)
        assert found.keys() == {name}, (number, found)
        pipeline.repair(store)
        assert contents(store) == before, (number, name)


def test_a_store_as_it_was_written_is_said_to_be_intact(store):
    before = contents(store)
    for words in ([], ["--quick"]):
        result = CliRunner().invoke(app, ["verify", str(store), *words])
        assert result.exit_code == 0
        assert result.stdout.strip() == "11 images, 4 shards, index: all intact"
    result = CliRunner().invoke(app, ["repair", str(store)])
    assert result.exit_code == 0
    assert "nothing to repair" in result.stderr
    assert contents(store) == before


def test_damage_is_told_in_lines_with_what_to_do(store):
    flip(store / "shard-00001.h5", entry_of(store, 1)["pixel_bytes"][0] + 32 * 32 * 3)
    (store / "shard-00002.h5").unlink()
    result = CliRunner().invoke(app, ["verify", str(store)])
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    name = entry_of(store, 1)["names"][1]
    assert f"shard-00001.h5 has flipped bits in 1 images: 4 ({name})." in lines[0]
    assert lines[1].startswith("shard-00002.h5 is missing (images 6 to 8). Run")
    assert all(line.endswith(f"Run `patchcollide repair {store}`.") for line in lines)
    assert "StoreError" in result.stderr


def copy_of_another_shard(path):
    shutil.copy(path.with_name("shard-00000.h5"), path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def cut_seal(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"more")


def link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (os.unlink, "is missing"),
        (cut, "truncated at byte"),
        (cut_seal, "truncated at byte"),
        (lengthen, "flipped bits outside its pixels"),
        (copy_of_another_shard, "undamaged, but a shard of another store"),
        (link, "cannot be read as a file"),
        (pipe, "should be a file, but is a folder, pipe or device"),
    ],
)
@pytest.mark.parametrize("quick", [False, True])
def test_a_shard_that_is_not_its_own_is_found_and_made_again(store, change, what, quick):
    before = contents(store)
    change(store / "shard-00001.h5")
    found = damages(store, quick=quick)
    assert found.keys() == {"shard-00001.h5"}
    assert what in found["shard-00001.h5"]
    assert "(images 3 to 5)" in found["shard-00001.h5"]
    if not quick:
        pipeline.repair(store)
        assert contents(store).items() >= before.items()
        assert not (store / "shard-00001.h5").is_symlink()
        assert damages(store) == {}


def test_metadata_that_is_damaged_is_not_given_to_hdf5(store, monkeypatch):
    monkeypatch.setattr(integrity, "open_shard", None)
    flip(store / "shard-00001.h5", 30)
    assert "outside its pixels" in damages(store)["shard-00001.h5"]


def test_a_quick_look_leaves_out_pixels_and_the_index(store):
    flip(store / "shard-00001.h5", entry_of(store, 1)["pixel_bytes"][0])
    flip(store / "index.faiss", 200)
    assert damages(store, quick=True) == {}
    assert damages(store).keys() == {"shard-00001.h5", "index.faiss"}
    flip(store / "basis.h5", -1)
    assert damages(store, quick=True).keys() == {"basis.h5"}


def test_damages_at_several_places_are_repaired_at_once(store):
    before = contents(store)
    flip(store / "shard-00000.h5", 3000, 4)
    (store / "shard-00003.h5").unlink()
    (store / "manifest.json").unlink()
    flip(store / "basis.h5", 70)
    (store / "index.json").write_text("{}")
    # What the basis should be is written in index.json alone.
    assert len(damages(store)) == 4
    pipeline.repair(store)
    assert contents(store) == before


def test_more_than_a_few_damaged_images_are_counted(original, tmp_path):
    config = load_config(overrides=[*SMALL, "store.images_per_shard=20"])
    write_store(config, original / "images", tmp_path / "store")
    start, stop = entry_of(tmp_path / "store", 0)["pixel_bytes"]
    for position in range(start, stop, 32 * 32 * 3):
        flip(tmp_path / "store" / "shard-00000.h5", position)
    what = damages(tmp_path / "store")["shard-00000.h5"]
    assert "flipped bits in 11 images: 0 (class-0/00.png), 1 (" in what
    assert what.endswith("and 6 more")


# Another store's


def test_a_shard_of_another_store_is_noticed_when_a_store_is_opened(store, tmp_path):
    other = write_store(CONFIG, make_images(tmp_path / "others", 11, seed=1), tmp_path / "other")
    shutil.copy(other.path / "shard-00002.h5", store)
    with pytest.raises(StoreError, match=r"shard-00002\.h5 is a shard of another store"):
        PatchStore.open(store)
    assert "another store" in damages(store)["shard-00002.h5"]
    pipeline.repair(store)
    assert PatchStore.open(store).num_images == 11


@pytest.mark.parametrize("name", sorted(INDEX_FILES))
def test_an_index_that_lost_a_file_is_built_again(store, name):
    before = contents(store)
    (store / name).unlink()
    found = damages(store)
    assert found.keys() == {name}
    assert "is missing" in found[name]
    pipeline.repair(store)
    assert contents(store) == before


def test_an_index_of_another_store_is_built_again(store, original, tmp_path):
    before = contents(store)
    pipeline.index(CONFIG, make_images(tmp_path / "others", 6, seed=1), tmp_path / "other")
    for name in INDEX_FILES:
        shutil.copy(tmp_path / "other" / name, store)
    found = damages(store)
    assert found == {"index.json": "belongs to an index of another store"}
    pipeline.repair(store)
    assert contents(store) == before


def test_an_index_is_built_again_with_its_own_settings(store, original):
    for name in INDEX_FILES:
        (store / name).unlink()
    config = load_config(overrides=[*SETTINGS, "index.components=8", "seed=0"])
    pipeline.index(config, original / "images", store)
    before = contents(store)
    flip(store / "index.faiss", 100)
    pipeline.repair(store)
    assert contents(store) == before


def test_a_store_without_an_index_is_intact(store):
    for name in INDEX_FILES:
        (store / name).unlink()
    assert str(pipeline.verify(store)) == "11 images, 4 shards, no index: all intact"
    pipeline.repair(store)
    assert not (store / "index.json").exists()


# The manifest


@pytest.mark.parametrize("name", ["manifest.json", "manifest.backup.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00" * 100])
def test_a_manifest_is_taken_from_its_other_copy(store, name, content):
    before = contents(store)
    (store / name).unlink()
    if content is not None:
        (store / name).write_bytes(content)
    assert damages(store).keys() == {name}
    pipeline.repair(store)
    assert contents(store) == before


def test_a_damaged_manifest_is_refused_by_readers_with_what_to_do(store):
    text = (store / "manifest.json").read_text()
    (store / "manifest.json").write_text(text.replace('"num_images": 11', '"num_images": 10'))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged .* `patchcollide repair "):
        PatchStore.open(store)
    (store / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"its copy .* is there\. Run `patchcollide repair "):
        PatchStore.open(store)


def test_a_manifest_that_is_only_written_otherwise_is_found(store):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest))
    assert "not written as it was" in damages(store)["manifest.json"]


def test_copies_that_differ_are_found_and_the_first_is_right(store):
    before = contents(store)
    older = json.loads((store / "manifest.backup.json").read_text())
    older["folder"] = "/older"
    older["digest"] = self_digest(older)
    (store / "manifest.backup.json").write_text(json.dumps(older, indent=2) + "\n")
    assert "not the copy" in damages(store)["manifest.backup.json"]
    pipeline.repair(store)
    assert contents(store) == before


def test_shards_outlive_both_copies_of_the_manifest(store, original):
    before = contents(store)
    for name in ("manifest.json", "manifest.backup.json"):
        flip(store / name, 40)
    with pytest.raises(StoreError, match=r"Rename .*store to .*store\.partial, remove .* there"):
        pipeline.repair(store)
    partial = store.rename(store.with_name("store.partial"))
    for name in INDEX_FILES:
        (partial / name).unlink()
    inodes = {path.name: path.stat().st_ino for path in partial.glob("shard-*")}
    pipeline.index(CONFIG, original / "images", store)
    assert {path.name: path.stat().st_ino for path in store.glob("shard-*")} == inodes
    assert contents(store) == before


def test_a_folder_in_place_of_a_file_is_never_removed(store):
    for name in ("shard-00001.h5", "index.json", "manifest.json"):
        content = (store / name).read_bytes()
        (store / name).unlink()
        (store / name).mkdir()
        assert "should be a file, but is a folder" in damages(store)[name]
        with pytest.raises(StoreError, match=rf"{name} is a folder .* Move it away"):
            pipeline.repair(store)
        (store / name).rmdir()
        (store / name).write_bytes(content)


def test_a_bad_spot_on_the_disk_is_damage(store, monkeypatch):
    original = integrity.digest_without

    def unreadable(path, start, stop):
        if path.name == "shard-00001.h5":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path, start, stop)

    monkeypatch.setattr(integrity, "digest_without", unreadable)
    assert damages(store) == {
        "shard-00001.h5": "cannot be read (Input/output error; images 3 to 5)"
    }


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


@pytest.mark.parametrize("function", [pipeline.verify, pipeline.repair])
def test_what_is_no_store_is_refused(tmp_path, function):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none"):
        with pytest.raises(StoreError, match="is not a patch store"):
            function(path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


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


def test_the_room_for_a_repair_is_asked_for_first(own_store, monkeypatch):
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


# Cut off while it is open


@pytest.mark.parametrize("kept", [0, 3000, -1])
def test_a_shard_that_is_cut_off_while_it_is_open_is_named_by_whoever_reads_it(store, kept):
    opened = PatchStore.open(store)
    path = store / "shard-00001.h5"
    os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
    readers = [lambda: opened.patches(np.array([4 * 49])), lambda: opened.windows(np.array([196]))]
    if kept >= 0:
        queries = np.zeros((1, 8, 8, 3), np.uint8)
        readers += [
            lambda: list(opened.blocks(2)),
            lambda: opened.image(4),
            lambda: ExactSearcher(opened).search(queries, 3, np.empty(0, np.int64)),
        ]
    for read in readers:
        with pytest.raises(
            StoreError, match=r"shard-00001\.h5 is truncated at byte \d+ of \d+ since"
        ):
            read()


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
