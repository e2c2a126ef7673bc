"""A forward pass, watched: which modules ran, in which order, and what reached which layers."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from patchcollide.errors import NetworkError
from patchcollide.networks.calls import Call, Hooks, calls_hooked
from patchcollide.networks.curves import curve_of
from patchcollide.networks.hooks import hooked
from patchcollide.networks.network import CollisionNetwork
from patchcollide.shapes import Float, Float64, Tensor

LinearModule: TypeAlias = nn.Linear | nn.Conv2d

_POOLS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)

Receiver = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class InputKind:
    """What goes into a linear module.

    Attributes:
        name: ``pixels``, the activation whose values these are, pooled or not, or ``any``.
        range: Of each value, as far as it is known: infinite ends of ``any``.
    """

    name: str
    range: tuple[float, float]

    def __str__(self) -> str:
        if self == ANY:
            return "any values"
        low, high = self.range
        first = "(" if math.isinf(low) else "["
        return f"{self.name} {first}{low:.4g}, {high:.4g}{')' if math.isinf(high) else ']'}"


PIXELS = InputKind("pixels", (0.0, 1.0))

ANY = InputKind("any", (-math.inf, math.inf))


class _Passed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which memory holds the values of one tensor: its own, or a copy, and nothing wrote into it.

    That a function left one image's values as they were does not say what it does to another's.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept: dict[int, Tensor] = {}

    def begin(self, tensor: Tensor) -> None:
        """Follows a tensor from here on, in place of any other."""
        # Kept, so that no other tensor gets its address.
        self._kept = {_address(tensor): tensor}

    def holds(self, tensor: Tensor) -> bool:
        """Returns whether a tensor's values are those of the one followed, in any order."""
        return _address(tensor) in self._kept

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs an operator, and takes note of what it copies and of what it changes."""
        del types
        result = function(*args, **(kwargs or {}))
        if function._schema.is_mutable:
            for leaf in tree_leaves((args[:1], kwargs)):
                if isinstance(leaf, Tensor):
                    self._kept.pop(_address(leaf), None)
        elif function._schema.name == "aten::clone" and self.holds(args[0]):
            self._kept[_address(result)] = result
        return result


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Trace:
    """What ran when an image went through a network.

    Args:
        network: In float64, on the CPU.
        image: In ``[0, 1]``, of the network's size.
        layers: Runs of activations to take note of, by their names.
    """

    def __init__(
        self,
        network: CollisionNetwork,
        image: Float64[Tensor, "1 channels size size"],
        layers: Sequence[str],
    ) -> None:
        self.network, self.image = network, image
        self.calls = {layer: network.find_call(layer)[0] for layer in layers}
        self._ran: list[nn.Module] = []
        self._names: dict[nn.Module, str] = {}
        self._kinds: dict[nn.Module, InputKind] = {}
        self._entered: dict[Call, Tensor] = {}
        self._before: dict[Call, list[nn.Module]] = {}
        self._run()

    def linear_before(self, layer: str) -> LinearModule:
        """Returns the last linear module that ran before a layer.

        Raises:
            NetworkError: If there is none, or it did not run exactly once, or the layer not at all.
        """
        if (before := self._before.get(self.calls[layer])) is None:
            raise NetworkError("it does not run in a forward pass")
        found = next((other for other in reversed(before) if isinstance(other, LinearModule)), None)
        if found is None:
            raise NetworkError("no nn.Linear or nn.Conv2d runs before it")
        if (count := self._ran.count(found)) != 1:
            raise NetworkError(f"'{self._names[found]}' runs {count} times in a forward pass")
        return found

    def name_of(self, linear: LinearModule) -> str:
        """Returns the name of a module that ran."""
        return self._names[linear]

    def input_kind(self, linear: LinearModule) -> InputKind:
        """Returns what went into a linear module."""
        return self._kinds[linear]

    def pre_activation(self, layer: str) -> Float64[Tensor, "units"] | None:
        """Returns what went into a layer; None if it did not run."""
        return self._entered.get(self.calls[layer])

    def _run(self) -> None:
        prepared, calls = self.network.prepared(self.image), self._hooks()
        self._last, self._last_kind = prepared.clone(), PIXELS
        self._passed = _Passed()
        self._passed.begin(prepared)
        with contextlib.ExitStack() as hooks:
            for name, part in _leaves(self.network.module):
                self._names[part] = name
                enter, leave = partial(self._enter, part), partial(self._leave, part)
                hooks.enter_context(hooked(part, enter, leave))
            hooks.enter_context(calls_hooked(self.network.module, calls))
            with torch.no_grad(), self._passed:
                self.network.module(prepared)

    def _hooks(self) -> dict[Call, Hooks]:
        """Returns what takes note of what is asked for, and of activations that are no modules."""
        seen = {call: Hooks(partial(self._reach, call)) for call in self.calls.values()}
        for call in self.network.calls:
            if call.function:
                enter = partial(self._reach, call) if call in seen else None
                seen[call] = Hooks(enter, partial(self._respond, call))
        return seen

    def _reach(self, call: Call, value: Tensor) -> None:
        self._before[call] = list(self._ran)
        self._entered[call] = value.flatten().clone()

    def _respond(self, call: Call, _: Any, output: Tensor) -> None:
        self._follow(output, _kind_of_activation(call.name, call.activation))

    def _follow(self, output: Tensor, kind: InputKind) -> None:
        self._last, self._last_kind = output.clone(), kind
        self._passed.begin(output)

    def _enter(self, part: nn.Module, value: Any) -> None:
        self._ran.append(part)
        # By memory and by value: what a function did in between, also in place, is seen.
        known = isinstance(value, Tensor) and self._is_last(value)
        self._kinds[part] = self._last_kind if known else ANY

    def _leave(self, part: nn.Module, _: Any, output: Any) -> None:
        kind = self._kinds[part]
        if not isinstance(output, Tensor):
            self._last_kind = ANY
            return
        if curve_of(part) is not None:
            kind = _kind_of_activation(self._name_of_run(part), part)
        elif isinstance(part, _POOLS):
            kind = _pooled(kind, part)
        elif part.state_dict() or not self._is_last(output):
            # What has weights lets values through by chance only, such as zeros.
            kind = ANY
        else:
            # Of what went in, or of an activation that was called as a function in there.
            kind = self._last_kind
        self._follow(output, kind)

    def _name_of_run(self, part: nn.Module) -> str:
        site, number = (self._names[part], ""), self._ran.count(part) - 1
        of_part = [call for call in self.network.calls if call.site == site]
        runs = {call.number: call.name for call in of_part}
        return runs.get(number, self._names[part])

    def _is_last(self, value: Tensor) -> bool:
        return self._passed.holds(value) and same(value, self._last)


def same(first: Tensor, second: Tensor) -> bool:
    """Returns whether two tensors hold the same values in the same order, in any shape."""
    return first.numel() == second.numel() and torch.equal(first.flatten(), second.flatten())


def _leaves(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns the modules that hold no others; what computes a linear module's weight is in it."""
    found: list[tuple[str, nn.Module]] = []
    inside = ""
    for name, part in module.named_modules():
        if inside and name.startswith(inside):
            continue
        if isinstance(part, LinearModule) or not list(part.children()):
            found.append((name, part))
            inside = f"{name}."
    return found


