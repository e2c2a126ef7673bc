"""Writes ``store-v1`` beside this file, as the last commit with stores of version 1 did.

It was run with ``PYTHONPATH`` at the sources of commit 2f72679; later ones write version 2 of the
store, its shards, its index and its basis.
"""

import tempfile
from pathlib import Path

import numpy as np

from patchcollide import pipeline
from patchcollide.config import load_config
from patchcollide.images import write_png

SETTINGS = (
    "images.size_px=8",
    "patches.window_px=4",
    "patches.stride_px=4",
    "patches.patch_px=2",
    "retrieval.query_stride_px=4",
    "index.components=3",
    "index.kind=flat",
)

with tempfile.TemporaryDirectory() as folder:
    for number in range(4):
        pixels = (np.arange(192) * (2 * number + 1) % 192).astype(np.uint8).reshape(8, 8, 3)
        place = Path(folder) / "pictures" / f"class-{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{number}.png", pixels)
    out = Path(__file__).with_name("store-v1")
    pipeline.index(load_config(overrides=SETTINGS), Path(folder) / "pictures", out)
# It is refused for what its manifest says: the other files, four times as large, are not looked at.
for path in out.iterdir():
    if path.name != "manifest.json":
        path.unlink()
