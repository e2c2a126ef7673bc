"""An independent judge of tightness: NumPy alone, from a run's PNG files and a network's weights.

It shares no code with the package: ``python tests/helpers/judge.py RUN WEIGHTS.pth`` says what it
finds of a run of the network 784-256-256-10 with ReLU, at its second layer.
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image


def pixels(path):
    """Returns a grey picture of 28 pixels as a vector of 0..255."""
    return np.asarray(Image.open(path).convert("L"), dtype=np.float64).reshape(-1)


def outputs(weights, images):
    """Returns what comes out of the second ReLU, and the logits."""
    values = images / 255
    for name in ("fc1", "fc2"):
        values = np.maximum(values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], 0)
    return values, values @ weights["fc3.weight"].T + weights["fc3.bias"]


def judge(run, weights_file, mixtures=None):
    """Returns tau's mean, 95 % quantile and largest, and how many are of the target's class.

    Of the run's own mixtures of its vertices, or of those given.
    """
    state = torch.load(weights_file, weights_only=True)
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}
    if mixtures is None:
        with h5py.File(Path(run, "samples.h5")) as file:
            mixtures = file["hull_weights"][:]
    vertices = np.stack([pixels(path) for path in sorted(Path(run).glob("vertex-*.png"))])
    samples = np.rint(mixtures @ vertices)
    own, logits = outputs(weights, pixels(Path(run, "target.png"))[None])
    features, chances = outputs(weights, samples)
    tau = np.linalg.norm(features - own, axis=1) / np.linalg.norm(own)
    return {
        "tau_mean": tau.mean(),
        "tau_quantile": np.quantile(tau, 0.95),
        "tau_max": tau.max(),
        "hits": int((chances.argmax(axis=1) == logits.argmax()).sum()),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(judge(*sys.argv[1:3]), indent=2) + "\n")
