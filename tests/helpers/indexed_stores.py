"""Settings of small indexed stores, and what is done to damage them."""

import json

import numpy as np

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.images.pictures import write_png
from tests.conftest import SMALL

SETTINGS = (*SMALL, "store.images_per_shard=3", "index.kind=flat")
CONFIG = load_config(overrides=SETTINGS)
WORDS = [word for override in SETTINGS for word in ("--set", override)]
STORE_FILES = {
    "manifest.json",
    "manifest.backup.json",
    "shard-00000.h5",
    "shard-00001.h5",
    "shard-00002.h5",
    "shard-00003.h5",
    "sums-00000.dat",
    "sums-00001.dat",
    "sums-00002.dat",
    "sums-00003.dat",
}
INDEX_FILES = {"index.faiss", "index.json", "basis.h5"}


def make_images(folder, num, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(num):
        place = folder / f"class-{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{number:02d}.png", rng.integers(0, 256, (33, 32, 3), dtype=np.uint8))
    return folder


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def damages(store, **options):
    found = pipeline.verify(store, **options)
    return {damage.file: damage.what for damage in found.damages}


def entry_of(store, number):
    return json.loads((store / "manifest.json").read_text())["shards"][number]
