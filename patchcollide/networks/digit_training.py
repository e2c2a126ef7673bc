"""Trains the small networks, in seconds to minutes on a processor."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.digits import Digits
from patchcollide.networks.digit_networks import build_digit_network
from patchcollide.progress import track
from patchcollide.regularisers import HyperplaneCollinearity, hidden_layers
from patchcollide.shapes import Float, Int64, Tensor

BATCH_SIZE = 128
LARGEST_STEP = 3e-3
_TEST_BATCH = 1000


class Trained(NamedTuple):
    """A network, and the share of the test's digits that it gets right."""

    module: nn.Module
    test_accuracy: float


def train_digit_network(
    name: str,
    activation: str,
    train: Digits,
    test: Digits,
    *,
    epochs: int,
    seed: int,
    collinearity: float = 0.0,
) -> Trained:
    """Trains a network on digits, by Adam with one cycle of the step size.

    Args:
        name: ``mlp`` or ``lenet5``.
        activation: Its activation.
        train: What it learns from.
        test: What it is measured on, once, at the end.
        epochs: Passes over ``train``, at least 1.
        seed: Of the first weights and the order; the same seed gives the same weights on the same
            machine with the same number of threads.
        collinearity: As in :func:`train_module`.

    Raises:
        NetworkError: If there is no such activation.
    """
    module = build_digit_network(name, activation, seed)
    return train_module(module, train, test, epochs=epochs, seed=seed, collinearity=collinearity)


def train_module(
    module: nn.Module,
    train: Digits,
    test: Digits,
    *,
    epochs: int,
    seed: int,
    largest_step: float = LARGEST_STEP,
    collinearity: float = 0.0,
) -> Trained:
    """Trains any module that takes pictures and returns ten logits, as above.

    Args:
        module: As its weights begin; it is changed.
        train: What it learns from.
        test: What it is measured on, once, at the end.
        epochs: Passes over ``train``, at least 1.
        seed: Of the order.
        largest_step: The step size of Adam at the height of its cycle.
        collinearity: What is added to the mean cross-entropy, in nats: so many times
            :class:`patchcollide.regularisers.HyperplaneCollinearity` of all hidden layers.
    """
    penalty = HyperplaneCollinearity(hidden_layers(module)) if collinearity else None
    optimiser = torch.optim.Adam(module.parameters())
    steps_per_epoch = -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, largest_step, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
    generator = torch.Generator().manual_seed(seed)
    images, labels = _tensors(train)
    module.train()
    for _ in track(range(epochs), "Training", epochs):
        order = torch.randperm(len(train), generator=generator)
        for chosen in torch.split(order, BATCH_SIZE):
            loss = F.cross_entropy(module(_pixels(images[chosen])), labels[chosen])
            if penalty is not None:
                loss = loss + collinearity * penalty()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return Trained(module.eval(), measure_accuracy(module, test))


def measure_accuracy(module: nn.Module, digits: Digits) -> float:
    """Returns the share of digits whose most probable class is their label."""
    images, labels = _tensors(digits)
    hits = 0
    with torch.no_grad():
        parts = torch.split(images, _TEST_BATCH), torch.split(labels, _TEST_BATCH)
        for batch, right in zip(*parts, strict=True):
            hits += int((module(_pixels(batch)).argmax(dim=1) == right).sum())
    return hits / len(digits)


def _tensors(digits: Digits) -> tuple[Tensor, Int64[Tensor, "n"]]:
    # Copied, because what is read from a file may be read-only.
    images = torch.from_numpy(digits.images.copy()).permute(0, 3, 1, 2)
    return images, torch.from_numpy(digits.labels)


def _pixels(images: Tensor) -> Float[Tensor, "batch 1 28 28"]:
    return images.float() / 255
