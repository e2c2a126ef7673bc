"""The layers of a module at which features can collide, and what identifies its weights."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from patchcollide.activations import BlindRegions, blind_regions
from patchcollide.errors import NetworkError

_MAX_LISTED = 60


def weights_digest(module: nn.Module) -> str:
    """Returns the SHA-256 of the names, types, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def usable_layers(module: nn.Module) -> list[str]:
    """Returns the names of the modules that have a blind region, in the module's order."""
    return [name for name, part in module.named_modules() if name and blind_regions(part)]


def find_layer(
    module: nn.Module,
    layer: str,
    blind: BlindRegions | None,
    aliases: Mapping[str, str],
    network: str,
) -> tuple[str, BlindRegions]:
    """Resolves a layer's name.

    Args:
        module: The network's.
        layer: A module's name, or one of ``aliases``.
        blind: Overrides what is known of the layer's activation.
        aliases: Other names of layers.
        network: The network's name, for errors.

    Returns:
        The module's own name, and where its activation is constant.

    Raises:
        NetworkError: If there is no such layer, or it has no blind region.
    """
    name = aliases.get(layer, layer)
    usable = usable_layers(module)
    part = dict(module.named_modules(remove_duplicate=False)).get(name) if name else None
    if part is None:
        close = difflib.get_close_matches(layer, [*aliases, *usable], n=1)
        raise NetworkError(
            f"{network} has no layer '{layer}'{f'; did you mean {close[0]}?' if close else '.'} "
            f"Usable are {listed([*aliases, *usable])}."
        )
    blind = blind or blind_regions(part)
    if blind is None:
        raise NetworkError(
            f"Layer '{name}' of {network} is a {type(part).__name__}, which has no region where it "
            "is exactly constant, so nothing can collide there. Usable are "
            f"{listed([*aliases, *usable])}."
        )
    return name, blind


def listed(names: Sequence[str]) -> str:
    """Returns names in a row, the first 60 of them; ``none`` of none."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return (", ".join(names[:_MAX_LISTED]) or "none") + more
