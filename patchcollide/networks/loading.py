"""Networks to study, by name, and with a layer in a few letters: ``mlp=FILE:fc2``.

Each network's module owns the library it comes from and is imported only when asked for.
"""

import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.activations import TOLERANCES
from patchcollide.networks.factories import is_factory
from patchcollide.networks.layers import LayerSpec
from patchcollide.networks.models.records import preprocessing_of
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.picking import Pick
from patchcollide.networks.plain_modules import copied, plain_module
from patchcollide.networks.preprocessing import Preprocessing

DIGIT_NETWORKS = ("mlp", "lenet5")

NETWORK_NAMES = ("efficientnet_lite0", "vgg16", *DIGIT_NETWORKS)

ALL = "all"


def load_network(settings: Network, seed: int = 0) -> CollisionNetwork:
    """Builds the network that the settings name, on the device they name.

    Args:
        settings: Name, weights, their SHA-256, layer, tolerance, device, precision and whether a
            descent folds it; an empty layer is the network's own default. Precision ``"auto"``
            descends in bfloat16 where the device has matrix units for it.
        seed: Of random weights.

    Raises:
        NetworkError: If the network is unknown, its weights or the layer cannot be used, or there
            is no such device.

    Example:
        >>> network = load_network(Network(name="lenet5", weights="random"))
        >>> network.num_classes
        10
    """
    device = find_device(settings.device)
    load = _load_of_library if ":" in settings.name else _load
    network = load(settings, seed).to(device)
    network.low_precision = settings.precision == "bfloat16" or (
        settings.precision == "auto" and has_bfloat16_units(device)
    )
    network.folded = settings.folded
    return network


def load_at_any_layer(settings: Network, seed: int = 0) -> CollisionNetwork:
    """Builds a network to look at its layers: also if none is usable at the settings' tolerance.

    Args:
        settings: As for :func:`load_network`; their layer is left out.
        seed: Of random weights.

    Raises:
        NetworkError: If there is no such network, or it has no activation that is known.
    """
    settings = settings.model_copy(update={"layer": ""})
    try:
        return load_network(settings, seed)
    except NetworkError:
        if settings.tolerance:
            raise
        return load_network(settings.model_copy(update={"tolerance": max(TOLERANCES)}), seed)


def _load_of_library(settings: Network, seed: int) -> CollisionNetwork:
    """Builds a network of torchvision or timm, or one that a function makes."""
    from patchcollide.networks.models.libraries import LIBRARIES, load_library_network

    library = settings.name.partition(":")[0]
    if library not in LIBRARIES and not is_factory(settings.name):
        raise NetworkError(_unknown(settings.name))
    return load_library_network(settings, seed)


def _load(settings: Network, seed: int) -> CollisionNetwork:
    given = [key for key in ("input_size", "mean", "scale", "output") if getattr(settings, key)]
    load = _loader(settings.name)
    if given:
        raise NetworkError(
            f"network.{given[0]} is for networks of libraries and of one's own, but "
            f"{settings.name} has its own. Leave it out."
        )
    return load(
        weights=settings.weights,
        sha256=settings.sha256,
        layer=settings.layer,
        seed=seed,
        tolerance=settings.tolerance,
    )


def _loader(name: str) -> Callable[..., CollisionNetwork]:
    """Returns what builds a network; what it needs is imported only when it is asked for."""
    if name == "efficientnet_lite0":
        from patchcollide.networks.models.efficientnet_lite0 import load_efficientnet_lite0

        return load_efficientnet_lite0
    if name == "vgg16":
        from patchcollide.networks.models.vgg16 import load_vgg16

        return load_vgg16
    if name in DIGIT_NETWORKS:
        return functools.partial(_load_digit_network, name)
    raise NetworkError(_unknown(name))


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, NETWORK_NAMES, n=1)
    guess = f"; did you mean {close[0]}?" if close else "."
    return (
        f"network.name = '{name}' is not a known network{guess} Known are "
        f"{', '.join(NETWORK_NAMES)}, torchvision:NAME, timm:NAME, and package.module:function "
        "for one of your own; `patchcollide networks` lists all."
    )


def _load_digit_network(name: str, *, weights: str, **common: Any) -> CollisionNetwork:
    from patchcollide.networks.models.digit_networks import load_digit_network
    from patchcollide.networks.models.training import default_weights

    if weights == "pretrained":
        weights = str(default_weights(name))
    return load_digit_network(name, weights=weights, **common)


