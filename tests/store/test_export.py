"""Patches written out for other programs, and stores read by them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import DiskFullError, StoreError
from patchcollide.images.pictures import write_png
from patchcollide.store import export
from patchcollide.store.export import export_patches
from patchcollide.store.reader import PatchStore
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.helpers.presence import present

GUIDE = Path(__file__).parent.parent.parent / "data" / "guide" / "store.md"


def write_out(store, out, *, compress=False, patches_per_shard=10**6):
    return export_patches(store, out, compress=compress, patches_per_shard=patches_per_shard)


def read(paths):
    """Reads exported files as anybody would."""
    patches, ids = [], []
    for path in paths:
        with h5py.File(path) as file:
            patches.append(file["patches"][:])
            ids.append(file["ids"][:])
            assert (file["patches"].dtype, file["ids"].dtype) == (np.uint8, np.int64)
    return np.concatenate(patches), np.concatenate(ids)


def assert_holds_all_readable(paths, store):
    patches, ids = read(paths)
    positions = store.grid.num_positions
    expected = np.arange(store.num_patches).reshape(-1, positions)[store.valid].ravel()
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(patches, store.patches(ids))


@pytest.fixture
def damaged_store(small_config, write_images, tmp_path):
    """A store of 7 images in shards of 3, of which two cannot be read."""
    folder = write_images(num=7)
    for name in ("class-0/0.png", "class-1/3.png"):
        (folder / name).write_bytes(b"no picture")
    config = load_config(overrides=[*SMALL, "store.images_per_shard=3"])
    return write_store(config, folder, tmp_path / "damaged")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("patches_per_shard", [7, 49, 100, 244, 245, 10**6])
def test_files_hold_the_patches_of_all_readable_images(
    compress, patches_per_shard, damaged_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "_PATCHES_AT_ONCE", 48)
    paths = write_out(
        damaged_store, tmp_path / "a.h5", compress=compress, patches_per_shard=patches_per_shard
    )
    assert_holds_all_readable(paths, damaged_store)
    sizes = [len(read([path])[1]) for path in paths]
    assert sizes[:-1] == [patches_per_shard] * (len(sizes) - 1)
    names = [f"a-{number:05d}.h5" for number in range(len(paths))] if len(paths) > 1 else ["a.h5"]
    assert [path.name for path in paths] == names
    assert {path.name for path in tmp_path.glob("a*")} == set(names)


def test_windows_are_averaged_down_as_they_are_compared(write_images, tmp_path):
    config = load_config(overrides=[*SMALL, "patches.window_px=16", "patches.stride_px=8",
                                    "retrieval.query_stride_px=8"])  # fmt: skip
    store = write_store(config, write_images(num=1), tmp_path / "store")
    paths = write_out(store, tmp_path / "a.h5", patches_per_shard=1)
    assert len(paths) == 9
    assert read(paths)[0].shape == (9, 8, 8, 3)
    assert_holds_all_readable(paths, store)


def test_compressed_files_are_smaller_and_say_so(small_store, tmp_path):
    (plain,) = write_out(small_store, tmp_path / "a.h5")
    (small,) = write_out(small_store, tmp_path / "b.h5", compress=True)
    assert small.stat().st_size < plain.stat().st_size / 2
    with h5py.File(plain) as a, h5py.File(small) as b:
        assert (a["patches"].compression, b["patches"].compression) == (None, "gzip")


def test_files_say_what_they_were_made_from(small_store, tmp_path):
    (path,) = write_out(small_store, tmp_path / "a.h5")
    with h5py.File(path) as file:
        assert file.attrs["encoding-type"] == "patchcollide-patches"
        assert json.loads(file.attrs["export"])["store"] == small_store.fingerprint
        assert json.loads(file.attrs["grid"]) == small_store.grid.to_dict()
        assert json.loads(file.attrs["settings"])["images"]["size_px"] == 32


def test_a_store_without_a_readable_image_is_refused(small_store, tmp_path):
    manifest: Any = {**small_store.manifest, "invalid": [{"reason": "damaged."}]}
    for shard in small_store.shards:
        shard.valid[:] = False
    empty = PatchStore(small_store.path, manifest, small_store.shards)
    with pytest.raises(StoreError, match=r"None of the 6 images.*damaged"):
        write_out(empty, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("patches_per_shard", [100, 10**6])
def test_what_is_there_already_is_refused(patches_per_shard, small_store, tmp_path):
    out = tmp_path / "a[1].h5"
    paths = write_out(small_store, out, patches_per_shard=patches_per_shard)
    before = [path.stat().st_mtime_ns for path in paths]
    for size in (100, 120, 10**6):
        with pytest.raises(StoreError, match=r"a\[1\].*\.h5 is there already.*choose another"):
            write_out(small_store, out, patches_per_shard=size)
    assert [path.stat().st_mtime_ns for path in paths] == before


@pytest.mark.parametrize("strange", ["a.h5", "a-00000.h5", "a-00002.h5", "a-00077.h5"])
def test_files_of_others_are_never_mixed_in(strange, small_store, tmp_path):
    (tmp_path / strange).write_bytes(b"mine")
    with pytest.raises(StoreError, match=f"{strange} is there already"):
        write_out(small_store, tmp_path / "a.h5", patches_per_shard=100)
    assert [path.name for path in tmp_path.glob("a*")] == [strange]
    assert (tmp_path / strange).read_bytes() == b"mine"


def test_a_stopped_export_goes_on_after_the_last_finished_file(small_store, tmp_path, monkeypatch):
    out, gather = tmp_path / "a.h5", PatchStore.patches

    def stop_at_the_third(self, ids):
        if ids[0] >= 200:
            raise KeyboardInterrupt
        return gather(self, ids)

    with monkeypatch.context() as patched:
        patched.setattr(PatchStore, "patches", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            write_out(small_store, out, patches_per_shard=100)
    assert {path.name for path in tmp_path.glob("a*")} == {"a-00000.h5", "a-00001.h5"}
    kept = (tmp_path / "a-00000.h5").stat().st_mtime_ns
    (tmp_path / "a-00002.h5.partial").write_bytes(b"what a killed process left")
    paths = write_out(small_store, out, patches_per_shard=100)
    assert_holds_all_readable(paths, small_store)
    assert paths[0].stat().st_mtime_ns == kept
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("compress", "advice"), [(False, "another --out or --compress"), (True, "another --out")]
)
def test_without_space_it_does_not_begin(compress, advice, small_store, tmp_path, monkeypatch):
    usage = SimpleNamespace(total=10**9, used=10**9 - 3000, free=3000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    needed = "about .* GB" if compress else "5.88e-05 GB"
    message = rf"294 patches of .* need {needed}, but .* has 3e-06 GB free\. .*{advice}\."
    with pytest.raises(StoreError, match=message):
        write_out(small_store, tmp_path / "a.h5", compress=compress)
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize("compress", [False, True])
def test_a_disk_that_fills_up_is_explained_and_leaves_no_half_file(compress, tmp_path, rng):
    noise = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(noise):
        write_png(tmp_path / "noise" / f"{number}.png", image)
    write_store(load_config(overrides=SMALL), tmp_path / "noise", tmp_path / "store")
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from patchcollide.store.export import export_patches\n"
        "from patchcollide.store.reader import PatchStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "store, out = PatchStore.open(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "try:\n"
        f"    export_patches(store, out, compress={compress}, patches_per_shard=10**6)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "a.h5")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{DiskFullError.__name__} No space to write"), done.stdout
    assert not list(tmp_path.glob("a.h5*"))


def test_memory_does_not_grow_with_the_export(small_store, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_PATCHES_AT_ONCE", 10)
    asked, gather = [], PatchStore.patches
    monkeypatch.setattr(
        PatchStore, "patches", lambda self, ids: asked.append(len(ids)) or gather(self, ids)
    )
    write_out(small_store, tmp_path / "a.h5")
    assert sum(asked) == small_store.num_patches
    assert max(asked) == 10


def test_the_command_names_its_files(small_store, tmp_path):
    words = ["export", str(small_store.path), "--out", str(tmp_path / "new" / "a.h5")]
    done = CliRunner().invoke(app, [*words, "--patches-per-shard", "200", "--compress"])
    assert done.exit_code == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == ["a-00000.h5", "a-00001.h5"]
    assert_holds_all_readable(paths, small_store)
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "StoreError" in again.stderr
    assert "is there already" in " ".join(again.stderr.split())


@pytest.mark.parametrize("shard", [0, 1])
def test_the_lines_in_the_guide_read_a_store(shard, damaged_store, tmp_path, monkeypatch):
    text = GUIDE.read_text(encoding="utf-8")
    section = text.split("## Reading a store without patchcollide\n")[1].split("\n## ")[0]
    code = present(re.search(r"```python\n(.*?)```", section, re.DOTALL))[1]
    assert "patchcollide" not in code
    (tmp_path / "stores").mkdir()
    damaged_store.path.rename(tmp_path / "stores" / "photos")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code.replace('["shards"][0]', f'["shards"][{shard}]'), found)  # noqa: S102
    store = PatchStore.open(tmp_path / "stores" / "photos")
    np.testing.assert_array_equal(found["patch"], store.patches(np.array([found["patch_id"]]))[0])
    numbers = np.arange(3 * store.grid.num_positions) + 3 * shard * store.grid.num_positions
    patches = found["patches"].reshape(-1, 8, 8, 3)
    np.testing.assert_array_equal(patches, store.patches(numbers))
    np.testing.assert_array_equal(found["valid"], store.valid[3 * shard : 3 * shard + 3])
