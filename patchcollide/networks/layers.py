"""The layers of a module at which features can collide, and what identifies its weights."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.activations import BlindRegions, blind_regions, response_of
from patchcollide.networks.curves import curve_of

_MAX_LISTED = 60


@dataclass(frozen=True)
class LayerSpec:
    """Which layer is meant, and what counts as blind there.

    Attributes:
        name: Of an activation module, or one of ``aliases``.
        blind: Where the layer's activation is constant; None for what :func:`blind_regions` says.
        tolerance: How far values of the activation may differ and still count as equal, for
            activations that are nowhere exactly constant; unused where ``blind`` is given.
        aliases: Other names of layers.
    """

    name: str
    blind: BlindRegions | None = None
    tolerance: float = 0.0
    aliases: Mapping[str, str] | None = None


def weights_digest(module: nn.Module) -> str:
    """Returns the SHA-256 of the names, types, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def usable_layers(module: nn.Module, tolerance: float = 0.0) -> list[str]:
    """Returns the names of the modules that can be collided at, in the module's order.

    Args:
        module: The network's.
        tolerance: As in :func:`blind_regions`: with 0, modules with an exactly blind region; above
            it, all activation modules that are known.
    """
    parts = module.named_modules()
    return [name for name, part in parts if name and blind_regions(part, tolerance)]


def find_layer(module: nn.Module, layer: LayerSpec, network: str) -> tuple[str, BlindRegions]:
    """Resolves a layer's name.

    Args:
        module: The network's.
        layer: What is asked for.
        network: The network's name, for errors.

    Returns:
        The module's own name, and where its activation is constant.

    Raises:
        NetworkError: If there is no such layer, it has no blind region at this tolerance, or that
            is negative or not finite.
    """
    aliases = layer.aliases or {}
    name = aliases.get(layer.name, layer.name)
    usable = usable_layers(module, layer.tolerance)
    part = dict(module.named_modules(remove_duplicate=False)).get(name) if name else None
    if part is None:
        close = difflib.get_close_matches(layer.name, [*aliases, *usable], n=1)
        guess = f"; did you mean {close[0]}?" if close else "."
        raise NetworkError(
            f"{network} has no layer '{layer.name}'{guess} "
            f"Usable are {listed([*aliases, *usable])}."
        )
    blind = layer.blind or blind_regions(part, layer.tolerance)
    if blind is None:
        raise NetworkError(
            f"Layer '{name}' of {network} is a {type(part).__name__}, which has no region where it "
            f"is exactly constant, so nothing can collide there{_way_out(part)}. Usable are "
            f"{listed([*aliases, *usable])}."
        )
    if blind.response is None:
        blind = replace(blind, response=response_of(part))
    return name, blind


def _way_out(part: nn.Module) -> str:
    if curve_of(part) is None:
        return ""
    return (
        " exactly. To take values for equal that differ by at most so much, set "
        "network.tolerance, for example --set network.tolerance=0.01"
    )


def listed(names: Sequence[str]) -> str:
    """Returns names in a row, the first 60 of them; ``none`` of none."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return (", ".join(names[:_MAX_LISTED]) or "none") + more
