"""Pictures to try a network with, and what can be learned from its answers to them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.calls import Call, Hooks, calls_hooked
from patchcollide.shapes import Float, Tensor

# What two ways of computing the same may differ by, of the largest value. Floating-point arithmetic
# takes a thousandth of it; one unit in a hundred dropped, ten times as much.
_SAME_SHARE = 0.01


def grey_image(channels: int, size: int) -> Float[Tensor, "1 channels size size"]:
    """Returns an image in ``[0, 1]`` that is half grey."""
    return torch.full((1, channels, size, size), 0.5)


def noise_image(channels: int, size: int) -> Float[Tensor, "1 channels size size"]:
    """Returns an image of noise in ``[0, 1]``, always the same."""
    return torch.rand((1, channels, size, size), generator=torch.Generator().manual_seed(0))


def differ(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> bool:
    """Says whether values differ by more than arithmetic explains; NaN differs from nothing."""
    scale = torch.maximum(first.abs().amax(), second.abs().amax())
    return bool((first - second).abs().amax() > _SAME_SHARE * scale)


def require_repeatable(
    answer: Callable[[Float[Tensor, "batch channels size size"]], Sequence[Tensor]],
    alone: Sequence[Tensor],
    channels: int,
    size: int,
    name: str,
) -> Sequence[Tensor]:
    """Refuses a network for which an image is not all that decides its answer.

    Args:
        answer: Runs the network: what it makes of each image of a batch, a row each.
        alone: What it made of the image of noise.
        channels: Of its input.
        size: Side of its input, in pixels.
        name: Its name, for errors.

    Returns:
        What it makes of the image of noise, of the same again, and of the grey one.

    Raises:
        NetworkError: If it answers at random, or otherwise when other images are in the batch.
    """
    # Noise, because normalisation may make a grey image zero, in which much could hide.
    noise = noise_image(channels, size)
    together = answer(torch.cat([noise, noise, grey_image(channels, size)]))
    by_chance = any(differ(values[0], values[1]) for values in together)
    if not by_chance and not _any_differ(alone, [values[:1] for values in together]):
        return together
    if by_chance or _any_differ(alone, answer(noise)):
        raise NetworkError(
            f"{name} answers at random: the same image twice gets two answers, although the "
            "network is in evaluation mode. Look for dropout that is forced on (F.dropout with "
            "training=True), and for noise."
        )
    raise NetworkError(
        f"{name} gives an image another answer when other images are in the batch, although the "
        "network is in evaluation mode. Look for statistics taken of the batch, such as BatchNorm "
        "with track_running_stats=False."
    )


@contextlib.contextmanager
def replaced_input(
    module: nn.Module, call: Call, values: Float[Tensor, "batch units"]
) -> Iterator[None]:
    """Gives a run of an activation other values than what reaches it, as long as the block lasts.

    Args:
        module: The network, of which the block has one pass.
        call: The run, with as many values for each image.
        values: In channel, height, width order; gradients flow to them.
    """

    def replace(found: Tensor) -> Tensor:
        # In the layout of what it replaces, so that the rest computes as it always does.
        return torch.empty_like(found).copy_(values.reshape(found.shape))

    with calls_hooked(module, {call: Hooks(replace)}):
        yield


def _any_differ(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return any(differ(one, other) for one, other in zip(first, second, strict=True))
