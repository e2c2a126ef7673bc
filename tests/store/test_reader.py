"""Patches as they are read from a store, and folders that are none, or no longer one."""

import errno
import os
import shutil
from typing import Any

import h5py
import numpy as np
import pytest

from patchcollide.errors import GeometryError, StoreError
from patchcollide.geometry import PatchGrid
from patchcollide.images.pictures import read_png
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.writer import write_store
from tests.helpers.stores import config_with, edit_manifest, own_up, shard_files

AVERAGED = ("patches.patch_px=4",)


# Reading patches


def halved(window):
    """Averages blocks of 2 x 2 pixels, rounding half up."""
    out = np.empty((len(window) // 2, len(window) // 2, 3), np.uint8)
    for row in range(len(out)):
        for col in range(len(out)):
            block = window[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].reshape(4, 3)
            out[row, col] = (block.sum(axis=0, dtype=int) + 2) // 4
    return out


@pytest.mark.parametrize("averaged", [(), AVERAGED], ids=["as-they-are", "averaged"])
@pytest.mark.parametrize("images_per_shard", [1, 2, 7])
def test_patches_and_windows_are_cut_from_their_images(
    images, out, rng, averaged, images_per_shard
):
    config = config_with(f"store.images_per_shard={images_per_shard}", *averaged)
    store = write_store(config, images, out)
    for num in (0, 1, 2, 51):
        ids = rng.integers(0, store.num_patches, num)
        patches, windows = store.patches(ids), store.windows(ids)
        assert len(patches) == len(windows) == num
        for number, patch_id in enumerate(ids.tolist()):
            image, position = divmod(patch_id, 25)
            top, left = (4 * step for step in divmod(position, 5))
            window = store.image(image)[top : top + 8, left : left + 8]
            assert np.array_equal(windows[number], window)
            expected = halved(window) if averaged else window
            assert np.array_equal(patches[number], expected)


@pytest.mark.parametrize("ids", [[-1], [0, 175], [2**40], [-(2**62), 0]])
def test_patches_that_the_store_does_not_have_are_refused(images, out, ids):
    store = write_store(config_with(), images, out)
    for read in (store.patches, store.windows):
        with pytest.raises(
            StoreError, match=f"holds patches 0 to 174, but {min(ids)} to {max(ids)}"
        ):
            read(np.array(ids))


@pytest.mark.parametrize("patch_size", [4, 2])
def test_patches_with_ids_beyond_32_bits_are_found(tmp_path, rng, patch_size):
    grid = PatchGrid(100, 4, 2, patch_size)
    images = rng.integers(0, 256, (2, 100, 100, 3), dtype=np.uint8)
    # Each shard repeats one image's memory: nothing of these 55 GB is there.
    num = 2**32 // grid.num_positions
    entry: Any = {}
    shards = [
        Shard(
            first_image=number * num,
            pixels=np.broadcast_to(image, (num, *image.shape)),
            valid=np.broadcast_to(np.True_, num),
            names=[],
            thumbnails=np.broadcast_to(np.uint8(0), (num, 8, 8, 3)),
            digests=[],
            origin=(tmp_path, 100, entry),
        )
        for number, image in enumerate(images)
    ]
    manifest: Any = {"grid": grid.to_dict(), "fingerprint": ""}
    store = PatchStore(tmp_path, manifest, shards)
    ids = np.array([24, 2**31 + 7, 2**32 + 11, 2**33 - 2 * 49**2])
    assert ids[-1] < store.num_patches
    expected = []
    for patch_id in ids.tolist():
        image, position = divmod(patch_id, 49**2)
        row, col = divmod(position, 49)
        expected.append(grid.patches(images)[image // num, row, col])
    assert np.array_equal(store.patches(ids), expected)


@pytest.mark.parametrize("images_per_shard", [1, 3, 7])
def test_blocks_cover_all_images_in_order(images, out, images_per_shard):
    store = write_store(config_with(f"store.images_per_shard={images_per_shard}"), images, out)
    for size in (1, 2, 7):
        expected = 0
        for first, block in store.blocks(size):
            assert first == expected
            assert 1 <= len(block) <= size
            for offset, image in enumerate(block):
                assert np.array_equal(image, store.image(first + offset))
            expected += len(block)
        assert expected == 7


def test_an_opened_store_cannot_be_written_to(images, out):
    store = write_store(config_with(), images, out)
    with pytest.raises(ValueError, match="read-only"):
        store.shards[0].images[0] = 0


# The disk and its file system


def test_a_file_system_without_memory_maps_is_named(images, out, monkeypatch):
    write_store(config_with(), images, out)

    def fail(*_, **__):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(np, "memmap", fail)
    with pytest.raises(
        StoreError, match=r"shard-00000\.h5 cannot be mapped into memory \(No such device\)"
    ):
        PatchStore.open(out)


# What is not a store, or no longer one


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"holds no manifest\.json\. Check the path, or make"):
        PatchStore.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"encoding-type": "patchcollide-store",', "\x00"])
def test_a_damaged_manifest_is_refused(images, out, text):
    write_store(config_with(), images, out)
    (out / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json cannot be read \("):
        PatchStore.open(out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding-version": "1"}, r"should be 'patchcollide-store' version 2, .* version 1"),
        ({"encoding-type": "other"}, r"but is 'other' version 2. Index the images again"),
        ({"grid": None}, r"manifest\.json is damaged"),
        ({"grid": {"image_size": 24}}, r"manifest\.json is damaged \(.*missing"),
        ({"grid": {"image_size": 24, "window_size": 8, "stride": 5, "patch_size": 8}},
         r"manifest\.json is damaged \(Windows of 8 pixels at stride 5"),
        ({"grid": PatchGrid(28, 8, 4, 8).to_dict()}, r"3 images of 28 pixels take 7056 bytes"),
        ({"shards": []}, r"manifest\.json is damaged"),
        ({"shards": [{}]}, r"manifest\.json is damaged \(shards\.0\.file is missing"),
        ({"num_images": 8}, r"its shards hold 7 images, but num_images = 8"),
        ({"num_images": True}, r"damaged \(num_images = True: input should be a valid integer"),
        ({"removed": "a"}, r"damaged \(removed = 'a': input should be a valid list"),
        ({"shards": ["shard-00000.h5"]}, r"manifest\.json is damaged"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused(images, out, change, message):
    write_store(config_with("store.images_per_shard=3"), images, out)
    edit_manifest(out, lambda manifest: manifest.update(change))
    with pytest.raises(StoreError, match=message):
        PatchStore.open(out)


@pytest.mark.parametrize("key", ["grid", "fingerprint", "shards"])
def test_a_manifest_without_a_key_is_refused_by_its_name(images, out, key):
    write_store(config_with(), images, out)
    edit_manifest(out, lambda manifest: manifest.pop(key))
    with pytest.raises(StoreError, match=rf"manifest\.json is damaged \({key} is missing"):
        PatchStore.open(out)


def test_a_store_without_its_settings_is_not_taken_for_the_same(images, out):
    write_store(config_with(), images, out)
    edit_manifest(out, lambda manifest: manifest.pop("settings"))
    with pytest.raises(StoreError, match=r"damaged \(settings is missing"):
        write_store(config_with(), images, out)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"num_images": 2}, r"2 images of 24 pixels take 3456 bytes, not \["),
        ({"num_images": -1}, r"num_images = -1: input should be greater than or equal to 1"),
        ({"num_images": 10**30}, r"manifest\.json is damaged \(shard-00001\.h5: 10{30} images"),
        ({"num_bytes": 100}, r"its pixels end at byte \d+ of 100"),
        ({"pixel_bytes": []}, r"3 images of 24 pixels take 5184 bytes, not \[\]"),
        ({"digest": "0"}, r"shards\.1\.digest = '0': string should match pattern"),
        ({"names": ["a.png", "b/../../c.png", "d.png"]}, r"'b/\.\./\.\./c\.png' is no image"),
        ({"names": ["a.png", "/etc/passwd", "d.png"]}, r"'/etc/passwd' is no image in a folder"),
        ({"names": ["a.png", "b..c.png"]}, r"it has 3 images, but 2 names"),
        ({"file": "shard-00000.h5"}, r"manifest\.json names a shard twice: shard-00000\.h5"),
        ({"num_images": None}, r"manifest\.json is damaged"),
        ({"num_images": "many"}, r"manifest\.json is damaged \(.*many"),
        (
            {"first_image": 4},
            r"should go on with image 3, but names a shard that begins .* 4",
        ),
        (
            {"first_image": 0},
            r"should go on with image 3, but names a shard that begins .* 0",
        ),
        ({"first_image": None}, r"manifest\.json is damaged"),
        ({"file": "shard-00009.h5"}, r"shard-00009\.h5 is missing"),
        ({"file": 5}, r"manifest\.json is damaged"),
        ({"file": "../x.h5"}, r"manifest\.json names a shard outside its folder: '\.\./x\.h5'"),
        ({"file": "/etc/x.h5"}, r"manifest\.json names a shard outside its folder: '/etc/x\.h5'"),
        ({"file": "a/x.h5"}, r"manifest\.json names a shard outside its folder: 'a/x\.h5'"),
        ({"file": "../"}, r"manifest\.json names a shard outside its folder: '\.\./'"),
        ({"file": ".."}, r"manifest\.json names a shard outside its folder: '\.\.'"),
        ({"file": ""}, r"manifest\.json names a shard outside its folder: ''"),
        ({"file": "index.faiss"}, r"manifest\.json names a shard outside its folder: 'index"),
    ],
    ids=str,
)
def test_a_manifest_with_a_wrong_shard_is_refused(images, out, entry, message):
    write_store(config_with("store.images_per_shard=3"), images, out)
    shutil.copy(shard_files(out)[1], out.parent / "x.h5")
    edit_manifest(out, lambda manifest: manifest["shards"][1].update(entry))
    with pytest.raises(StoreError, match=message):
        PatchStore.open(out)


@pytest.mark.parametrize("kept", [0, 100, -200])
def test_a_truncated_shard_is_refused_by_name(images, out, kept):
    write_store(config_with("store.images_per_shard=3"), images, out)
    shard = shard_files(out)[1]
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"shard-00001\.h5 is truncated at byte \d+ of \d+\. Run"):
        PatchStore.open(out)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("names", ["a", "b"], r"'names' should have shape \(3,\), but has \(2,\)"),
        ("digests", ["a"] * 4, r"'digests' should have shape \(3,\), but has \(4,\)"),
        ("valid", np.ones(3, np.uint8), r"'valid' should be bool, but is uint8"),
        ("valid", np.ones(2, np.bool_), r"'valid' should have shape \(3,\), but has \(2,\)"),
        ("thumbnails", np.zeros((3, 4, 4, 3), np.uint8), r"'thumbnails' should have shape \(3, 8"),
        ("images", np.zeros((3, 24, 24, 3), np.int8), r"'images' should be a contiguous uint8"),
    ],
    ids=str,
)
def test_a_shard_with_a_wrong_dataset_is_refused_by_file_and_key(images, out, name, value, message):
    write_store(config_with("store.images_per_shard=3"), images, out)
    with h5py.File(shard_files(out)[1], "r+") as file:
        del file[name]
        file[name] = value
    own_up(out, 1)
    with pytest.raises(StoreError, match=rf"shard-00001\.h5: {message}"):
        PatchStore.open(out)


