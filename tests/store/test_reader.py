"""The patch store: written once, resumed when stopped, refused when it is not what it should be."""

import errno
import hashlib
import json
import logging
import os
import pickle
import resource
import shutil
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from patchcollide.config_files import load_config
from patchcollide.errors import DiskFullError, GeometryError, ImageError, StoreError
from patchcollide.geometry import PatchGrid
from patchcollide.images.folders import find_images, sample_images, stored_name
from patchcollide.images.pictures import read_image, read_png
from patchcollide.images.thumbnails import thumbnail
from patchcollide.io.provenance import array_digest, self_digest
from patchcollide.io.seals import digest_without
from patchcollide.parallel import LOCAL
from patchcollide.store import shards as shard_writer
from patchcollide.store import writer
from patchcollide.store.changes import find_changes
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.writer import write_store

SETTINGS = (
    "images.size_px=24",
    "patches.window_px=8",
    "patches.stride_px=4",
    "patches.patch_px=8",
    "retrieval.query_stride_px=4",
)
AVERAGED = ("patches.patch_px=4",)


def config_with(*overrides):
    return load_config(overrides=[*SETTINGS, *overrides])


def manifest_of(store):
    return json.loads((store / "manifest.json").read_text())


def edit_manifest(store, change):
    manifest = manifest_of(store)
    change(manifest)
    manifest["digest"] = self_digest(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))


def own_up(store, number):
    """Makes a manifest say that a shard was written as it is now."""
    path = shard_files(store)[number]
    entry = manifest_of(store)["shards"][number]
    entry["num_bytes"] = path.stat().st_size
    entry["sha256_without_pixels"] = digest_without(path, *entry["pixel_bytes"])
    edit_manifest(store, lambda manifest: manifest["shards"].__setitem__(number, entry))


def shard_files(folder):
    return sorted(folder.glob("shard-*.h5"))


def states(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


@pytest.fixture
def images(write_images):
    return write_images(num=7)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "store"


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
    shards = [
        Shard(
            first_image=number * num,
            pixels=np.broadcast_to(image, (num, *image.shape)),
            valid=np.broadcast_to(np.True_, num),
            names=[],
            thumbnails=np.broadcast_to(np.uint8(0), (num, 8, 8, 3)),
            digests=[],
            origin=(tmp_path, 100, {}),
        )
        for number, image in enumerate(images)
    ]
    store = PatchStore(tmp_path, {"grid": grid.to_dict(), "fingerprint": ""}, shards)
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


# Images that cannot be read


@pytest.mark.parametrize("images_per_shard", [1, 2, 9])
def test_an_unreadable_image_keeps_its_slot_with_the_reason(
    images, out, images_per_shard, caplog, monkeypatch
):
    (images / "class-0" / "empty.png").touch()
    (images / "class-1" / "3.png").write_text("no picture")
    whole = (images / "class-0" / "2.png").read_bytes()
    (images / "class-0" / "2.png").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    with caplog.at_level(logging.INFO, "patchcollide"):
        store = write_store(config_with(f"store.images_per_shard={images_per_shard}"), images, out)
    bad = {
        "class-0/2.png": "truncated",
        "class-0/empty.png": "an empty file",
        "class-1/3.png": "not an image of a known format",
    }
    assert store.num_images == 8
    found = {entry["name"]: entry for entry in store.manifest["invalid"]}
    assert found.keys() == bad.keys()
    for name, reason in bad.items():
        number = store.names.index(name)
        assert found[name]["image"] == number
        assert f"{images / name}: {reason}" in found[name]["reason"]
        assert not store.valid[number]
        assert not store.image(number).any()
    assert store.valid.sum() == 5
    assert "holds 8 images, 3 of them unreadable" in caplog.text
    store.require_valid_images()


def test_a_folder_without_a_readable_image_leaves_nothing(tmp_path, out):
    (tmp_path / "bad").mkdir()
    for number in range(3):
        (tmp_path / "bad" / f"{number}.jpg").write_text("no picture")
    with pytest.raises(
        ImageError, match=r"None of the 3 images in .*bad could be read.*0\.jpg: not"
    ):
        write_store(config_with("store.images_per_shard=2"), tmp_path / "bad", out)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_an_empty_or_missing_folder_is_refused(tmp_path, out):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"Expected images .* in .*empty or its folders"):
        write_store(config_with(), tmp_path / "empty", out)
    with pytest.raises(ImageError, match=r"Expected a folder of images, but .* does not exist"):
        write_store(config_with(), tmp_path / "none", out)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_store_whose_images_are_all_invalid_is_refused_with_a_reason(images, out):
    write_store(config_with(), images, out)
    with h5py.File(shard_files(out)[0], "r+") as file:
        file["valid"][...] = False
    own_up(out, 0)
    edit_manifest(
        out,
        lambda manifest: manifest.update(
            invalid=[{"image": 0, "name": "a.png", "reason": "worn out."}]
        ),
    )
    store = PatchStore.open(out)
    with pytest.raises(StoreError, match=r"None of the 7 images .* for example: worn out\. Check"):
        store.require_valid_images()


