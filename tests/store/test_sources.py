"""A store is the same from folders, archives and Parquet files: made, stopped, grown, mended."""

import os
import shutil

import pytest

from patchcollide import pipeline
from patchcollide.errors import StoreError
from patchcollide.images.sources import find_images
from patchcollide.io.provenance import file_digest
from patchcollide.store.integrity import inspect
from patchcollide.store.writer import write_store
from tests.helpers.archives import KINDS, write_as
from tests.helpers.indexed_stores import CONFIG
from tests.helpers.stores import config_with, manifest_of, shard_files, stop_after


@pytest.fixture
def photos(write_images):
    """Seven pictures of two classes, one of them no picture at all."""
    folder = write_images("photos", num=7)
    (folder / "class-1" / "5.png").write_text("no picture")
    return folder


@pytest.fixture(params=KINDS)
def source(request, photos, tmp_path):
    return write_as(request.param, photos, tmp_path / "source")


def pixels_of(store):
    return [store.image(number).tobytes() for number in range(store.num_images)]


@pytest.mark.parametrize("override", ["store.images_per_shard=2", "store.fraction=0.5", "seed=3"])
def test_a_store_has_the_same_digest_as_from_folders(photos, source, tmp_path, override):
    config = config_with(override)
    expected = write_store(config, photos, tmp_path / "expected")
    found = write_store(config, source, tmp_path / "found")
    assert found.fingerprint == expected.fingerprint
    assert found.names == expected.names
    assert found.valid.tolist() == expected.valid.tolist()
    assert pixels_of(found) == pixels_of(expected)
    ours, theirs = manifest_of(found.path), manifest_of(expected.path)
    assert [shard["digest"] for shard in ours["shards"]] == [
        shard["digest"] for shard in theirs["shards"]
    ]
    assert ours["folder"] == str(source)
    assert ours["source_kind"] == find_images(source).kind
    assert "source_kind" not in theirs


def test_a_stopped_store_goes_on_and_ends_like_an_undisturbed_one(
    source, out, tmp_path, monkeypatch
):
    config = config_with("store.images_per_shard=2")
    stop_after(2, config, source, out, monkeypatch)
    kept = [path.stat().st_ino for path in shard_files(tmp_path / "store.partial")]
    assert len(kept) == 2
    write_store(config, source, out)
    assert [path.stat().st_ino for path in shard_files(out)][:2] == kept
    write_store(config, source, tmp_path / "undisturbed")
    for path in shard_files(out):
        assert path.read_bytes() == (tmp_path / "undisturbed" / path.name).read_bytes()
    assert manifest_of(out) == manifest_of(tmp_path / "undisturbed")


def test_a_store_of_a_source_is_made_once(source, out):
    first = write_store(config_with(), source, out)
    state = (out / "manifest.json").stat()
    again = write_store(config_with(), source, out)
    assert again.fingerprint == first.fingerprint
    assert (out / "manifest.json").stat() == state


def test_a_touched_source_is_the_same_and_folders_of_the_same_pictures_too(photos, source, out):
    first = write_store(config_with(), source, out)
    for path in [source] if source.is_file() else source.iterdir():
        os.utime(path, ns=(1, 1))
    assert write_store(config_with(), source, out).fingerprint == first.fingerprint
    assert write_store(config_with(), photos, out).fingerprint == first.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_takes_what_is_new_in_a_source(kind, write_images, out, tmp_path):
    photos = write_images("photos", num=5)
    source = write_as(kind, photos, tmp_path / "source")
    write_store(config_with(), source, out)
    before = shard_files(out)[0].read_bytes()
    write_images("photos", num=8)
    source = write_as(kind, photos, tmp_path / "source")
    with pytest.raises(StoreError, match=r"other images.*holds now: 3 added \(class-0/6\.png"):
        write_store(config_with(), source, out)
    grown = write_store(config_with(), source, out, extend=True)
    assert shard_files(out)[0].read_bytes() == before
    assert grown.names[5:] == ["class-0/6.png", "class-1/5.png", "class-1/7.png"]
    write_store(config_with(), photos, tmp_path / "expected")
    assert (
        pixels_of(grown)[5]
        == write_store(config_with(), photos, tmp_path / "expected").image(3).tobytes()
    )


def test_a_damaged_shard_is_made_again_from_the_source(source, tmp_path):
    store = pipeline.index(CONFIG, source, tmp_path / "indexed")
    before = {path.name: file_digest(path) for path in store.iterdir()}
    shard = shard_files(store)[1]
    shard.write_bytes(shard.read_bytes()[:-700])
    assert [damage.file for damage in inspect(store).damages] == [shard.name]
    pipeline.repair(store)
    assert {path.name: file_digest(path) for path in store.iterdir()} == before
    pipeline.verify(store).require_intact()


def test_a_store_is_mended_from_the_source_in_another_place_or_form(photos, source, tmp_path):
    store = pipeline.index(CONFIG, source, tmp_path / "indexed")
    shutil.rmtree(tmp_path / "source")
    shard_files(store)[0].unlink()
    with pytest.raises(StoreError, match=r"does not exist.*give their folder with --images"):
        pipeline.repair(store)
    pipeline.repair(store, photos)
    pipeline.verify(store).require_intact()


def test_a_source_that_changes_or_goes_meanwhile_ends_the_work(source, out):
    listing = find_images(source)
    for path in [source] if source.is_file() else list(source.iterdir()):
        os.utime(path, ns=(1, 1))
    with pytest.raises(StoreError, match=r"was changed while images were read.*work is kept"):
        write_store(config_with(), listing, out)
    for path in [source] if source.is_file() else list(source.iterdir()):
        path.unlink()
    with pytest.raises(StoreError, match=r"can no longer be read \(No such file.*on a cluster"):
        write_store(config_with(), listing, out)
    assert not out.exists()


@pytest.mark.parametrize("classes", ["class-1", "class-0, class-1"])
def test_named_classes_alone_are_taken(photos, source, tmp_path, classes):
    found = pipeline.index(CONFIG, source, tmp_path / "found", classes=classes)
    labels = [name.strip() for name in classes.split(",")]
    for label in {"class-0", "class-1"} - set(labels):
        shutil.rmtree(photos / label)
    expected = pipeline.index(CONFIG, photos, tmp_path / "expected")
    assert manifest_of(found)["fingerprint"] == manifest_of(expected)["fingerprint"]