def test_a_store_of_another_geometry_is_refused(images, out):
    store = write_store(config_with(), images, out)
    store.require_grid(config_with().grid, "the run")
    with pytest.raises(
        StoreError,
        match=r"was cut with PatchGrid\(.*patch_size=8\), but the run asks for .*size=4\)",
    ):
        store.require_grid(config_with(*AVERAGED).grid, "the run")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_store_reads_pngs_without_changing_a_pixel_when_nothing_is_scaled(
    write_images, tmp_path, seed
):
    folder = write_images(f"images-{seed}", size=24, num=5, seed=seed)
    store = write_store(config_with("store.images_per_shard=1"), folder, tmp_path / "store")
    for number, name in enumerate(store.names):
        assert np.array_equal(store.image(number), read_png(folder / name))


def mirrored(place):
    """Over the border of 32 pixels the outermost comes twice: -1 is 0, -2 is 1, 32 is 31."""
    return place if 0 <= place < 32 else -1 - place if place < 0 else 63 - place


@pytest.mark.parametrize("margin", [0, 1, 5, 32])
def test_a_support_shows_its_own_image_around_the_window_mirrored_at_the_border(
    margin, small_store, rng
):
    ids = rng.integers(0, small_store.num_patches, 40)
    supports = small_store.supports(ids, margin)
    side = 8 + 2 * margin
    assert supports.shape == (40, side, side, 3)
    images, rows, cols = small_store.grid.locate(ids)
    for support, image, row, col in zip(supports, images, rows, cols, strict=True):
        pixels = small_store.image(int(image))
        for i in range(side):
            for j in range(0, side, 3):
                y, x = mirrored(4 * row - margin + i), mirrored(4 * col - margin + j)
                assert (support[i, j] == pixels[y, x]).all()


def test_supports_that_cannot_be_had_are_refused(small_store):
    with pytest.raises(GeometryError, match="A margin of 33 pixels cannot be mirrored"):
        small_store.supports(np.array([0]), 33)
    with pytest.raises(StoreError, match=r"holds patches 0 to 293, but -1 to -1 were asked for"):
        small_store.supports(np.array([-1]), 2)
