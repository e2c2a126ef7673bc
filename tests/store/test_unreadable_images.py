"""Images that cannot be read, and names that are no text."""

import logging
import os
import resource
import struct
import zlib

import h5py
import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import ImageError, StoreError
from patchcollide.images.listings import stored_name
from patchcollide.images.sources import find_images
from patchcollide.store.changes import find_changes
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.helpers.stores import config_with, edit_manifest, own_up, shard_files


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
