"""All activations of a network, and what can be asked at each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import torch

from patchcollide.errors import NetworkError
from patchcollide.networks.activations import (
    BlindRegions,
    blind_regions,
    blind_shares,
    suggested_tolerance,
)
from patchcollide.networks.affine import require_affine
from patchcollide.networks.calls import Call, Hooks, calls_hooked
from patchcollide.networks.linear_regions.points import trace
from patchcollide.networks.network import CollisionNetwork
from patchcollide.shapes import Float, Tensor
from patchcollide.torch_modes import proof_modes

_RGB = 3

Question: TypeAlias = Callable[[CollisionNetwork], object]
"""What is asked of a whole network, in float64 on the CPU; NetworkError if it cannot be."""

_NONE: Mapping[str, Question] = MappingProxyType({})


@dataclass(frozen=True)
class LayerOverview:
    """A run of an activation, and what is known of it.

    Attributes:
        call: The run.
        units: How many.
        blind: Where its activation is constant, to the network's tolerance; None if nowhere.
        active: Which share of units is active at the image; None where there is no blind region.
        blind_shares: Of the image's units, by tolerance; of activations that are not exactly
            constant anywhere.
        can: What can be asked: ``pixels``, ``patches``, ``exact``, ``walk``, and whatever else
            was tried of the whole network.
    """

    call: Call
    units: int
    blind: BlindRegions | None
    active: float | None
    blind_shares: dict[float, float]
    can: tuple[str, ...]

    @property
    def regions(self) -> str:
        """Where it is blind, in a few letters."""
        if not self.call.by_image:
            return "sees parts of images"
        if self.blind is None:
            return f"with tolerance {suggested_tolerance(self.blind_shares):g}"
        ends = [
            f"{sign} {end:.4g}"
            for sign, end in (("<=", self.blind.low), (">=", self.blind.high))
            if end is not None
        ]
        return ", ".join(ends) or "nowhere"


@dataclass(frozen=True)
class NetworkOverview:
    """A network's activations.

    Attributes:
        layers: In the order of a pass.
        refusals: Why something cannot be asked of the whole network, by what: ``walk``, and
            whatever else was tried.
    """

    layers: tuple[LayerOverview, ...]
    refusals: dict[str, str]


@proof_modes()
def overview_of(
    network: CollisionNetwork,
    image: Float[Tensor, "1 channels height width"],
    tolerance: float = 0.0,
    questions: Mapping[str, Question] = _NONE,
) -> NetworkOverview:
    """Returns what can be asked of a network, layer by layer.

    Nothing is said to be possible that was not tried, but for the descents, which need no more than
    a blind region and gradients; exact polytopes and walks are tried at the image.

    Args:
        network: The network, at any layer.
        image: In ``[0, 1]``.
        tolerance: How far values of activations may differ and still count as equal.
        questions: What else to try of the whole network, by name.

    Raises:
        NetworkError: If the network cannot be run.
    """
    found: dict[Call, tuple[float | None, dict[float, float]]] = {}

    def see(call: Call, z: Tensor) -> None:
        blind = blind_regions(call.activation, tolerance)
        active = None if blind is None else float(blind.masks(z)[0].double().mean())
        is_exact = blind_regions(call.activation) is not None
        found[call] = active, {} if is_exact else blind_shares(call.activation, z)

    hooks = {call: Hooks(partial(see, call)) for call in network.calls}
    with torch.no_grad(), calls_hooked(network.module, hooks):
        network.module(network.prepared(image))
    # Proofs and walks are of the processor's float64.
    double = network.in_float64().to("cpu")
    questions = {"walk": partial(_walk, image=image.to("cpu")), **questions}
    refusals = {name: _refusal(double, question) for name, question in questions.items()}
    possible = tuple(name for name, refusal in refusals.items() if not refusal)
    layers = []
    for call in network.calls:
        if call not in found:
            continue
        active, shares = found[call]
        blind = blind_regions(call.activation, tolerance)
        can = (*_can(double, call), *possible) if blind and call.by_image else ()
        layers.append(LayerOverview(call, math.prod(call.shape), blind, active, shares, can))
    said = {name: refusal for name, refusal in refusals.items() if refusal}
    return NetworkOverview(tuple(layers), said)


def _can(double: CollisionNetwork, call: Call) -> tuple[str, ...]:
    can = ["pixels"]
    if double.channels == _RGB:
        can.append("patches")
    shown = double.showing(call)
    shown.units = math.prod(call.shape)
    if not _refusal(shown, require_affine):
        can.append("exact")
    return tuple(can)


def _walk(double: CollisionNetwork, image: Tensor) -> None:
    prepared = double.prepared(image)
    with torch.no_grad():
        trace(double.classifier, prepared, torch.ones_like(prepared[0]))


def _refusal(double: CollisionNetwork, question: Question) -> str:
    try:
        question(double)
    except NetworkError as error:
        return str(error)
    return ""
