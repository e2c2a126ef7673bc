"""VGG-16, the paper's network, in torchvision's version."""

from pathlib import Path

import torch
from torch import nn

from patchcollide.networks.layers import LayerSpec
from patchcollide.networks.models.caffe_weights import (
    CAFFE_MEAN,
    CAFFE_SCALE,
    CAFFE_SUFFIX,
    read_caffe_weights,
)
from patchcollide.networks.models.torchvision_models import (
    FULL_WIDTH,
    build_vgg16,
    download_path,
    read_pretrained,
    record_of,
)
from patchcollide.networks.models.weights import (
    checked_file,
    load_weights,
    read_state_dict,
    require_no_digest,
)
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.preprocessing import Preprocessing

NAME = "vgg16"
DEFAULT_LAYER = "classifier.1"
LAYER_ALIASES = {"fc6": DEFAULT_LAYER, "fc7": "classifier.4"}
INPUT_SIZE = 224

_MEAN = (0.485, 0.456, 0.406)
_SCALE = (0.229, 0.224, 0.225)


def load_vgg16(
    *,
    weights: str = "pretrained",
    sha256: str = "",
    layer: str = "",
    seed: int = 0,
    width: int = FULL_WIDTH,
    tolerance: float = 0.0,
) -> CollisionNetwork:
    """Builds VGG-16, with 1000 ImageNet classes.

    Args:
        weights: ``"pretrained"`` for torchvision's, downloaded once (528 MB) to torch.hub's
            folder; ``"random"``; or the path of a weights file, with torchvision's names or, as
            ``.npz``, with Caffe's. Caffe's weights come with their own normalisation.
        sha256: The SHA-256 that the weights' file must have; empty for any.
        layer: The name of an activation module, ``fc6`` or ``fc7``; ``fc6`` if empty.
        seed: Of random weights; torch's global generators are left as they are.
        width: Channels of the first convolution; all other layers shrink with it.
        tolerance: How far values of the layer's activation may differ and still count as equal.

    Raises:
        NetworkError: If the weights or the layer cannot be used.
    """
    module, record = build_vgg16(width), record_of("vgg16")
    preprocessing = Preprocessing(INPUT_SIZE, _MEAN, _SCALE)
    if weights == "random":
        require_no_digest(sha256)
        _randomise(module, seed)
    elif weights == "pretrained":
        load_weights(module, read_pretrained(record.url, sha256, "VGG-16"), record.url)
    elif weights.endswith(CAFFE_SUFFIX):
        preprocessing = Preprocessing(INPUT_SIZE, CAFFE_MEAN, CAFFE_SCALE)
        path = checked_file(weights, sha256)
        load_weights(module, read_caffe_weights(path), weights)
    else:
        load_weights(module, read_state_dict(weights, sha256), weights)
    return CollisionNetwork(
        module,
        name=NAME,
        full_name="VGG-16",
        layer=LayerSpec(layer or DEFAULT_LAYER, tolerance=tolerance, aliases=LAYER_ALIASES),
        preprocessing=preprocessing,
        class_names=record.class_names,
    )


def _randomise(module: nn.Module, seed: int) -> None:
    """Initialises as torchvision does, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    module.to_empty(device="cpu")
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(
                part.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, 0.01, generator=generator)
        if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def pretrained_path() -> Path:
    """Returns where torch.hub keeps torchvision's weights, downloaded or not."""
    return download_path(record_of("vgg16").url)
