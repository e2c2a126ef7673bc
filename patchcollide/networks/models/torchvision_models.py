"""The classifiers of torchvision: their names, architectures, records, and downloads."""

import functools
import http.client
import re
import sys
from pathlib import Path
from typing import Any

import torch
import torch.hub
import torchvision.models as models
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from patchcollide.errors import NetworkError
from patchcollide.io.files import cache_file
from patchcollide.networks.models.records import NetworkRecord
from patchcollide.networks.models.weights import read_state_dict
from patchcollide.networks.preprocessing import Preprocessing
from patchcollide.shapes import Tensor

FULL_WIDTH = 64

# Only these have further heads, which their weights' files hold, and may change what comes in.
_WITH_HEADS = ("googlenet", "inception_v3")

_SIZE_IS_FIXED = {"maxvit": "input_size", "vit": "image_size"}

# Files of before PyTorch 1.0 name layers so.
_OLD_DENSE_LAYER = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def torchvision_names() -> list[str]:
    """Returns the names of all classifiers, in alphabetical order."""
    return list(models.list_models(module=models))


@functools.cache
def record_of(name: str) -> NetworkRecord:
    """Returns what torchvision says of its own weights of a network, the newest ones.

    Of VGG-16 these are the first, with which everything here was measured.
    """
    all_weights = models.get_model_weights(name)
    weights: Any = all_weights["IMAGENET1K_V1"] if name == "vgg16" else all_weights["DEFAULT"]
    seen: Any = weights.transforms()
    preprocessing = Preprocessing(seen.crop_size[0], tuple(seen.mean), tuple(seen.std))
    return NetworkRecord(preprocessing, tuple(weights.meta["categories"]), str(weights.url))


def build_torchvision(
    name: str,
    input_size: int,
    *,
    num_classes: int = 1000,
    own_weights: bool = False,
    further_heads: bool = False,
) -> nn.Module:
    """Returns a network with random weights.

    Args:
        name: One of :func:`torchvision_names`.
        input_size: Side of its images, in pixels.
        num_classes: How many classes it has.
        own_weights: Whether it is to get torchvision's own, before which some normalise anew.
        further_heads: Whether it has the heads that some are trained with.

    Raises:
        NetworkError: If it takes no images of this size.
    """
    options: dict[str, Any] = {"num_classes": num_classes}
    if name in _WITH_HEADS:
        options |= {"init_weights": False, "transform_input": own_weights}
        options["aux_logits"] = further_heads
    fixed = _SIZE_IS_FIXED.get(name.partition("_")[0])
    if fixed:
        sizes = (input_size, input_size) if fixed == "input_size" else input_size
        options[fixed] = sizes
    try:
        module: nn.Module = models.get_model(name, weights=None, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise NetworkError(
            f"torchvision:{name} cannot be built for images of {input_size} pixels: {error} "
            "Choose another --input-size."
        ) from error
    return module


def renamed(name: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gives tensors of torchvision's older files the names of today."""
    if not name.startswith("densenet"):
        return state_dict
    return {_OLD_DENSE_LAYER.sub(r"\1\2", key): tensor for key, tensor in state_dict.items()}


def download_path(url: str) -> Path:
    """Returns where torch.hub keeps a file, downloaded or not."""
    folder, name = Path(torch.hub.get_dir()), url.rpartition("/")[2]
    # Without a home, torch.hub would make a folder that is called "~" where one stands.
    return cache_file(name) if folder.parts[0] == "~" else folder / "checkpoints" / name


def read_pretrained(url: str, sha256: str, label: str) -> dict[str, Tensor]:
    """Reads torchvision's weights where torch.hub keeps them, downloading them the first time.

    Args:
        url: Where they are.
        sha256: The SHA-256 that the file must have; empty for any.
        label: Of the network, for errors.

    Raises:
        NetworkError: If they cannot be had.
    """
    path = download_path(url)
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
        files = "a .pth, .safetensors or Caffe's .npz file" if label == "VGG-16" else "its file"
        raise NetworkError(
            f"The weights of {label} could not be downloaded from {url}: {error}. Get {name} on "
            f"another machine and put it into {path.parent}, or give the path of {files}: "
            "--weights FILE, or network.weights in the settings. Without any, network.weights = "
            "'random' is for tries."
        ) from error
    return read_state_dict(path, sha256)


def build_vgg16(width: int = FULL_WIDTH) -> nn.Module:
    """Returns VGG-16 without values: its parameters are on the meta device.

    Args:
        width: Channels of the first convolution; 64 is torchvision's network, less is a narrow
            one with the same layers for tests.
    """
    with torch.device("meta"):
        module = models.VGG(nn.Identity(), init_weights=False)
        channels = [c if isinstance(c, str) else c * width // FULL_WIDTH for c in cfgs["D"]]
        module.features = make_layers(channels)
        hidden = 4096 * width // FULL_WIDTH
        module.classifier[0] = nn.Linear(512 * width // FULL_WIDTH * 7 * 7, hidden)
        module.classifier[3] = nn.Linear(hidden, hidden)
        module.classifier[6] = nn.Linear(hidden, 1000)
    built: nn.Module = module
    return built