def network_of_module(
    module: nn.Module,
    settings: Network,
    class_names: Sequence[str] = (),
    output: Pick = None,
) -> CollisionNetwork:
    """Makes a network of a module of the caller's, which stays as it is.

    Args:
        module: Maps images to logits, or to what is made of them.
        settings: Layer, tolerance, device, and what images go through: their size has to be said.
        class_names: One for each class, or none.
        output: Which of the things it returns are its logits; None for what the settings say.

    Raises:
        NetworkError: If the module, its layer or what images go through cannot be used.
    """
    name = type(module).__name__
    if not settings.input_size:
        raise NetworkError(
            f"A module such as {name} takes images of one size. Give it: input_size=..., and "
            "mean=... and scale=... if it wants normalised images."
        )
    channels = len(settings.mean or settings.scale) or 3
    plain = Preprocessing(settings.input_size, (0.0,) * channels, (1.0,) * channels)
    network = CollisionNetwork(
        # Without a copy it would stay frozen, and in evaluation mode.
        copied(plain_module(module, name)),
        name=name,
        layer=LayerSpec(settings.layer, tolerance=settings.tolerance),
        preprocessing=preprocessing_of(settings, plain),
        class_names=class_names,
        output=settings.output or None if output is None else output,
    )
    return network.to(find_device(settings.device))


def find_device(name: str) -> torch.device:
    """Returns the device of a setting; ``"auto"`` is CUDA where there is a GPU, else the CPU.

    Raises:
        NetworkError: If CUDA is asked for and absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise NetworkError(
            "network.device = 'cuda', but PyTorch finds no CUDA device here. Choose --device cpu, "
            "or install a driver and a CUDA build of PyTorch."
        )
    return torch.device(name)


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware: AMX, or a GPU from Ampere on."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    # Private, but the only place where PyTorch says it; without it, no.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


@dataclass(frozen=True)
class NetworkSpec:
    """A network and the layers of it that are asked for.

    Attributes:
        name: As in ``network.name``.
        weights: As in ``network.weights``.
        layers: By their own names or their aliases, or ``all``; empty for what is usual.
        seen: Further settings of the network, by name: what images go through.
    """

    name: str
    weights: str = "pretrained"
    layers: tuple[str, ...] = ()
    seen: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """How it is called in tables."""
        plain = self.weights in ("pretrained", "random")
        weights = "" if self.weights == "pretrained" else f"={self.weights}"
        return self.name + (weights if plain else f"={Path(self.weights).name}")

    def settings(self, base: Network) -> Network:
        """Returns the network's settings; device, precision and tolerance are those of ``base``."""
        changed = {"name": self.name, "weights": self.weights, "layer": "", "sha256": ""}
        return base.model_copy(update=changed | dict(self.seen))


def parse_spec(text: str) -> NetworkSpec:
    """Reads ``NAME[=WEIGHTS][:LAYER[,LAYER ...]]``.

    A file's name may have a colon: what follows the last one is a layer unless there is a file of
    the whole name. So have names of libraries, and of functions: of those the second part is a
    layer only if the first is a network here.

    Raises:
        NetworkError: If a part is empty.
    """
    given, prefix = text, ""
    library, colon, rest = text.partition(":")
    if rest and library and "=" not in library and library not in NETWORK_NAMES:
        prefix, text = f"{library}:", rest
    whole, colon, layers = text.rpartition(":")
    if not colon or Path(text.partition("=")[2]).is_file():
        whole, colon, layers = text, "", ""
    name, has_weights, weights = whole.partition("=")
    names = tuple(layer.strip() for layer in layers.split(",")) if colon else ()
    if not name or (has_weights and not weights) or not all(names):
        raise NetworkError(
            f"'{given}' names no network. Expected is NAME, NAME=WEIGHTS or either with :LAYER "
            "behind, such as mlp=mlp.safetensors:fc2."
        )
    return NetworkSpec(prefix + name, weights or "pretrained", names)


def merge_specs(specs: Sequence[NetworkSpec]) -> list[NetworkSpec]:
    """Joins the layers of specs of one network, in their order; none twice."""
    merged: dict[NetworkSpec, NetworkSpec] = {}
    for spec in specs:
        key = replace(spec, layers=())
        before = merged.get(key, key)
        layers = tuple(dict.fromkeys([*before.layers, *spec.layers]))
        merged[key] = replace(key, layers=layers)
    return list(merged.values())
