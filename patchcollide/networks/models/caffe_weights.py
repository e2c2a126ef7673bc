"""VGG-16 as it was first published: Caffe's weights in an ``.npz`` archive.

What the paper used. The network expects RGB in 0..255 less a mean colour, without scaling, and its
first fully connected layer flattens in height, width, channel order.
"""

from pathlib import Path

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.io.npz import NpzReader, open_npz
from patchcollide.shapes import Float, Float32, Tensor, ndarray

CAFFE_SUFFIX = ".npz"

# Of images in [0, 1], so that (x - mean) / scale is the grey level less the mean colour.
CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_SCALE = (1 / 255,) * 3

_FINAL_SIDE = 7
_MAX_CHANNELS = 512
_MAX_HIDDEN = 4096
_NUM_CLASSES = 1000

# A convolution's place in torchvision's `features`: each is followed by a ReLU, a block by a pool.
_CONVOLUTIONS = {
    "conv1_1": "features.0",
    "conv1_2": "features.2",
    "conv2_1": "features.5",
    "conv2_2": "features.7",
    "conv3_1": "features.10",
    "conv3_2": "features.12",
    "conv3_3": "features.14",
    "conv4_1": "features.17",
    "conv4_2": "features.19",
    "conv4_3": "features.21",
    "conv5_1": "features.24",
    "conv5_2": "features.26",
    "conv5_3": "features.28",
}
_LAYERS = _CONVOLUTIONS | {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}


def read_caffe_weights(path: Path) -> dict[str, Tensor]:
    """Reads Caffe's weights of VGG-16 under torchvision's names.

    Convolutions go from (height, width, in, out) to (out, in, height, width), fully connected
    layers from (in, out) to (out, in), and what fc6 takes in from height, width, channel order to
    channel, height, width.

    Args:
        path: An ``.npz`` with ``conv1_1_W`` (3, 3, 3, 64) and ``conv1_1_b`` to ``conv5_3_W``,
            ``fc6_W`` (25088, 4096), ``fc7_W``, ``fc8_W`` (4096, 1000) and their ``_b``. All widths
            but those of the ends may be smaller, as long as each layer fits the one before.

    Returns:
        The tensors by name, float32; for images less :data:`CAFFE_MEAN` by :data:`CAFFE_SCALE`.

    Raises:
        NetworkError: If the file is missing or damaged, if an array is missing, has a shape that
            does not fit or is not of floating-point numbers, or if it holds Python objects.

    Source:
        The released code of Li, Zhang and Malik, NeurIPS 2019.
    """
    with open_npz(path, error=NetworkError) as archive:
        shapes = _checked_shapes(archive, path)
        state_dict = {}
        for layer, name in _LAYERS.items():
            weight = archive.array(f"{layer}_W", shapes[f"{layer}_W"])
            bias = archive.array(f"{layer}_b", shapes[f"{layer}_b"])
            state_dict[f"{name}.weight"] = torch.from_numpy(_turned(layer, weight))
            state_dict[f"{name}.bias"] = torch.from_numpy(bias)
    return state_dict


def channels_first(weight: Float[ndarray, "rows units"], side: int) -> Float[ndarray, "units rows"]:
    """Rearranges weights on what is flattened height, width, channel to channel, height, width.

    Args:
        weight: A row for each place and channel, a column for each unit.
        side: Height and width of what is flattened.

    Returns:
        A row for each unit.
    """
    channels = len(weight) // side**2
    by_place = weight.reshape(side, side, channels, weight.shape[1])
    return np.ascontiguousarray(by_place.transpose(3, 2, 0, 1)).reshape(weight.shape[1], -1)


def _turned(layer: str, weight: Float32[ndarray, "..."]) -> Float32[ndarray, "..."]:
    if layer in _CONVOLUTIONS:
        return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
    if layer == "fc6":
        return channels_first(weight, _FINAL_SIDE)
    return np.ascontiguousarray(weight.T)


def _checked_shapes(archive: NpzReader, path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every array, which must fit each other, before any is unpacked."""
    names = [f"{layer}_{kind}" for layer in _LAYERS for kind in "Wb"]
    missing = [name for name in names if name not in archive.names]
    if missing:
        raise NetworkError(
            f"{path} does not hold Caffe's VGG-16: it lacks {', '.join(missing[:4])}"
            f"{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}. Expected are "
            "conv1_1_W to fc8_W and conv1_1_b to fc8_b."
        )
    shapes = {name: archive.shape(name) for name in names}
    before = 3
    for layer in _LAYERS:
        before *= _FINAL_SIDE**2 if layer == "fc6" else 1
        weight, bias = shapes[f"{layer}_W"], shapes[f"{layer}_b"]
        window = (3, 3) if layer in _CONVOLUTIONS else ()
        if not _is_width_of(layer, bias) or weight != (*window, before, *bias):
            raise NetworkError(
                f"{path} does not fit VGG-16: {layer}_W has shape {weight} and {layer}_b {bias}, "
                f"where {layer} takes in {before} {'channels' if window else 'values'}. Get the "
                "weights of VGG-16 with 16 layers (Caffe's configuration D)."
            )
        (before,) = bias
    return shapes


def _is_width_of(layer: str, bias: tuple[int, ...]) -> bool:
    if layer == "fc8":
        return bias == (_NUM_CLASSES,)
    most = _MAX_CHANNELS if layer in _CONVOLUTIONS else _MAX_HIDDEN
    return len(bias) == 1 and 1 <= bias[0] <= most
