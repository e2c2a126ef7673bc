"""VGG-16, the paper's network, in torchvision's version."""

import http.client
import sys
from pathlib import Path

import torch
import torch.hub
from torch import nn
from torchvision.models import VGG, VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from patchcollide.errors import NetworkError
from patchcollide.io.files import cache_file
from patchcollide.networks.layers import LayerSpec
from patchcollide.networks.models.caffe_weights import (
    CAFFE_MEAN,
    CAFFE_SCALE,
    CAFFE_SUFFIX,
    read_caffe_weights,
)
from patchcollide.networks.models.weights import (
    checked_file,
    load_weights,
    read_state_dict,
    require_no_digest,
)
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.preprocessing import Preprocessing
from patchcollide.shapes import Tensor

NAME = "vgg16"
DEFAULT_LAYER = "classifier.1"
LAYER_ALIASES = {"fc6": DEFAULT_LAYER, "fc7": "classifier.4"}
INPUT_SIZE = 224
FULL_WIDTH = 64

_PRETRAINED = VGG16_Weights.IMAGENET1K_V1
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
    module = build_vgg16(width)
    preprocessing = Preprocessing(INPUT_SIZE, _MEAN, _SCALE)
    if weights == "random":
        require_no_digest(sha256)
        _randomise(module, seed)
    elif weights == "pretrained":
        load_weights(module, _pretrained_state_dict(sha256), str(_PRETRAINED.url))
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
        class_names=tuple(_PRETRAINED.meta["categories"]),
    )


def build_vgg16(width: int = FULL_WIDTH) -> VGG:
    """Returns VGG-16 without values: its parameters are on the meta device.

    Args:
        width: Channels of the first convolution; 64 is torchvision's network, less is a narrow
            one with the same layers for tests.
    """
    with torch.device("meta"):
        module = VGG(nn.Identity(), init_weights=False)
        channels = [c if isinstance(c, str) else c * width // FULL_WIDTH for c in cfgs["D"]]
        module.features = make_layers(channels)
        hidden = 4096 * width // FULL_WIDTH
        module.classifier[0] = nn.Linear(512 * width // FULL_WIDTH * 7 * 7, hidden)
        module.classifier[3] = nn.Linear(hidden, hidden)
        module.classifier[6] = nn.Linear(hidden, 1000)
    return module


def _randomise(module: VGG, seed: int) -> None:
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
    folder, name = Path(torch.hub.get_dir()), str(_PRETRAINED.url).rpartition("/")[2]
    # Without a home, torch.hub would make a folder that is called "~" where one stands.
    return cache_file(name) if folder.parts[0] == "~" else folder / "checkpoints" / name


def _pretrained_state_dict(sha256: str) -> dict[str, Tensor]:
    """Reads torchvision's weights where torch.hub keeps them, downloading them the first time."""
    url = str(_PRETRAINED.url)
    path = pretrained_path()
    name = path.name
    # torchvision names its files NAME-HASH.pth.
    prefix = path.stem.rpartition("-")[2]
    if path.is_file():
        # What is given is more than the prefix, and a file of half a gigabyte is read only once.
        return read_state_dict(path, sha256 or prefix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=prefix, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise NetworkError(
            f"The weights of VGG-16 could not be downloaded from {url}: {error}. Get {name} on "
            f"another machine and put it into {path.parent}, or give the path of a .pth, "
            ".safetensors or Caffe's .npz file: --weights FILE, or network.weights in the "
            "settings. Without any, network.weights = 'random' is for tries."
        ) from error
    return read_state_dict(path, sha256)
