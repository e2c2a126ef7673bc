"""A store and the folder it was made from, which changes; extending it under new numbers."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import StoreError
from patchcollide.images.listings import sample_images
from patchcollide.images.pictures import read_image, write_png
from patchcollide.images.sources import find_images
from patchcollide.io import hdf5
from patchcollide.store import manifest, writer
from patchcollide.store import shards as shard_writer
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.helpers.indexed_stores import CONFIG, SETTINGS, WORDS
from tests.helpers.killing import contents


def paint(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    write_png(path, rng.integers(0, 256, (40, 32, 3), dtype=np.uint8))


@pytest.fixture
def images(tmp_path):
    for number in range(7):
        paint(tmp_path / "images" / f"class-{number % 2}" / f"{number}.png", number)
    return tmp_path / "images"


@pytest.fixture
def out(images, tmp_path):
    return write_store(CONFIG, images, tmp_path / "store").path


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    caplog.set_level(logging.INFO, "patchcollide")
    return caplog


def assert_holds(store, images, name, number):
    expected = read_image(images / name, size=32, fit="crop", max_pixels=10**6)
    assert store.names[number] == name
    assert np.array_equal(store.image(number), expected)


# What changed


def add(images):
    paint(images / "class-0" / "new.png", 20)
    paint(images / "class-2" / "newer.png", 21)


def remove(images):
    (images / "class-1" / "1.png").unlink()


def repaint(images):
    times = (images / "class-0" / "4.png").stat()
    paint(images / "class-0" / "4.png", 22)
    os.utime(images / "class-0" / "4.png", ns=(times.st_atime_ns, times.st_mtime_ns + 1))


def lengthen(images):
    path = images / "class-0" / "4.png"
    times = path.stat()
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rename(images):
    (images / "class-1").rename(images / "class-9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add, r"holds now: 2 added \(class-0/new\.png, class-2/newer\.png\)\. Give --extend"),
        (remove, r"holds now: 1 removed \(class-1/1\.png\)\. Give --extend"),
        (repaint, r"holds now: 1 changed \(class-0/4\.png\)\. Give --extend"),
        (lengthen, r"holds now: 1 changed \(class-0/4\.png\)\. Give --extend"),
        (rename, r"now: 3 added \(class-9/1.*\), 3 removed \(class-1/1\.png, class-1/3\.png, "),
    ],
)
def test_another_folder_than_the_stored_one_is_told_with_what_changed(images, out, change, message):
    change(images)
    before = contents(out)
    with pytest.raises(StoreError, match=message):
        write_store(CONFIG, images, out)
    assert contents(out) == before


def test_many_changes_are_counted_and_a_few_named(images, out):
    for number in range(5):
        paint(images / "class-5" / f"{number}.png", number)
    with pytest.raises(StoreError, match=r"5 added \(class-5/0\.png, .*1\.png, .*2\.png, \.\.\.\)"):
        write_store(CONFIG, images, out)


def test_a_touched_file_has_not_changed(images, out, said):
    os.utime(images / "class-0" / "0.png", ns=(1, 1))
    os.utime(images / "class-1" / "1.png")
    before = contents(out)
    write_store(CONFIG, images, out)
    assert "nothing to do" in said.text
    assert contents(out) == before


def test_files_whose_times_are_the_same_are_not_read(images, out, said, monkeypatch):
    monkeypatch.setattr("patchcollide.images.folders.source_digest", Path.read_text)
    write_store(CONFIG, images, out)
    assert "nothing to do" in said.text


def test_a_copy_of_the_folder_counts_as_the_folder(images, out, tmp_path, said):
    shutil.copytree(images, tmp_path / "copy", copy_function=shutil.copyfile)
    write_store(CONFIG, tmp_path / "copy", out)
    assert "nothing to do" in said.text


def test_the_command_says_what_changed_and_what_to_do(images, out):
    add(images)
    result = CliRunner().invoke(app, ["index", str(images), "--out", str(out), *WORDS])
    assert result.exit_code == 2
    assert "2 added (class-0/new.png, class-2/newer.png)" in result.stderr
    assert "--extend" in result.stderr


# Extended


def test_an_extended_store_keeps_its_numbers_and_adds_new_ones(images, out, said):
    before, old = contents(out), PatchStore.open(out)
    ids = np.arange(0, old.num_patches, 17)
    patches, fingerprint = old.patches(ids), old.fingerprint
    add(images)
    remove(images)
    repaint(images)
    store = write_store(CONFIG, images, out, extend=True)
    added = ["class-0/4.png", "class-0/new.png", "class-2/newer.png"]
    assert store.names == [*old.names, *added]
    for number, name in enumerate(added, 7):
        assert_holds(store, images, name, number)
    assert np.array_equal(store.patches(ids), patches)
    assert store.fingerprint != fingerprint
    assert store.manifest["generations"] == [
        {"fingerprint": fingerprint, "num_images": 7},
        {"fingerprint": store.fingerprint, "num_images": 10},
    ]
    assert store.manifest["removed"] == ["class-1/1.png"]
    shards = {name: data for name, data in before.items() if name.startswith("shard")}
    assert contents(out).items() >= shards.items()
    assert "Extended" in said.text
    assert "2 added" in said.text


@pytest.mark.parametrize("changes", [(add,), (remove,), (repaint,), (rename,), (add, remove)])
def test_after_an_extension_there_is_nothing_to_do(images, out, said, changes):
    for change in changes:
        change(images)
    write_store(CONFIG, images, out, extend=True)
    before = contents(out)
    for extend in (False, True):
        said.clear()
        write_store(CONFIG, images, out, extend=extend)
        assert "nothing to do" in said.text
        assert contents(out) == before
    assert pipeline.verify(out).damages == ()


def test_a_removed_image_that_comes_back_is_not_stored_twice(images, out):
    picture = (images / "class-1" / "1.png").read_bytes()
    remove(images)
    write_store(CONFIG, images, out, extend=True)
    (images / "class-1" / "1.png").write_bytes(picture)
    assert write_store(CONFIG, images, out).num_images == 7
    paint(images / "class-1" / "1.png", 30)
    with pytest.raises(StoreError, match=r"1 changed \(class-1/1\.png\)"):
        write_store(CONFIG, images, out)


def test_what_is_only_removed_makes_no_new_generation(images, out):
    fingerprint = PatchStore.open(out).fingerprint
    remove(images)
    store = write_store(CONFIG, images, out, extend=True)
    assert store.fingerprint == fingerprint
    assert len(store.manifest["generations"]) == 1
    assert store.num_images == 7


def test_a_store_is_extended_again_and_again(images, out):
    for seed in range(3):
        paint(images / "class-3" / f"{seed}.png", 40 + seed)
        store = write_store(CONFIG, images, out, extend=True)
        assert_holds(store, images, f"class-3/{seed}.png", 7 + seed)
    assert len(store.shards) == 6
    counts = [generation["num_images"] for generation in store.manifest["generations"]]
    assert counts == [7, 8, 9, 10]
    assert len({generation["fingerprint"] for generation in store.manifest["generations"]}) == 4


def test_the_sampling_rule_is_applied_to_the_present_folder(images, tmp_path):
    config = load_config(overrides=[*SETTINGS, "store.fraction=0.5"])
    old = write_store(config, images, tmp_path / "half")
    for number in range(10, 20):
        paint(images / "class-0" / f"{number}.png", number)
    chosen = {file.name for file in sample_images(find_images(images).files, 0.5, config.seed)}
    with pytest.raises(StoreError, match=rf"{len(chosen - set(old.names))} added"):
        write_store(config, images, tmp_path / "half")
    store = write_store(config, images, tmp_path / "half", extend=True)
    assert store.names[: old.num_images] == old.names
    assert store.names[old.num_images :] == sorted(chosen - set(old.names))
    write_store(config, images, tmp_path / "half")


def test_new_images_that_cannot_be_read_keep_their_slots_too(images, out):
    (images / "class-0" / "bad.png").write_text("no picture")
    store = write_store(CONFIG, images, out, extend=True)
    assert store.manifest["invalid"][0]["image"] == 7
    assert not store.valid[7]
    assert store.valid[:7].all()


@pytest.mark.parametrize("settings", [("seed=1",), ("store.fraction=0.5",)])
def test_only_with_its_own_settings_a_store_is_extended(images, out, settings):
    add(images)
    config = load_config(overrides=[*SETTINGS, *settings])
    before = contents(out)
    with pytest.raises(StoreError, match="made with other settings"):
        write_store(config, images, out, extend=True)
    assert contents(out) == before


def test_only_a_store_is_extended(images, tmp_path):
    with pytest.raises(StoreError, match=r"holds no store that could be extended\. Leave out"):
        write_store(CONFIG, images, tmp_path / "none", extend=True)
    assert not (tmp_path / "none").exists()


# Stopped


class StopError(Exception):
    pass


def stop_at(monkeypatch, module, name, call):
    """Raises when ``module.name`` is called for the ``call``-th time, counted from nought."""
    original, calls = getattr(module, name), []

    def stopping(*args, **options):
        calls.append(args)
        if len(calls) > call:
            raise StopError
        return original(*args, **options)

    monkeypatch.setattr(module, name, stopping)


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (shard_writer, "write_hdf5", 0),
        (shard_writer, "write_hdf5", 1),
        (hdf5, "seal", 1),
        (writer, "write_manifest", 0),
        (manifest, "write_json", 1),
        (writer, "_remove_others", 0),
    ],
)
def test_a_stopped_extension_leaves_the_old_store_or_the_new_one(
    images, out, tmp_path, monkeypatch, module, name, call
):
    for number in range(4):
        paint(images / "class-2" / f"{number}.png", 50 + number)
    old = PatchStore.open(out).fingerprint
    shutil.copytree(out, tmp_path / "undisturbed")
    new = write_store(CONFIG, images, tmp_path / "undisturbed", extend=True).fingerprint
    with monkeypatch.context() as patched:
        stop_at(patched, module, name, call)
        with pytest.raises(StopError):
            write_store(CONFIG, images, out, extend=True)
    committed = name in ("write_json", "_remove_others")
    store = PatchStore.open(out)
    assert store.fingerprint == (new if committed else old)
    assert not [d for d in pipeline.verify(out).damages if d.file.startswith("shard")]
    (out / "shard-00004.h5.partial").write_bytes(b"half")
    if committed:
        write_store(CONFIG, images, out)
        assert not (out / "shard-00004.h5.partial").exists()
    else:
        with pytest.raises(StoreError, match="4 added"):
            write_store(CONFIG, images, out)
    write_store(CONFIG, images, out, extend=True)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_shards_of_a_stopped_extension_are_kept(images, out, monkeypatch):
    for number in range(4):
        paint(images / "class-2" / f"{number}.png", 50 + number)
    with monkeypatch.context() as patched:
        stop_at(patched, writer, "write_manifest", 0)
        with pytest.raises(StopError):
            write_store(CONFIG, images, out, extend=True)
    inodes = {path.name: path.stat().st_ino for path in out.glob("shard-*")}
    assert len(inodes) == 5
    write_store(CONFIG, images, out, extend=True)
    assert {path.name: path.stat().st_ino for path in out.glob("shard-*")} == inodes


def test_what_a_stopped_extension_left_is_removed_when_it_is_not_wanted(images, out, monkeypatch):
    for number in range(4):
        paint(images / "class-2" / f"{number}.png", 50 + number)
    with monkeypatch.context() as patched:
        stop_at(patched, writer, "write_manifest", 0)
        with pytest.raises(StopError):
            write_store(CONFIG, images, out, extend=True)
    for number in range(3):
        (images / "class-2" / f"{number}.png").unlink()
    store = write_store(CONFIG, images, out, extend=True)
    assert store.names[7:] == ["class-2/3.png"]
    assert len(list(out.glob("shard-*"))) == 4
    assert pipeline.verify(out).damages == ()


# With its index


def test_an_index_is_extended_with_its_store(images, tmp_path, said):
    pipeline.index(CONFIG, images, tmp_path / "store")
    add(images)
    pipeline.index(CONFIG, images, tmp_path / "store", extend=True)
    assert pipeline.verify(tmp_path / "store").damages == ()
    said.clear()
    before = contents(tmp_path / "store")
    pipeline.index(CONFIG, images, tmp_path / "store")
    assert said.text.count("nothing to do") == 2
    assert contents(tmp_path / "store") == before


def test_an_index_left_behind_by_an_extension_is_found_and_brought_up_to_date(images, tmp_path):
    pipeline.index(CONFIG, images, tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "undisturbed")
    add(images)
    pipeline.index(CONFIG, images, tmp_path / "undisturbed", extend=True)
    write_store(CONFIG, images, tmp_path / "store", extend=True)
    found = pipeline.verify(tmp_path / "store").damages
    assert [damage.file for damage in found] == ["sums-00003.dat", "index.json"]
    assert found[0].what == "is missing"
    assert "index of the store before it was extended" in found[1].what
    pipeline.repair(tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [1, 3])
def test_a_shard_of_any_generation_is_repaired(images, tmp_path, number):
    out = tmp_path / "store"
    pipeline.index(CONFIG, images, out)
    add(images)
    remove(images)
    pipeline.index(CONFIG, images, out, extend=True)
    before = contents(out)
    shard = out / f"shard-{number:05d}.h5"
    names = json.loads((out / "manifest.json").read_text())["shards"][number]["names"]
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    if "class-1/1.png" in names:
        with pytest.raises(StoreError, match=r"are not in .*images, such as class-1/1\.png"):
            pipeline.repair(out)
    else:
        pipeline.repair(out)
        assert contents(out) == before
