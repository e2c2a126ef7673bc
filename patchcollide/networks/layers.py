"""The layers of a module at which features can collide, and what identifies its weights."""

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.activations import (
    BlindRegions,
    blind_regions,
    response_of,
    suggested_tolerance,
)
from patchcollide.networks.calls import Call, names_of
from patchcollide.networks.curves import curve_of

_MAX_LISTED = 60


@dataclass(frozen=True)
class LayerSpec:
    """Which layer is meant, and what counts as blind there.

    Attributes:
        name: Of a run of an activation, see :class:`patchcollide.networks.calls.Call`, or one of
            ``aliases``; empty for the last usable one.
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


def usable_calls(calls: Sequence[Call], tolerance: float = 0.0) -> list[Call]:
    """Returns the runs of activations that can be collided at, in their order.

    Args:
        calls: All, as :func:`patchcollide.networks.calls.list_calls` finds them.
        tolerance: As in :func:`blind_regions`: with 0, those of activations with an exactly blind
            region; above it, all that see a row for each image.
    """
    return [call for call in calls if call.by_image and blind_regions(call.activation, tolerance)]


def find_call(
    module: nn.Module,
    layer: LayerSpec,
    network: str,
    calls: Callable[[], Sequence[Call]],
    blind_at: Callable[[Call], Mapping[float, float]],
) -> tuple[Call, BlindRegions]:
    """Resolves a layer's name.

    Args:
        module: The network's.
        layer: What is asked for; an empty name is the last usable run of an activation.
        network: The network's name, for errors.
        calls: Lists all runs of activations, which takes a pass: asked only where the name is not
            that of an activation module.
        blind_at: Says which share of a run's units is blind at which tolerance: asked in errors.

    Returns:
        The run of an activation, and where that is constant. A module's own name is its first run.

    Raises:
        NetworkError: If there is no such layer, it has no blind region at this tolerance, or that
            is negative or not finite.
    """
    aliases = layer.aliases or {}
    name = aliases.get(layer.name, layer.name)
    part = dict(module.named_modules()).get(name) if name else None
    if part is not None and (layer.blind or blind_regions(part, layer.tolerance)):
        call = Call(name, name, part)
    else:
        call = _find(module, name, _Runs(network, calls(), layer, blind_at))
    blind = layer.blind or blind_regions(call.activation, layer.tolerance)
    if blind is None:
        raise NetworkError(_unusable(call, _Runs(network, calls(), layer, blind_at)))
    if blind.response is None:
        blind = replace(blind, response=response_of(call.activation))
    return call, blind


@dataclass(frozen=True)
class _Runs:
    """All runs of a network's activations, and what was asked for: what errors tell."""

    network: str
    calls: Sequence[Call]
    layer: LayerSpec
    blind_at: Callable[[Call], Mapping[float, float]]

    @property
    def usable(self) -> list[str]:
        names = [call.name for call in usable_calls(self.calls, self.layer.tolerance)]
        return [*(self.layer.aliases or {}), *names]


def _find(module: nn.Module, name: str, runs: _Runs) -> Call:
    """Finds a run whose name is not that of a usable activation module."""
    if not name:
        return _last(runs)
    found = next((call for call in runs.calls if call.name == name), None)
    part = dict(module.named_modules(remove_duplicate=False)).get(name)
    if found is not None:
        return found
    if part is None:
        _raise_not_found(name, runs)
    own = next(own for own, other in module.named_modules() if other is part)
    names = names_of(runs.calls, (own, ""))
    if own != name and len(names) > 1:
        raise NetworkError(
            f"Layer '{name}' of {runs.network} is '{own}' by another name, which runs {len(names)} "
            f"times in a forward pass. Choose one of its runs: {listed(names)}."
        )
    return Call(name, name, part)


def _last(runs: _Runs) -> Call:
    usable = usable_calls(runs.calls, runs.layer.tolerance)
    if usable:
        return usable[-1]
    if not runs.calls:
        raise NetworkError(
            f"{runs.network} runs no activation that is known, so there is no layer at which "
            "features can collide. Give it one of torch.nn's, or call torch.nn.functional's."
        )
    raise NetworkError(_unusable(runs.calls[-1], runs))


def _raise_not_found(name: str, runs: _Runs) -> NoReturn:
    base, _, number = name.rpartition("_")
    sites = {call.site for call in runs.calls if call.name == base}
    names = [each for site in sites for each in names_of(runs.calls, site)]
    if names and number.isdecimal():
        times = "once" if len(names) == 1 else f"{len(names)} times"
        why = f": '{base}' runs {times} in a forward pass ({listed(names)})."
    else:
        close = difflib.get_close_matches(name, runs.usable, n=1)
        why = f"; did you mean {close[0]}?" if close else "."
    raise NetworkError(
        f"{runs.network} has no layer '{name}'{why} Usable are {listed(runs.usable)}."
    )


def _unusable(call: Call, runs: _Runs) -> str:
    way_out = ""
    if curve_of(call.activation) is not None:
        shares = runs.blind_at(call)
        told = ", ".join(f"{share:.0%} at {tolerance:g}" for tolerance, share in shares.items())
        way_out = (
            " exactly. To take values for equal that differ by at most so much, set "
            f"network.tolerance, for example --set network.tolerance="
            f"{suggested_tolerance(shares):g}; of an image of noise, so many of its units are then "
            f"blind: {told or 'not known'}"
        )
    return (
        f"Layer '{call.name}' of {runs.network} is a {call.kind}, which has no region where it "
        f"is exactly constant, so nothing can collide there{way_out}. Usable are "
        f"{listed(runs.usable)}."
    )


def listed(names: Sequence[str]) -> str:
    """Returns names in a row, the first 60 of them; ``none`` of none."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return (", ".join(names[:_MAX_LISTED]) or "none") + more
