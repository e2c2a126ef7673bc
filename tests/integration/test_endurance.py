"""The same as the quick tests of kills and flipped bits, at a larger size and far more often."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.images.pictures import write_png
from tests.helpers.archives import KINDS, write_as
from tests.helpers.killing import KILLED, Commands, contents

pytestmark = pytest.mark.slow

SETTINGS = (
    "images.size_px=96",
    "store.images_per_shard=20",
    "index.kind=flat",
    "index.components=16",
    "patches.stride_px=32",
    "retrieval.query_stride_px=32",
)
CONFIG = load_config(overrides=SETTINGS)
WORDS = [word for override in SETTINGS for word in ("--set", override)]


def add_images(folder, num, seed):
    rng = np.random.default_rng(seed)
    for number in range(num):
        place = folder / f"class-{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 256, (120, 100, 3), dtype=np.uint8)
        write_png(place / f"{seed}-{number:04d}.png", picture)
    return folder


def run_killed(command, words, num_kills, rng, whole):
    """Kills a command at random moments, then lets it end; says how often it was hit."""
    shares = rng.uniform(0.02, 0.4, num_kills)
    statuses = [command(*words, killed_after=share * whole) for share in shares]
    assert set(statuses) <= {KILLED, 0}
    assert command(*words) == 0
    return statuses.count(KILLED)


def test_twenty_kills_change_no_byte_of_a_store_nor_of_its_extension(tmp_path):
    images = add_images(tmp_path / "images", 600, seed=0)
    rng = np.random.default_rng(3)
    undisturbed = ["index", images, "--out", tmp_path / "undisturbed", *WORDS]
    words = ["index", images, "--out", tmp_path / "store", *WORDS]
    with Commands() as command:
        assert command(*undisturbed) == 0
        assert run_killed(command, words, 20, rng, command.spent) >= 5
        assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
        add_images(images, 300, seed=1)
        assert command(*undisturbed, "--extend") == 0
        assert run_killed(command, [*words, "--extend"], 20, rng, command.spent) >= 5
        assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
        assert command("verify", tmp_path / "store") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"images", "store", "undisturbed"}


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_kills_change_no_byte_of_a_store_of_archives(kind, tmp_path):
    images = add_images(tmp_path / "images", 400, seed=0)
    source, rng = write_as(kind, images, tmp_path / "source"), np.random.default_rng(5)
    undisturbed = ["index", source, "--out", tmp_path / "undisturbed", *WORDS]
    words = ["index", source, "--out", tmp_path / "store", *WORDS]
    with Commands() as command:
        assert command(*undisturbed) == 0
        assert run_killed(command, words, 20, rng, command.spent) >= 5
        assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
        add_images(images, 200, seed=1)
        write_as(kind, images, tmp_path / "source")
        assert command(*undisturbed, "--extend") == 0
        assert run_killed(command, [*words, "--extend"], 10, rng, command.spent) >= 2
        assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")
        assert command("verify", tmp_path / "store") == 0


def test_twenty_flipped_bits_are_found_and_repaired(tmp_path):
    images = add_images(tmp_path / "images", 400, seed=0)
    store = pipeline.index(CONFIG, images, tmp_path / "store")
    before = contents(store)
    names = sorted(before)
    rng = np.random.default_rng(4)
    for name in rng.choice(names, 20):
        content = bytearray(before[name])
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (store / name).write_bytes(content)
        found = pipeline.verify(store).damages
        assert [damage.file for damage in found] == [name]
        pipeline.repair(store)
        assert contents(store) == before


def test_a_damaged_store_is_verified_and_repaired_by_commands(tmp_path):
    images = add_images(tmp_path / "images", 40, seed=0)
    store = pipeline.index(CONFIG, images, tmp_path / "store")
    before = contents(store)
    shutil.move(images, tmp_path / "moved")
    start = json.loads(before["manifest.json"])["shards"][1]["pixel_bytes"][0]
    content = bytearray(before["shard-00001.h5"])
    content[start] ^= 1
    (store / "shard-00001.h5").write_bytes(content)

    def run(*words):
        command = [sys.executable, "-m", "patchcollide", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True)

    found = run("verify", store)
    assert found.returncode == 2
    assert "shard-00001.h5 has flipped bits in 1 images: 20 (" in found.stdout
    assert run("repair", store).returncode == 2
    assert run("repair", store, "--images", tmp_path / "moved").returncode == 0
    assert run("verify", store).stdout.strip() == "40 images, 2 shards, index: all intact"
    assert contents(store) == before
