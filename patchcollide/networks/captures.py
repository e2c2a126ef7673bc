"""What goes into parts of a module, and comes out of them, during a forward pass.

Hooks are set here alone, for a block: nothing outlives it, and others may use the module too.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.layers import listed
from patchcollide.shapes import Float, Tensor

Enter: TypeAlias = Callable[[Any], Any]
"""Gets a part's first argument; what it returns, unless None, goes in instead."""

Leave: TypeAlias = Callable[[Any, Any], Any]
"""Gets a part's first argument and its output; what it returns, unless None, comes out instead."""


@contextlib.contextmanager
def hooked(
    part: nn.Module, entering: Enter | None = None, leaving: Leave | None = None
) -> Iterator[None]:
    """Shows what goes into a module and comes out, each time that it runs in the block."""

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        changed = entering(_first(args, kwargs)) if entering else None
        if changed is None:
            return None
        if args:
            return (changed, *args[1:]), kwargs
        return args, kwargs | dict.fromkeys(list(kwargs)[:1], changed)

    def leave(_: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any) -> Any:
        return leaving(_first(args, kwargs), output) if leaving else None

    with contextlib.ExitStack() as hooks:
        if entering:
            hooks.enter_context(part.register_forward_pre_hook(enter, with_kwargs=True))
        if leaving:
            hooks.enter_context(part.register_forward_hook(leave, with_kwargs=True))
        yield


def _first(args: tuple[Any, ...], kwargs: Any) -> Any:
    return next(iter((*args, *kwargs.values())), None)


class _LayerReachedError(Exception):
    """Ends a forward pass that needs to go no further."""


@contextlib.contextmanager
def captured_input(
    activation: nn.Module, receive: Callable[[Tensor], None], *, and_stop: bool = False
) -> Iterator[None]:
    """Hands a copy of what goes into an activation module to a function.

    Args:
        activation: Part of a module that runs in the block.
        receive: Gets the copy, each time the part runs.
        and_stop: Whether the block ends where the part runs first.
    """

    def capture(value: Tensor) -> None:
        # The activation may overwrite its input: keep a copy.
        receive(value.clone(memory_format=torch.contiguous_format))
        if and_stop:
            raise _LayerReachedError

    with (
        hooked(activation, capture),
        contextlib.suppress(_LayerReachedError) if and_stop else contextlib.nullcontext(),
    ):
        yield


def flattened(
    captured: Sequence[Tensor], batch_size: int, layer: str, usable: Callable[[], Sequence[str]]
) -> Float[Tensor, "batch units"]:
    """Returns what was captured in a pass as a row for each image.

    Args:
        captured: Each input of the activation.
        batch_size: Of the images that went through the network.
        layer: What the layer is called in errors.
        usable: Names the layers that could be chosen instead.

    Raises:
        NetworkError: If the activation did not run exactly once, or not on a batch.
    """
    if len(captured) != 1:
        raise NetworkError(
            f"{layer} should run once in a forward pass, but ran {len(captured)} times"
            + (", so one module serves several places" if captured else "")
            + ". Give each place an activation module of its own, or choose another layer; "
            f"usable are {listed(usable())}."
        )
    value = captured[0]
    if value.shape[:1] != (batch_size,):
        raise NetworkError(
            f"{layer} should see a batch of {batch_size} first, but sees {tuple(value.shape)}. "
            "Choose another layer."
        )
    return value.flatten(1) if value.ndim > 1 else value[:, None]
