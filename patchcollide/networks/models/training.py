"""Trains the small networks, in seconds to minutes on a processor, and keeps them in files.

A file is made by the training stage, or when weights are first wanted.
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide._version import __version__
from patchcollide.errors import NetworkError
from patchcollide.images.digits import Digits, read_digits
from patchcollide.io.files import cache_file, output_path
from patchcollide.io.provenance import array_digest, fingerprint
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.regularisers import HyperplaneCollinearity, hidden_layers
from patchcollide.networks.models.weights import SAFETENSORS_SUFFIX, read_metadata, write_weights
from patchcollide.progress import note, track
from patchcollide.shapes import Float, Int64, Tensor

logger = logging.getLogger(__name__)

BATCH_SIZE = 128

LARGEST_STEP = 3e-3

_TEST_BATCH = 1000

DEFAULT_EPOCHS = {"mlp": 8, "lenet5": 8}

# Scikit-learn's digits are a fortieth of MNIST's: as many passes would not do.
_BUNDLED_EPOCHS = 60


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
            :class:`patchcollide.networks.models.regularisers.HyperplaneCollinearity` of all hidden
            layers.
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
    batches = (
        chosen
        for _ in range(epochs)
        for chosen in torch.split(torch.randperm(len(train), generator=generator), BATCH_SIZE)
    )
    for chosen in track(batches, "Training", epochs * steps_per_epoch):
        loss = F.cross_entropy(module(_pixels(images[chosen])), labels[chosen])
        if penalty is not None:
            loss = loss + collinearity * penalty()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        note(loss=float(loss.detach()))
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


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained.

    Attributes:
        network: ``mlp`` or ``lenet5``.
        activation: Its activation, such as ``relu``.
        epochs: Passes over the digits; None for what reaches the paper's accuracy.
        seed: Of the first weights and of the order of the digits.
        collinearity: The weight of the penalty on nearly collinear hyperplanes of hidden units; see
            :func:`patchcollide.networks.models.training.train_module`.
    """

    network: str
    activation: str = "relu"
    epochs: int | None = None
    seed: int = 0
    collinearity: float = 0.0


def train(options: TrainingOptions, data: Path | None, out: Path) -> Path:
    """Trains a network for digits and writes its weights, with what was measured, into a file.

    Its metadata hold the options, the test accuracy and the mean squared cosine between the
    hyperplanes of hidden units.

    Args:
        options: What to train, and how.
        data: The folder of MNIST's files; None for scikit-learn's digits.
        out: The ``.safetensors`` file; nothing is done if it holds the same training already.

    Returns:
        ``out``.

    Raises:
        InputError: If the digits, the options or ``out`` cannot be used.
        DiskFullError: If the disk is full.
    """
    out = output_path(out)
    if out.suffix != SAFETENSORS_SUFFIX:
        raise NetworkError(f"--out {out} should end in {SAFETENSORS_SUFFIX}.")
    if not 0 <= options.collinearity < math.inf:
        raise NetworkError(
            "The weight of collinearity should be a number of at least 0, but is "
            f"{options.collinearity}. Give 0 to train without the penalty."
        )
    learned, test = read_digits(data, "train"), read_digits(data, "test")
    about = _described(options, learned)
    if out.exists():
        _require_same(out, about)
        logger.info("%s holds this training already: nothing to do.", out)
        return out
    trained = train_digit_network(
        options.network,
        options.activation,
        learned,
        test,
        epochs=int(about["epochs"]),
        seed=options.seed,
        collinearity=options.collinearity,
    )
    logger.info(
        "%s: %.2f %% of %d test digits right.",
        options.network,
        100 * trained.test_accuracy,
        len(test),
    )
    collinearity = HyperplaneCollinearity(hidden_layers(trained.module))().item()
    measured = {
        "test_accuracy": f"{trained.test_accuracy:.4f}",
        "mean_squared_cosine": f"{collinearity:.6f}",
        "patchcollide": __version__,
    }
    write_weights(out, trained.module, about | measured)
    return out


def default_weights(network: str) -> Path:
    """Returns weights trained on scikit-learn's digits, trained now if they are not there.

    They are kept where :func:`patchcollide.io.files.cache_file` says.
    """
    path = cache_file(f"{network}-digits{SAFETENSORS_SUFFIX}")
    if not path.exists():
        logger.info(
            "There are no weights of %s yet: training it on scikit-learn's digits, into %s. For "
            "MNIST run `patchcollide train` and give --weights.",
            network,
            path,
        )
        train(TrainingOptions(network), None, path)
    return path


def _described(options: TrainingOptions, digits: Digits) -> dict[str, str]:
    """Returns what decides the weights, as a weights file can hold it."""
    usual = _BUNDLED_EPOCHS if digits.name != "MNIST" else DEFAULT_EPOCHS[options.network]
    about = {
        "network": options.network,
        "activation": options.activation,
        "data": digits.name,
        "epochs": str(options.epochs or usual),
        "seed": str(options.seed),
    }
    # Only where there is one: files from before there was a penalty are of the same training.
    about |= {"collinearity": f"{options.collinearity:g}"} if options.collinearity else {}
    content = {"images": array_digest(digits.images), "labels": array_digest(digits.labels)}
    return about | {"fingerprint": fingerprint(about | content)}


def _require_same(path: Path, about: dict[str, str]) -> None:
    found = read_metadata(path)
    found, about = ({"collinearity": "0", **each} for each in (found, about))
    differing = [name for name in about if found.get(name) != about[name]]
    if differing:
        changed = ", ".join(f"{name} = {found.get(name)} (now {about[name]})" for name in differing)
        raise NetworkError(
            f"{path} is there already and was trained otherwise: {changed}. Choose another --out, "
            "or remove it."
        )
