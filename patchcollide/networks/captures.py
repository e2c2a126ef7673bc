"""Copies of what goes into activations during a forward pass."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.calls import Call, Hooks, calls_hooked
from patchcollide.networks.hooks import hooked
from patchcollide.networks.layers import listed
from patchcollide.shapes import Float, Tensor


class _LayerReachedError(Exception):
    """Ends a forward pass that needs to go no further."""


@contextlib.contextmanager
def captured_input(
    module: nn.Module, call: Call, receive: Callable[[Tensor], None], *, and_stop: bool = False
) -> Iterator[None]:
    """Hands a copy of what goes into a run of an activation to a function.

    Args:
        module: The network, of which the block has one pass.
        call: Which run.
        receive: Gets the copy.
        and_stop: Whether the block ends there.
    """
    runs = itertools.count()

    def capture(value: Tensor) -> None:
        # The activation may overwrite its input: keep a copy.
        receive(value.clone(memory_format=torch.contiguous_format))
        if and_stop:
            raise _LayerReachedError

    def capture_of_runs(value: Tensor) -> None:
        if next(runs) == call.number:
            capture(value)

    if call.function:
        hooks = calls_hooked(module, {call: Hooks(capture)})
    else:
        # What calls_hooked does of modules, in fewer steps: descents do it thousands of times.
        hooks = hooked(module.get_submodule(call.part), capture_of_runs)
    with (
        hooks,
        contextlib.suppress(_LayerReachedError) if and_stop else contextlib.nullcontext(),
    ):
        yield


def flattened(
    captured: Sequence[Tensor], batch_size: int, layer: str, usable: Callable[[], Sequence[str]]
) -> Float[Tensor, "batch units"]:
    """Returns what was captured in a pass as a row for each image.

    Args:
        captured: What went into the run of the activation, if it came to it.
        batch_size: Of the images that went through the network.
        layer: What the layer is called in errors.
        usable: Names the layers that could be chosen instead.

    Raises:
        NetworkError: If the activation did not run, or not on a batch.
    """
    if len(captured) != 1:
        raise NetworkError(
            f"{layer} should run once in a forward pass, but ran {len(captured)} times. Choose "
            f"another layer; usable are {listed(usable())}."
        )
    value = captured[0]
    if value.shape[:1] != (batch_size,):
        raise NetworkError(
            f"{layer} should see a batch of {batch_size} first, but sees {tuple(value.shape)}. "
            f"Choose another layer; usable are {listed(usable())}."
        )
    return value.flatten(1) if value.ndim > 1 else value[:, None]
