"""Small networks for digits: the paper's 784-256-256-10 and LeNet-5, with any activation."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.layers import LayerSpec, listed
from patchcollide.networks.models.weights import (
    load_weights,
    read_metadata,
    read_state_dict,
    require_no_digest,
)
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.preprocessing import Preprocessing

INPUT_SIZE = 28
CLASS_NAMES = tuple("0123456789")
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}

_FULL_NAMES = {"mlp": "784-256-256-10", "lenet5": "LeNet-5"}
# Layers are called as the paper calls them; what collides is the input of their activation.
_ALIASES = {
    "mlp": {"fc1": "act1", "fc2": "act2"},
    "lenet5": {"conv1": "act1", "conv2": "act2", "fc1": "act3", "fc2": "act4"},
}
_DEFAULT_LAYERS = {"mlp": "act1", "lenet5": "act3"}


def load_digit_network(
    name: str,
    *,
    weights: str,
    sha256: str = "",
    layer: str = "",
    seed: int = 0,
    tolerance: float = 0.0,
) -> CollisionNetwork:
    """Builds ``mlp`` or ``lenet5``, with the ten digits as classes.

    Args:
        name: Which.
        weights: The path of a file that ``patchcollide train`` wrote, or of other weights with its
            names, then with ReLU; or ``"random"``, with ReLU.
        sha256: The SHA-256 that the file must have; empty for any.
        layer: An activation by its own name or its layer's, such as ``fc1``, which is the default.
        seed: Of random weights.
        tolerance: How far values of the activation may differ and still count as equal.

    Raises:
        NetworkError: If the weights or the layer cannot be used.

    Source:
        Li, Zhang and Malik, Section 3.1; LeCun, Bottou, Bengio and Haffner, "Gradient-based
        learning applied to document recognition", 1998, for LeNet-5.
    """
    activation = "relu"
    if weights == "random":
        require_no_digest(sha256)
        module = build_digit_network(name, activation, seed)
    else:
        state_dict = read_state_dict(weights, sha256)
        about = read_metadata(weights)
        _require_kind(name, about, weights)
        activation = about.get("activation", activation)
        module = build_digit_network(name, activation, seed)
        load_weights(module, state_dict, weights)
    suffix = "" if activation == "relu" else f" with {activation}"
    return CollisionNetwork(
        module,
        name=name,
        full_name=_FULL_NAMES[name] + suffix,
        layer=LayerSpec(
            layer or _DEFAULT_LAYERS[name], tolerance=tolerance, aliases=_ALIASES[name]
        ),
        preprocessing=Preprocessing(INPUT_SIZE, mean=(0.0,), scale=(1.0,)),
        class_names=CLASS_NAMES,
    )


def build_digit_network(name: str, activation: str, seed: int) -> nn.Module:
    """Returns a network with random weights, as PyTorch draws them.

    Args:
        name: ``mlp`` or ``lenet5``.
        activation: One of :data:`ACTIVATIONS`.
        seed: Of the weights; torch's global generators are left as they are.

    Raises:
        NetworkError: If there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise NetworkError(
            f"There is no activation '{activation}' for {name}. Known are {listed([*ACTIVATIONS])}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        build = _mlp if name == "mlp" else _lenet5
        return build(ACTIVATIONS[activation])


def _mlp(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(INPUT_SIZE**2, 256),
            act1=activation(),
            fc2=nn.Linear(256, 256),
            act2=activation(),
            fc3=nn.Linear(256, len(CLASS_NAMES)),
        )
    )


def _lenet5(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, kernel_size=5, padding=2),
            act1=activation(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(6, 16, kernel_size=5),
            act2=activation(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * 5 * 5, 120),
            act3=activation(),
            fc2=nn.Linear(120, 84),
            act4=activation(),
            fc3=nn.Linear(84, len(CLASS_NAMES)),
        )
    )


def _require_kind(name: str, about: Mapping[str, str], weights: str) -> None:
    found = about.get("network", name)
    if found != name:
        raise NetworkError(
            f"The weights file {weights} is of '{found}', but the network is '{name}'. Choose "
            f"--network {found}, or other weights."
        )
