"""Writes ``neighbours-v2.h5`` beside this file, as the last commit with files of version 2 did.

It was run with ``PYTHONPATH`` at the sources of commit 8189784; later ones write version 3.
"""

from pathlib import Path

import numpy as np

from patchcollide.geometry import PatchGrid
from patchcollide.retrieval.neighbours import Neighbours, Omissions

rng = np.random.default_rng(2)
grid = PatchGrid(image_size=8, window_size=4, stride=4, patch_size=2)
Neighbours(
    source=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
    grid=grid,
    ids=np.array([[0, 9], [1, 6], [2, 4], [11, 3]], dtype=np.int64),
    squared_distances=np.array([[0, 5], [1, 2], [3, 4], [4, 4]], dtype=np.int64),
    certified=np.array([True, False, True, True]),
    patches=rng.integers(0, 256, (4, 2, 4, 4, 3), dtype=np.uint8),
    image_names={0: "a/0.png", 1: "a/1.png", 2: "b/é.png"},
    omissions=Omissions(leaked_images=1, excluded_images=2, overlapping_patches=3),
).save(Path(__file__).with_name("neighbours-v2.h5"), settings={"seed": 4}, seed=4, store="f" * 64)
