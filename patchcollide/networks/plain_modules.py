"""Modules without what is only around them, parallel, compiled or scripted, and what is refused."""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from patchcollide.errors import NetworkError
from patchcollide.networks.scripted import UnscriptedModule


def plain_module(module: nn.Module, name: str) -> nn.Module:
    """Returns a module whose activations can be watched and whose gradients can be taken.

    Args:
        module: As people have it: also within ``nn.DataParallel``, or compiled.
        name: Its name, for errors.

    Returns:
        The module that is meant, with its parameters.

    Raises:
        NetworkError: If it is no module, or its parameters hold no values, or no real
            floating-point ones.
    """
    if not isinstance(module, nn.Module):
        raise NetworkError(
            f"{name} should be a torch.nn.Module, but is a {type(module).__name__}. Give the "
            "module itself, not its weights."
        )
    while (inner := _inside(module)) is not None:
        module = inner
    if isinstance(module, torch.jit.ScriptModule):
        module = UnscriptedModule(module)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for what, advice, is_so in _REFUSED:
        wrong = [own for own, tensor in tensors.items() if is_so(tensor)]
        if wrong:
            raise NetworkError(
                f"{name} has {what}, such as '{wrong[0]}' ({len(wrong)} of {len(tensors)}). "
                f"{advice}"
            )
    quantised = [part for part in module.modules() if "quantized" in type(part).__module__]
    if quantised:
        raise NetworkError(
            f"{name} is quantised: it computes in integers in its {type(quantised[0]).__name__}, "
            "which have no gradients. Give the network it was made from."
        )
    return module


def run_in_python(module: nn.Module) -> None:
    """Has a module, and its parts, that were compiled in place run in Python, where hooks are."""
    for part in module.modules():
        if part._compiled_call_impl is not None:
            part._compiled_call_impl = None


def copied(module: nn.Module) -> nn.Module:
    """Returns a copy of a module, so that the caller's stays as it is: in training mode, say.

    What was computed in its last pass and kept, such as the weight of a ``weight_norm``, is copied
    without its gradients, which would forbid it.
    """
    kept = [
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    ]
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in kept})


def _inside(module: nn.Module) -> nn.Module | None:
    """Returns what a wrapper wraps; None of what is none."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = module.module
    else:
        inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


_REFUSED: tuple[tuple[str, str, Callable[[torch.Tensor], bool]], ...] = (
    (
        "parameters that get their shapes only from a first image",
        "Run it once on a batch before: lazy modules take their sizes from it.",
        is_lazy,
    ),
    (
        "parameters without values, on the meta device",
        "Load weights into it before: load_state_dict(..., assign=True).",
        lambda tensor: tensor.is_meta,
    ),
    (
        "complex parameters",
        "Features are compared as real numbers: give a network of real ones.",
        torch.is_complex,
    ),
    (
        "quantised parameters",
        "They have no gradients. Give the network it was made from.",
        lambda tensor: tensor.is_quantized,
    ),
)
