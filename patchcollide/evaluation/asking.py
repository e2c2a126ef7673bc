"""Many images through a network, a batch in each thread.

A network of small layers leaves most of a second core idle where threads share each layer, and
waits for whichever of them is late. Batches have nothing to wait for.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from patchcollide.networks.folding import twin
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.outputs import NetworkOutput
from patchcollide.parallel import map_with_tools
from patchcollide.shapes import Tensor
from patchcollide.torch_modes import proof_modes

Item = TypeVar("Item")
Found = TypeVar("Found")

_twins: weakref.WeakKeyDictionary[CollisionNetwork, list[CollisionNetwork]]
_twins = weakref.WeakKeyDictionary()


def askers(network: CollisionNetwork, num_batches: int) -> list[CollisionNetwork]:
    """Returns the network and copies of it, one for each thread that batches are worth.

    The network alone on a device that computes in parallel itself, for one thread, or if it cannot
    be copied.

    Args:
        network: The network.
        num_batches: That are to go through it.
    """
    wanted = min(torch.get_num_threads(), num_batches)
    if network.device.type != "cpu":
        return [network]
    made = _twins.setdefault(network, [])
    while len(made) < wanted - 1:
        other = twin(network)
        if other is None:
            return [network]
        made.append(other)
    return [network, *made[: max(0, wanted - 1)]]


def asked(
    network: CollisionNetwork,
    items: Sequence[Item],
    images_of: Callable[[Item], Tensor],
    measure: Callable[[NetworkOutput], Found],
) -> Iterator[Found]:
    """Yields what is measured of a network's answers about batches, in their order.

    Args:
        network: The network.
        items: What the batches are made of.
        images_of: Makes the images of one, in any thread.
        measure: Measures the answer there.
    """

    @proof_modes()
    def ask(asker: CollisionNetwork, item: Item) -> Found:
        return measure(asker(images_of(item)))

    return map_with_tools(ask, items, askers(network, len(items)))
