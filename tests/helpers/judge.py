"""An independent judge of tightness: NumPy alone, from a run's PNG files and a network's weights.

It shares no code with the package: ``python tests/helpers/judge.py RUN WEIGHTS.pth fc2`` says what
it finds of a run of 784-256-256-10 or LeNet-5 with ReLU, at a layer, whichever the weights are of.
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image


def convolved(images, kernels, biases, padding):
    """Returns images (n, c, h, w) convolved with kernels (out, c, k, k), every place summed."""
    images = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    places = np.lib.stride_tricks.sliding_window_view(images, kernels.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", places, kernels, optimize=True) + biases[:, None, None]


def outputs(weights, images, layer):
    """Returns what comes out of the layer's ReLU, a row an image, and the logits."""
    values, found = images[:, None] / 255, {}
    for name in sorted({key.split(".")[0] for key in weights}):
        kernels, biases = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if name.startswith("conv"):
            values = convolved(values, kernels, biases, 2 if name == "conv1" else 0)
        else:
            values = values.reshape(len(values), -1) @ kernels.T + biases
        if name != "fc3":
            values = found[name] = np.maximum(values, 0)
        if name.startswith("conv"):
            n, c, h, w = values.shape
            values = values.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
    return found[layer].reshape(len(images), -1), values


def judge(run, weights_file, layer, mixtures=None):
    """Returns tau's mean, 95 % quantile and largest, and how many are of the target's class."""
    state = torch.load(weights_file, weights_only=True)
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}
    if mixtures is None:
        with h5py.File(Path(run, "samples.h5")) as file:
            mixtures = file["hull_weights"][:]
    paths = [Path(run, "target.png"), *sorted(Path(run).glob("vertex-*.png"))]
    target, *vertices = (np.asarray(Image.open(path).convert("L"), np.float64) for path in paths)
    own, logits = outputs(weights, target[None], layer)
    samples = np.rint(np.tensordot(mixtures, np.stack(vertices), axes=1))
    features, chances = outputs(weights, samples, layer)
    tau = np.linalg.norm(features - own, axis=1) / np.linalg.norm(own)
    hits = int((chances.argmax(axis=1) == logits.argmax()).sum())
    quantiles = {"tau_quantile": np.quantile(tau, 0.95), "tau_max": tau.max()}
    return {"tau_mean": tau.mean(), **quantiles, "hits": hits}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(judge(*sys.argv[1:4]), indent=2) + "\n")