def save(path, picture, **options):
    picture.save(path, **options)
    return path.read_bytes()


ODD_NAMES = [
    rb"\xff.png",
    b"\xff.png",
    b"\xff5c.png",
    rb"\\xff.png",
    b"\\\xff.png",
    rb"\x5cxff.png",
    rb"back\slash.png",
    "\u00fc.png".encode(),
    "\u00fc.png".encode("latin-1"),
]


def test_no_two_files_have_one_name_in_a_store(tmp_path, out):
    folder = tmp_path / "odd"
    folder.mkdir()
    for number, name in enumerate(ODD_NAMES):
        path = folder / os.fsdecode(name)
        try:
            Image.new("RGB", (24, 24), (number, 0, 0)).save(path, format="png")
        except OSError:
            pytest.skip("this file system knows no names that are not UTF-8")
    store = write_store(config_with(), folder, out)
    assert len(set(store.names)) == len(ODD_NAMES)
    of_value = {int(store.image(number)[0, 0, 0]): name for number, name in enumerate(store.names)}
    for number, name in enumerate(ODD_NAMES):
        assert of_value[number] == stored_name(name)
    assert not find_changes(store, find_images(folder).files, find_images(folder).files)


def test_names_are_decided_by_their_bytes_and_decide_them():
    rng = np.random.default_rng(3)
    letters = [b"\\", b"x", b"5", b"c", b"f", b"\xff", b"\xc3\xbc", b"\xc3"]
    names = {b"".join(rng.choice(letters, rng.integers(1, 9)).tolist()) for _ in range(5000)}
    assert len({stored_name(name) for name in names}) == len(names)
    usual = {name for name in names if b"\\" not in name}
    assert all(stored_name(name) == name.decode(errors="backslashreplace") for name in usual)


