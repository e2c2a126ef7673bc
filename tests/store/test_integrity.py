"""No work is lost: kills are survived, and every damage to a store is found and repaired."""

import errno
import os
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import StoreError
from patchcollide.io.seals import digest_without
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.store import integrity
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.helpers.indexed_stores import (
    CONFIG,
    INDEX_FILES,
    SETTINGS,
    WORDS,
    damages,
    entry_of,
    flip,
    make_images,
)
from tests.helpers.killing import KILLED, Commands, contents

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
    original = digest_without

    def unreadable(path, start, stop):
        if path.name == "shard-00001.h5":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path, start, stop)

    monkeypatch.setattr(integrity, "digest_without", unreadable)
    assert damages(store) == {
        "shard-00001.h5": "cannot be read (Input/output error; images 3 to 5)"
    }


@pytest.mark.parametrize("function", [pipeline.verify, pipeline.repair])
def test_what_is_no_store_is_refused(tmp_path, function):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none"):
        with pytest.raises(StoreError, match="is not a patch store"):
            function(path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# Cut off while it is open


@pytest.mark.parametrize("kept", [0, 3000, -1])
def test_a_shard_that_is_cut_off_while_it_is_open_is_named_by_whoever_reads_it(store, kept):
    opened = PatchStore.open(store)
    path = store / "shard-00001.h5"
    os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
    readers: list[Callable[[], object]] = [
        lambda: opened.patches(np.array([4 * 49])),
        lambda: opened.windows(np.array([196])),
    ]
    if kept >= 0:
        queries = np.zeros((1, 8, 8, 3), np.uint8)
        readers += [
            lambda: list(opened.blocks(2)),
            lambda: opened.image(4),
            lambda: ExhaustiveSearcher(opened).search(queries, 3, np.empty(0, np.int64)),
        ]
    for read in readers:
        with pytest.raises(
            StoreError, match=r"shard-00001\.h5 is truncated at byte \d+ of \d+ since"
        ):
            read()
