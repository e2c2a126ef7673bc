"""Writes ``samples-v1.h5`` beside this file, as the last commit with files of version 1 did.

It was run with ``PYTHONPATH`` at the sources of commit 6831bad; later ones write version 2.
"""

from pathlib import Path

import numpy as np
from patchcollide.hull_samples import HullSamples, save_samples

weights = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]])
shares = np.array([0.5, 0.25, 0.125], np.float32)
part = HullSamples(weights, np.array([0, 2, 1]), shares, shares / 2, shares / 4)
out = Path(__file__).with_name("samples-v1.h5")
save_samples(out, {"hull": part, "tour": part, "check": part}, "f" * 64)
