"""What goes into the activation of a layer during a forward pass."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.layers import listed
from patchcollide.shapes import Float, Tensor


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

    def capture(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        (value,) = (*args, *kwargs.values())
        # The activation may overwrite its input: keep a copy.
        receive(value.clone(memory_format=torch.contiguous_format))
        if and_stop:
            raise _LayerReachedError

    # A hook for this pass only: nothing outlives it, and others may use the module too.
    hook = activation.register_forward_pre_hook(capture, with_kwargs=True)
    with hook, contextlib.suppress(_LayerReachedError) if and_stop else contextlib.nullcontext():
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