def test_bad_and_odd_files_are_stored_as_a_person_would_expect(tmp_path, out):
    folder = tmp_path / "odd"
    folder.mkdir()
    red, grey = Image.new("RGB", (40, 40), (200, 30, 40)), Image.new("L", (40, 40), 77)
    photograph = save(folder / "truncated.JPEG", red, format="jpeg")
    (folder / "truncated.JPEG").write_bytes(photograph[:300])
    (folder / "header.JPEG").write_bytes(photograph[:20])
    (folder / "empty.JPEG").touch()
    (folder / "page.JPEG").write_text("<!DOCTYPE html><html>404 Not Found</html>")
    bomb = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (folder / "bomb.png").write_bytes(png_chunks((b"IHDR", bomb), (b"IDAT", b"x\x9c")))
    save(folder / "grey.JPEG", grey, format="jpeg")
    save(folder / "cmyk.JPEG", Image.new("CMYK", (40, 40), (0, 255, 255, 0)), format="jpeg")
    save(folder / "clear.JPEG", Image.new("RGBA", (40, 40), (9, 9, 9, 0)), format="png")
    save(folder / "tiny.png", Image.new("RGB", (5, 3), (1, 2, 3)))
    save(folder / "banner.png", Image.new("RGB", (4000, 20), (4, 5, 6)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = write_store(config_with("store.images_per_shard=4"), folder, out)
    # Decoded, the bomb would take 10 GB; kilobytes are counted here.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    reasons = {entry["name"]: entry["reason"] for entry in store.manifest["invalid"]}
    bad = {
        "truncated.JPEG": "truncated",
        "header.JPEG": "header.JPEG",
        "empty.JPEG": "an empty file",
        "page.JPEG": "not an image of a known format",
        "bomb.png": "60000 x 60000 pixels, over max_pixels",
    }
    assert reasons.keys() == bad.keys()
    for name, reason in bad.items():
        assert reason in reasons[name]
        assert not store.valid[store.names.index(name)]
    colours = {
        "grey.JPEG": (77, 77, 77),
        "cmyk.JPEG": (255, 0, 0),
        "clear.JPEG": (255, 255, 255),
        "tiny.png": (1, 2, 3),
        "banner.png": (4, 5, 6),
    }
    for name, colour in colours.items():
        number = store.names.index(name)
        assert store.valid[number]
        difference = np.abs(store.image(number).astype(int) - colour)
        assert difference.max() <= 2, name


def png_chunks(*chunks):
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        parts.append(struct.pack(">I", len(data)) + kind + data + crc)
    return b"".join(parts)


# Again, stopped, changed


def test_the_same_inputs_again_change_nothing_and_say_so(images, out, caplog, monkeypatch):
    first = write_store(config_with(), images, out)
    before = states(out)
    monkeypatch.setattr(logging.getLogger("patchcollide"), "propagate", True)
    with caplog.at_level(logging.INFO, "patchcollide"):
        again = write_store(config_with("retrieval.k=1"), images, out)
    assert "made from the same images: nothing to do" in caplog.text
    assert states(out) == before
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("seed=1", r"settings\.seed: found 0, expected 1"),
        ("images.fit=squash", r'settings\.images\.fit: found "crop", expected "squash"'),
        ("images.size_px=28", r"settings\.images\.size_px: found 24, expected 28"),
        ("store.images_per_shard=2", r"settings\.store\.images_per_shard: found 2048, expected 2"),
        ("store.fraction=0.5", r"settings\.store\.fraction: found 1\.0, expected 0\.5"),
    ],
)
def test_other_settings_are_refused_with_what_differs(images, out, override, difference):
    write_store(config_with(), images, out)
    before = states(out)
    with pytest.raises(StoreError, match=f"made with other settings .*{difference}"):
        write_store(config_with(override), images, out)
    assert states(out) == before


def fill(folder):
    folder.mkdir()
    (folder / "thesis.tex").touch()


@pytest.mark.parametrize("make", [Path.touch, fill])
def test_what_is_no_store_is_never_overwritten(images, out, make):
    make(out)
    with pytest.raises(StoreError, match=r"is not a patch store: it holds no manifest\.json"):
        write_store(config_with(), images, out)
    assert {path.name for path in out.parent.iterdir()} == {"images", "store"}


def test_an_empty_folder_may_become_a_store(images, out):
    out.mkdir()
    assert write_store(config_with(), images, out).num_images == 7


class Stop:
    """Lets a few shards be written, then raises."""

    def __init__(self, after, error):
        self.after, self.error, self.original = after, error, shard_writer.write_hdf5

    def __call__(self, path, **contents):
        if self.after == 0:
            raise self.error
        self.after -= 1
        return self.original(path, **contents)


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in shard_files(folder)}


@pytest.mark.parametrize(
    ("images_per_shard", "finished", "error"),
    [
        (1, 0, KeyboardInterrupt("stop")),
        (1, 6, KeyboardInterrupt("stop")),
        (2, 1, DiskFullError("stop")),
        (3, 2, DiskFullError("stop")),
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_and_ends_like_an_undisturbed_one(
    images, out, tmp_path, monkeypatch, images_per_shard, finished, error
):
    (images / "class-1" / "1.png").write_text("no picture")
    config = config_with(f"store.images_per_shard={images_per_shard}")
    undisturbed = tmp_path / "undisturbed"
    write_store(config, images, undisturbed)
    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_hdf5", Stop(finished, error))
        with pytest.raises(type(error), match="stop"):
            write_store(config, images, out)
    assert not out.exists()
    partial = tmp_path / "store.partial"
    partial.mkdir(exist_ok=True)
    kept = states(partial)
    assert len(kept) == finished
    # What a killed process may leave: half of a shard.
    (partial / f"shard-{finished:05d}.h5.partial").write_bytes(b"half")
    write_store(config, images, out)
    assert {name: state for name, state in states(out).items() if name in kept} == kept
    assert not partial.exists()
    assert shard_bytes(out) == shard_bytes(undisturbed)
    assert manifest_of(out) == manifest_of(undisturbed)
    assert {path.name for path in out.iterdir()} == {path.name for path in undisturbed.iterdir()}


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-50], lambda data: data[:0], lambda data: data[::-1]]
)
def test_a_damaged_shard_of_a_stopped_run_is_written_again(
    images, out, tmp_path, monkeypatch, damage
):
    config = config_with("store.images_per_shard=2")
    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_hdf5", Stop(2, KeyboardInterrupt("stop")))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            write_store(config, images, out)
    broken = tmp_path / "store.partial" / "shard-00000.h5"
    broken.write_bytes(damage(broken.read_bytes()))
    write_store(config, images, out)
    write_store(config, images, tmp_path / "undisturbed")
    assert shard_bytes(out) == shard_bytes(tmp_path / "undisturbed")


