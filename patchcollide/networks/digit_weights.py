"""Files of trained small networks: made by the training stage, or when weights are first wanted."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from patchcollide import __version__
from patchcollide.digits import Digits, read_digits
from patchcollide.errors import NetworkError
from patchcollide.files import cache_file, output_path
from patchcollide.networks.digit_training import train_digit_network
from patchcollide.networks.weights import SAFETENSORS_SUFFIX, read_metadata, write_weights
from patchcollide.provenance import array_digest, fingerprint
from patchcollide.regularisers import HyperplaneCollinearity, hidden_layers

logger = logging.getLogger(__name__)

DEFAULT_EPOCHS = {"mlp": 8, "lenet5": 8}
# Scikit-learn's digits are a fortieth of MNIST's: as many passes would not do.
_BUNDLED_EPOCHS = 60


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained.

    Attributes:
        network: ``mlp`` or ``lenet5``.
        activation: Its activation, such as ``relu``.
        epochs: Passes over the digits; None for what reaches the paper's accuracy.
        seed: Of the first weights and of the order of the digits.
        collinearity: The weight of the penalty on nearly collinear hyperplanes of hidden units; see
            :func:`patchcollide.networks.digit_training.train_module`.
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
        DiskFullError: If there is no room left.
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

    They are kept where :func:`patchcollide.files.cache_file` says.
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
