"""How many images go through a network together: measured once, then kept for the process."""

import time

import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation.asking import askers
from patchcollide.networks.network import CollisionNetwork
from patchcollide.parallel import map_with_tools
from patchcollide.shapes import Float, Tensor

_SIZES = (4, 16, 64, 256)
_USUAL = 8
_WORTH_MEASURING = 512
"""Of fewer images the measurement would cost more than it saves."""
_GAIN = 0.9
"""A larger batch must take this share of a smaller one's time: memory counts too."""
_MOST_VALUES = 2**24

_found: dict[tuple[object, ...], int] = {}


def batch_size(network: CollisionNetwork, settings: Evaluation, num_images: int) -> int:
    """Returns how many of so many images should go through a network together.

    That is ``evaluation.batch_size`` where it was set to another than the default.
    """
    if settings.batch_size != Evaluation().batch_size:
        return settings.batch_size
    weights = next(network.module.parameters(), torch.zeros(0))
    threads = torch.get_num_threads()
    key = network.full_name, network.layer, network.digest, weights.device, weights.dtype, threads
    if key not in _found:
        if num_images < _WORTH_MEASURING:
            return _USUAL
        several = askers(network, num_images)
        # As it will be asked: by one of so many threads.
        (_found[key],) = map_with_tools(fastest_size, [len(several)], several)
    return _found[key]


def fastest_size(network: CollisionNetwork, num_threads: int = 1) -> int:
    """Times batches of a few sizes, the smallest first, for as long as larger ones gain.

    Args:
        network: What they go through.
        num_threads: How many threads will each hold a batch.
    """
    best, shortest = _SIZES[0], float("inf")
    for size in _SIZES:
        images = torch.rand(
            (size, network.channels, network.input_size, network.input_size),
            generator=torch.Generator().manual_seed(0),
        )
        if num_threads * images.numel() > _MOST_VALUES and size > _SIZES[0]:
            break
        _seconds(network, images)  # The first pass of a size prepares it.
        seconds = min(_seconds(network, images) for _ in range(2)) / size
        if seconds > _GAIN * shortest:
            break
        best, shortest = size, seconds
    return best


def _seconds(
    network: CollisionNetwork, images: Float[Tensor, "batch channels height width"]
) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        # Reading a number waits for a device that computes on its own.
        float(network(images).logits.sum())
    return time.perf_counter() - started