def test_shards_of_a_stopped_run_with_other_settings_are_not_kept(
    images, out, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_hdf5", Stop(6, KeyboardInterrupt("stop")))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            write_store(config_with("store.images_per_shard=1"), images, out)
    config = config_with("store.images_per_shard=3", "images.fit=squash")
    write_store(config, images, out)
    write_store(config, images, tmp_path / "undisturbed")
    assert shard_bytes(out) == shard_bytes(tmp_path / "undisturbed")
    assert len(list(out.iterdir())) == 5


def test_a_changed_image_is_read_again_after_a_stop(images, out, monkeypatch):
    config = config_with("store.images_per_shard=1")
    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_hdf5", Stop(2, KeyboardInterrupt("stop")))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            write_store(config, images, out)
    Image.new("RGB", (40, 40), (9, 8, 7)).save(images / "class-0" / "0.png")
    store = write_store(config, images, out)
    assert store.names[0] == "class-0/0.png"
    assert (store.image(0) == (9, 8, 7)).all()


def stop_after(num, config, images, out, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "write_hdf5", Stop(num, KeyboardInterrupt("stop")))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            write_store(config, images, out)


@pytest.mark.parametrize("seed", range(5))
def test_one_flipped_bit_in_a_finished_shard_of_a_stopped_run_is_found(
    images, out, tmp_path, monkeypatch, seed
):
    config = config_with("store.images_per_shard=2")
    stop_after(2, config, images, out, monkeypatch)
    shard = tmp_path / "store.partial" / "shard-00001.h5"
    content = bytearray(shard.read_bytes())
    rng = np.random.default_rng(seed)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    shard.write_bytes(content)
    write_store(config, images, out)
    write_store(config, images, tmp_path / "undisturbed")
    assert shard_bytes(out) == shard_bytes(tmp_path / "undisturbed")


def test_a_run_stopped_before_its_last_renaming_goes_on(images, out, tmp_path):
    config = config_with("store.images_per_shard=2")
    write_store(config, images, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    out.rename(tmp_path / "store.partial")
    (tmp_path / "store.partial" / "manifest.json.partial").write_text("{")
    write_store(config, images, out)
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.items() >= before.items()


def test_settings_that_decide_no_pixels_do_not_lose_finished_shards(
    images, out, tmp_path, monkeypatch
):
    stop_after(3, config_with("store.images_per_shard=2"), images, out, monkeypatch)
    kept = states(tmp_path / "store.partial")
    assert len(kept) == 3
    write_store(config_with("store.images_per_shard=2", "retrieval.k=7"), images, out)
    assert states(out).items() >= kept.items()


def test_shards_can_be_written_in_other_processes(images, out, tmp_path, monkeypatch):
    backends = []

    def sent(function, items, backend):
        backends.append(backend)
        for item in items:
            message = pickle.dumps((function, item))
            assert len(message) < 10_000
            function, item = pickle.loads(message)  # noqa: S301
            yield function(item)

    config = config_with("store.images_per_shard=2")
    write_store(config, images, tmp_path / "undisturbed")
    monkeypatch.setattr(writer, "map_shards", sent)
    write_store(config, images, out, backend=LOCAL)
    assert backends == [LOCAL]
    assert shard_bytes(out) == shard_bytes(tmp_path / "undisturbed")


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


def test_finished_shards_need_no_more_room(images, out, monkeypatch):
    config = config_with("store.images_per_shard=2")
    write_store(config, images, out)
    out.rename(out.with_name("store.partial"))
    usage = shutil.disk_usage(out.parent)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert write_store(config, images, out).num_images == 7


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
