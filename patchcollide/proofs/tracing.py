"""A network's forward pass as a program, read from the operators that run.

An image goes through the network once, in float64, and each of PyTorch's operators is looked up in
a table of rules. Whatever has no rule is refused by its name and by the module that it runs in.
"""

import operator
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.rays import innermost
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.probes import noise_image
from patchcollide.proofs.bend_rules import BEND_RULES
from patchcollide.proofs.builder import Builder, Value
from patchcollide.proofs.linear_rules import LINEAR_RULES
from patchcollide.proofs.programs import Program
from patchcollide.shapes import Tensor
from patchcollide.torch_modes import proof_modes

PRE_ACTIVATION, FEATURES, LOGITS = "pre_activation", "features", "logits"
"""The outputs of a network's program: before and behind the activation of its layer, and after."""

BOUNDED = (
    "Networks of linear layers, convolutions, batch norm, ReLU, ReLU6, LeakyReLU, Hardtanh, clamp, "
    "maximum, max and average pooling, sums, views, concatenation, sigmoid, tanh, GELU and SiLU"
)
"""What a network may be made of, in words."""

_RULES: dict[str, Callable[..., Any]] = {**LINEAR_RULES, **BEND_RULES}


# What an operator returns beside its result, such as where the largest values are.
_NOT_BOUNDED = object()


@proof_modes()
def read_program(network: CollisionNetwork) -> Program:
    """Reads what a network computes of an image in ``[0, 1]``, to its logits.

    Args:
        network: In float64, on the CPU; images have its size.

    Raises:
        NetworkError: If a part of it has no bounds, or what it does depends on the image.
    """
    image = noise_image(network.channels, network.input_size).double()

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        output = network(pixels)
        features = network.blind.respond(output.pre_activation)
        return output.pre_activation, features, output.logits

    try:
        # Changes in place become steps of their own.
        graph = make_fx(torch.func.functionalize(run, remove="mutations"))(image)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0].removesuffix(".")
        raise NetworkError(
            f"{network.full_name} cannot be bounded: its forward pass cannot be written down "
            f"({reason}), for example since what it does depends on the image. {BOUNDED} can be."
        ) from error
    return _translated(graph, network, image)


def _translated(graph: fx.GraphModule, network: CollisionNetwork, image: Tensor) -> Program:
    build = Builder(image.shape)
    known: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = build.image
        elif node.op == "get_attr":
            found = getattr(graph, node.target)
            known[node] = found.double() if found.is_floating_point() else found
        elif node.op == "call_function":
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            try:
                known[node] = _applied(build, node.target, args, kwargs)
            except NetworkError as error:
                name = _name(node.target)
                earlier = [_name(each.target) for each in known if each.op == "call_function"]
                _refuse(network, image, name, earlier.count(name), str(error))
        else:
            outputs = fx.node.map_arg(node.args[0], known.__getitem__)
    for name, value in zip((PRE_ACTIVATION, FEATURES, LOGITS), outputs, strict=True):
        if not isinstance(value, Value):
            raise NetworkError(f"The {name} of {network.full_name} do not depend on the image.")
        build.program.outputs[name] = value.number
    return build.program


def _name(target: Any) -> str:
    return str(getattr(target, "_opname", getattr(target, "__name__", target)))


def _applied(build: Builder, target: Any, args: Any, kwargs: Any) -> Any:
    leaves = torch.utils._pytree.tree_leaves((args, kwargs))
    if any(leaf is _NOT_BOUNDED for leaf in leaves):
        raise NetworkError("of what another operator returns beside its result")
    if not any(isinstance(leaf, Value) for leaf in leaves):
        return target(*args, **kwargs)
    if target is operator.getitem:
        found = args[0][args[1]]
        return _NOT_BOUNDED if found is None else found
    rule = _RULES.get(_name(target))
    if rule is None:
        raise NetworkError("")
    try:
        return rule(build, *args, **kwargs)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise NetworkError(f"in this form ({str(error).splitlines()[0]})") from error


class _FoundError(Exception):
    """An operator that is looked for runs now."""


class _Lookout(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Ends a forward pass where an operator runs, after it ran so many times."""

    def __init__(self, name: str, skipped: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name, self._skipped = name, skipped

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if _name(function).removesuffix("_") == self._name:
            if not self._skipped:
                raise _FoundError
            self._skipped -= 1
        return function(*args, **(kwargs or {}))


def _refuse(
    network: CollisionNetwork, image: Tensor, name: str, earlier: int, why: str
) -> NoReturn:
    """Raises an error that names an operator and the module that it runs in.

    Args:
        network: Runs once more, up to there.
        image: Any.
        name: The operator's.
        earlier: How often it runs before.
        why: There is no bound of it.
    """
    where = ""
    try:
        with _Lookout(name, earlier):
            network(image)
    except _FoundError as found:
        part = innermost(network.module, found.__traceback__)
        kind = type(network.module.get_submodule(part)).__name__
        where = f" in '{part}' ({kind})"
    raise NetworkError(
        f"{network.full_name} cannot be bounded: there is no bound of {name.lstrip('_')}"
        f"{f' {why}' if why else ''}{where}. {BOUNDED} can be; measure samples of other networks."
    )