def _kind_of_activation(name: str, part: nn.Module) -> InputKind:
    curve = curve_of(part)
    # A curve that turns may go beyond its limits.
    if curve is None or curve.turns or not any(map(math.isfinite, curve.limits)):
        return ANY
    return InputKind(name, curve.limits)


def _pooled(kind: InputKind, pool: Any) -> InputKind:
    if kind in (ANY, PIXELS):
        return ANY
    low, high = kind.range
    if getattr(pool, "padding", 0) not in (0, (0, 0)):
        low, high = min(low, 0.0), max(high, 0.0)
    return InputKind(kind.name, (low, high))


@torch.no_grad()
def run_capturing(
    network: CollisionNetwork,
    images: Float[Tensor, "batch channels height width"],
    layers: Iterable[str],
    receive: Receiver,
) -> Float[Tensor, "batch classes"]:
    """Runs a network once, and hands over the pre-activations of layers as they come.

    So none need be kept: early layers of large networks have millions of units.

    Args:
        network: Its own layer does not matter.
        images: In ``[0, 1]``, of any size.
        layers: Names of runs of activations.
        receive: Called with a layer's name and its pre-activation, ``(batch, units)`` in channel,
            height, width order. That may be the network's own memory, which an activation in place
            overwrites next: what is kept of it must be a copy.

    Returns:
        The logits, without gradients.

    Raises:
        NetworkError: If a layer does not run, or sees no batch of images.
    """
    seen: set[str] = set()

    def see(layer: str, value: Tensor) -> None:
        seen.add(layer)
        if value.shape[:1] != (len(images),):
            raise NetworkError(
                f"Layer '{layer}' of {network.name} should see a batch of {len(images)} first, but "
                f"sees {tuple(value.shape)}. Choose another layer."
            )
        receive(layer, value.flatten(1) if value.ndim > 1 else value[:, None])

    layers = list(layers)
    hooks = {network.find_call(layer)[0]: Hooks(partial(see, layer)) for layer in layers}
    with calls_hooked(network.module, hooks):
        logits = network.logits_of_prepared(network.prepared(images))
    for layer in layers:
        if layer not in seen:
            raise NetworkError(
                f"Layer '{layer}' of {network.name} should run in a forward pass, but did not. "
                "Choose another layer."
            )
    return logits


def units_of_layers(network: CollisionNetwork) -> dict[str, int]:
    """Returns the usable layers, in the order of a pass, and how many units they have."""
    usable = set(network.usable_layers)
    return {call.name: math.prod(call.shape) for call in network.calls if call.name in usable}
