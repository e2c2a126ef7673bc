"""Networks to study, by name.

Each network's module owns the library it comes from and is imported only when asked for.
"""

import difflib
from typing import Any

import torch

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.layers import usable_layers
from patchcollide.networks.network import CollisionNetwork, NetworkOutput

__all__ = [
    "DIGIT_NETWORKS",
    "NETWORK_NAMES",
    "CollisionNetwork",
    "NetworkOutput",
    "find_device",
    "has_bfloat16_units",
    "load_network",
    "usable_layers",
]

DIGIT_NETWORKS = ("mlp", "lenet5")
NETWORK_NAMES = ("efficientnet_lite0", "vgg16", *DIGIT_NETWORKS)


def load_network(settings: Network, seed: int = 0) -> CollisionNetwork:
    """Builds the network that the settings name, on the device they name.

    Args:
        settings: Name, weights, their SHA-256, layer, tolerance, device and precision; an empty
            layer is the network's own default. Precision ``"auto"`` searches in bfloat16 where the
            device has matrix units for it.
        seed: Of random weights.

    Raises:
        NetworkError: If the network is unknown, its weights or the layer cannot be used, or there
            is no such device.
    """
    device = find_device(settings.device)
    network = _load(settings, seed).to(device)
    network.low_precision = settings.precision == "bfloat16" or (
        settings.precision == "auto" and has_bfloat16_units(device)
    )
    return network


def _load(settings: Network, seed: int) -> CollisionNetwork:
    common: dict[str, Any] = {
        "weights": settings.weights,
        "sha256": settings.sha256,
        "layer": settings.layer,
        "seed": seed,
        "tolerance": settings.tolerance,
    }
    if settings.name == "efficientnet_lite0":
        from patchcollide.networks.efficientnet_lite0 import load_efficientnet_lite0

        return load_efficientnet_lite0(**common)
    if settings.name == "vgg16":
        from patchcollide.networks.vgg16 import load_vgg16

        return load_vgg16(**common)
    if settings.name in DIGIT_NETWORKS:
        return _load_digit_network(settings.name, **common)
    close = difflib.get_close_matches(settings.name, NETWORK_NAMES, n=1)
    raise NetworkError(
        f"network.name = '{settings.name}' is not a known network"
        f"{f'; did you mean {close[0]}?' if close else '.'} Known are {', '.join(NETWORK_NAMES)}."
    )


def _load_digit_network(name: str, *, weights: str, **common: Any) -> CollisionNetwork:
    from patchcollide.networks.digit_networks import load_digit_network
    from patchcollide.networks.digit_weights import default_weights

    if weights == "pretrained":
        weights = str(default_weights(name))
    return load_digit_network(name, weights=weights, **common)


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
