"""Gradients through a network, in as many passes as memory wants."""

import logging
from collections import defaultdict
from collections.abc import Callable

import torch

from patchcollide.errors import OutOfMemoryError
from patchcollide.networks.folding import quick_copy
from patchcollide.networks.network import CollisionNetwork
from patchcollide.shapes import Float, Tensor

logger = logging.getLogger(__name__)

Reading = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch values"]]
"""What a network says of images, differentiable."""

Terms = Callable[[Float[Tensor, "part values"], int], tuple[Tensor, dict[str, Tensor]]]
"""Of what was read and the number of the first image: what is summed, and each image's terms."""


class Passes:
    """Passes through a network and back, which become smaller where memory runs out.

    Args:
        network: What images go through; its quick copy if it is to be folded.
        images_per_pass: How many at once, at first.
        read: What of it terms are of; None for the pre-activation, where a pass ends.
    """

    def __init__(
        self, network: CollisionNetwork, images_per_pass: int, read: Reading | None = None
    ) -> None:
        self._network, self._images_per_pass = network, images_per_pass
        quick = quick_copy(network) if network.folded and read is None else network
        self._read = read or quick.pre_activation

    def gradient(
        self, batch: Float[Tensor, "batch channels height width"], terms: Terms
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        """Returns the terms of all images, and the gradient of their sum in each image.

        Raises:
            OutOfMemoryError: If not even one image fits through the network.
        """
        while True:
            try:
                return self._gradient(batch, terms)
            except torch.OutOfMemoryError as error:
                self._take_fewer(error)

    def _gradient(
        self, batch: Float[Tensor, "batch channels height width"], terms: Terms
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch channels height width"]]:
        gradients = []
        joined: dict[str, list[Tensor]] = defaultdict(list)
        for first in range(0, len(batch), self._images_per_pass):
            part = batch[first : first + self._images_per_pass].clone().requires_grad_()
            total, found = terms(self._read(part), first)
            (gradient,) = torch.autograd.grad(total, part)
            gradients.append(gradient)
            for name, values in found.items():
                joined[name].append(values.detach())
        return {name: torch.cat(values) for name, values in joined.items()}, torch.cat(gradients)

    def _take_fewer(self, error: torch.OutOfMemoryError) -> None:
        if self._images_per_pass == 1:
            raise OutOfMemoryError(
                f"The device has no memory to pass one image through "
                f"{self._network.full_name} and back ({error}). Free memory on it, or "
                "choose --device cpu."
            ) from error
        self._images_per_pass = -(-self._images_per_pass // 2)
        logger.warning("memory ran out; going on with %d images a pass", self._images_per_pass)
        torch.cuda.empty_cache()
