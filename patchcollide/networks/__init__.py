"""Networks to study, by name.

Each network's module owns the library it comes from and is imported only when asked for.
"""

import difflib

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.network import CollisionNetwork, NetworkOutput, usable_layers

__all__ = ["NETWORK_NAMES", "CollisionNetwork", "NetworkOutput", "load_network", "usable_layers"]

NETWORK_NAMES = ("efficientnet_lite0", "vgg16")


def load_network(settings: Network, seed: int = 0) -> CollisionNetwork:
    """Builds the network that the settings name.

    Args:
        settings: Name, weights, their SHA-256, and layer: the network's own default if empty.
        seed: Of random weights.

    Raises:
        NetworkError: If the network is unknown, or its weights or the layer cannot be used.
    """
    if settings.name == "efficientnet_lite0":
        from patchcollide.networks.efficientnet_lite0 import load_efficientnet_lite0

        return load_efficientnet_lite0(
            weights=settings.weights, sha256=settings.sha256, layer=settings.layer, seed=seed
        )
    if settings.name == "vgg16":
        from patchcollide.networks.vgg16 import load_vgg16

        return load_vgg16(
            weights=settings.weights, sha256=settings.sha256, layer=settings.layer, seed=seed
        )
    close = difflib.get_close_matches(settings.name, NETWORK_NAMES, n=1)
    raise NetworkError(
        f"network.name = '{settings.name}' is not a known network"
        f"{f'; did you mean {close[0]}?' if close else '.'} Known are {', '.join(NETWORK_NAMES)}."
    )
