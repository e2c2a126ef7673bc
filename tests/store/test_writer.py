"""What a store holds when it is written, and the space that it needs."""

import hashlib
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

from patchcollide.config_files import load_config
from patchcollide.errors import ImageError, StoreError
from patchcollide.images.listings import sample_images
from patchcollide.images.pictures import read_image
from patchcollide.images.sources import find_images
from patchcollide.images.thumbnails import thumbnail
from patchcollide.io.provenance import array_digest, self_digest
from patchcollide.store.writer import write_store
from tests.helpers.stores import config_with, manifest_of, shard_files, stop_after

# What a store holds


@pytest.mark.parametrize("images_per_shard", [1, 2, 3, 7, 100])
def test_a_store_holds_every_image_under_its_number(images, out, images_per_shard):
    config = config_with(f"store.images_per_shard={images_per_shard}")
    store = write_store(config, images, out)
    files = sample_images(find_images(images).files, 1.0, 0)
    assert len(store.shards) == -(-7 // images_per_shard) == len(shard_files(out))
    assert (store.num_images, store.num_patches) == (7, 7 * 25)
    assert store.names == [file.name for file in files]
    assert store.valid.all()
    digests = [digest for shard in store.shards for digest in shard.digests]
    for number, file in enumerate(files):
        expected = read_image(file.path, size=24, fit="crop", max_pixels=10**6)
        assert np.array_equal(store.image(number), expected)
        assert np.array_equal(store.thumbnails()[number], thumbnail(expected))
        assert digests[number] == array_digest(expected)
    assert not (out.parent / "store.partial").exists()


def test_a_manifest_says_what_the_store_was_made_from(images, out):
    store = write_store(config_with("seed=3"), images, out)
    manifest = manifest_of(out)
    digest = manifest.pop("digest")
    assert manifest == store.manifest
    assert (manifest["encoding-type"], manifest["encoding-version"]) == ("patchcollide-store", "2")
    assert manifest["settings"]["seed"] == 3
    assert manifest["folder"] == str(images)
    assert (manifest["num_images"], manifest["num_patches"]) == (7, 175)
    assert (manifest["invalid"], manifest["num_links_not_followed"]) == ([], 0)
    assert manifest["versions"]["h5py"] == h5py.__version__
    assert len(store.fingerprint) == 64
    assert manifest["generations"] == [{"fingerprint": store.fingerprint, "num_images": 7}]
    assert digest == self_digest(manifest)
    assert (out / "manifest.backup.json").read_bytes() == (out / "manifest.json").read_bytes()


def test_files_that_are_no_pictures_are_counted_and_some_named(images, out, caplog):
    for number in range(30):
        (images / f"notes-{number:02d}.txt").touch()
    (images / "photo.heic").touch()
    with caplog.at_level("INFO"):
        write_store(config_with(), images, out)
    manifest = manifest_of(out)
    assert manifest["num_files_left_out"] == 31
    assert manifest["files_left_out"] == [f"notes-{number:02d}.txt" for number in range(20)]
    assert (
        "31 files are no pictures by their suffix, and were left out: 30 .txt, 1 .heic; such as "
        "notes-00.txt." in caplog.text
    )


def test_a_manifest_holds_the_digests_of_its_shards(images, out):
    write_store(config_with("store.images_per_shard=3"), images, out)
    for entry in manifest_of(out)["shards"]:
        content = (out / entry["file"]).read_bytes()
        start, stop = entry["pixel_bytes"]
        assert stop - start == entry["num_images"] * 24 * 24 * 3
        assert len(content) == entry["num_bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        around = content[:start] + content[stop:]
        assert hashlib.sha256(around).hexdigest() == entry["sha256_without_pixels"]
        with h5py.File(out / entry["file"]) as file:
            assert list(file["names"].asstr()[()]) == entry["names"]
            sources = [images / name for name in entry["names"]]
            assert file["source_sizes"][()].tolist() == [path.stat().st_size for path in sources]
            times = [path.stat().st_mtime_ns for path in sources]
            assert file["source_times"][()].tolist() == times
            digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]
            assert list(file["source_digests"].asstr()[()]) == digests


@pytest.mark.parametrize("size", [8, 13, 20, 31])
def test_images_need_not_divide_into_thumbnails(images, out, size):
    config = load_config(
        overrides=[
            f"images.size_px={size}",
            "patches.window_px=4",
            "patches.stride_px=1",
            "patches.patch_px=4",
            "retrieval.query_stride_px=1",
        ]
    )
    store = write_store(config, images, out)
    for number in range(store.num_images):
        assert np.array_equal(store.thumbnails()[number], thumbnail(store.image(number)))


def test_classes_are_folders_and_a_flat_folder_has_none(images, tmp_path):
    (tmp_path / "flat").mkdir()
    for path in images.rglob("*.png"):
        shutil.copy(path, tmp_path / "flat")
    for name, folder, labels in (
        ("a", images, ["class-0"] * 4 + ["class-1"] * 3),
        ("b", tmp_path / "flat", [""] * 7),
    ):
        store = write_store(config_with(), folder, tmp_path / name)
        with h5py.File(shard_files(store.path)[0]) as file:
            assert list(file["labels"].asstr()[()]) == labels
            assert list(file["names"].asstr()[()]) == store.names
        parts = [name.split("/") for name in store.names]
        assert ["/".join(part[:-1]) for part in parts] == labels


@pytest.mark.parametrize(("fraction", "counts"), [(1.0, [4, 3]), (0.5, [2, 1]), (0.3, [1, 0])])
def test_a_fraction_of_each_class_is_stored_rounded_down(images, out, fraction, counts):
    store = write_store(config_with(f"store.fraction={fraction}"), images, out)
    found = [sum(name.startswith(f"class-{number}/") for name in store.names) for number in (0, 1)]
    assert found == counts


def test_the_seed_decides_which_images_are_stored(write_images, tmp_path):
    folder = write_images(num=12)
    chosen = [
        write_store(
            config_with("store.fraction=0.5", f"seed={seed}"), folder, tmp_path / name
        ).names
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_fraction_that_leaves_nothing_is_refused(images, out):
    with pytest.raises(ImageError, match=r"A fraction of 0\.2 of each class leaves no images"):
        write_store(config_with("store.fraction=0.2"), images, out)
    assert [path.name for path in out.parent.iterdir()] == ["images"]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fingerprint_tells_pixels_and_settings_apart(write_images, tmp_path, seed):
    folder = write_images(f"images-{seed}", seed=seed)
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    store = write_store(config_with(), folder, tmp_path / "a")
    assert write_store(config_with(), again, tmp_path / "b").fingerprint == store.fingerprint
    squashed = write_store(config_with("images.fit=squash"), folder, tmp_path / "c")
    assert squashed.fingerprint != store.fingerprint
    Image.new("RGB", (40, 40)).save(again / "class-0" / "0.png")
    assert write_store(config_with(), again, tmp_path / "d").fingerprint != store.fingerprint


# The disk and its file system


@pytest.mark.parametrize(("finished", "needed"), [(0, "7"), (2, "3")])
def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    images, out, tmp_path, monkeypatch, finished, needed
):
    config = config_with("store.images_per_shard=2")
    if finished:
        stop_after(finished, config, images, out, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    usage = shutil.disk_usage(tmp_path)._replace(free=4_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        StoreError,
        match=rf"store needs 0\.00 GB for the {needed} images still to be stored, but .* 0\.00 GB",
    ):
        write_store(config, images, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_finished_shards_need_no_more_space(images, out, monkeypatch):
    config = config_with("store.images_per_shard=2")
    write_store(config, images, out)
    out.rename(out.with_name("store.partial"))
    usage = shutil.disk_usage(out.parent)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert write_store(config, images, out).num_images == 7
