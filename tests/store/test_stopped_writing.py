"""A store is written once, resumed when stopped, and refused when it is not what it should be."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import DiskFullError, StoreError
from patchcollide.parallel import LOCAL
from patchcollide.store import shards, writer
from patchcollide.store.writer import write_store
from tests.helpers.stores import Stop, config_with, manifest_of, shard_files, stop_after


def states(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


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
        patched.setattr(shards, "write_hdf5", Stop(finished, error))
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
        patched.setattr(shards, "write_hdf5", Stop(2, KeyboardInterrupt("stop")))
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
        patched.setattr(shards, "write_hdf5", Stop(6, KeyboardInterrupt("stop")))
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
        patched.setattr(shards, "write_hdf5", Stop(2, KeyboardInterrupt("stop")))
        with pytest.raises(KeyboardInterrupt, match="stop"):
            write_store(config, images, out)
    Image.new("RGB", (40, 40), (9, 8, 7)).save(images / "class-0" / "0.png")
    store = write_store(config, images, out)
    assert store.names[0] == "class-0/0.png"
    assert (store.image(0) == (9, 8, 7)).all()


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
