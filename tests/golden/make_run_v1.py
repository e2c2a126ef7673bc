"""Writes ``run-v1`` beside this file: a run's folder as the first version that had polytopes did.

Pages and figures, which nothing reads, are left out to keep it small. Later versions of the format
get a folder of their own; this one stays as it is.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from patchcollide.api import find_polytope
from patchcollide.networks.network import CollisionNetwork

folder = Path(__file__).with_name("run-v1")
torch.manual_seed(5)
module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3))
network = CollisionNetwork(
    module, name="tiny", layer="2", input_size=8, mean=(0.5,), scale=(0.5,), class_names="abc"
)
rng = np.random.default_rng(5)
source, target = rng.integers(0, 256, (2, 8, 8), dtype=np.uint8)
settings = {"optimiser.num_vertices": 2, "optimiser.steps": 3, "network.min_confidence": 0}
polytope = find_polytope(network, "2", source, target, settings=settings, seed=5)
polytope.evaluate(num_samples=4)
polytope.save(folder)
for name in ("figure.png", "report.html"):
    (folder / name).unlink()
