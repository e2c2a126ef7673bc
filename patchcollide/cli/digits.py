"""Commands for digits: pictures of them, and small networks trained on them."""

from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import Argument, BadParameter, Option, command, echo

DataFolder = Annotated[
    Path | None, Option("--data", help="A folder with MNIST's four files.", metavar="FOLDER")
]
Download = Annotated[
    Path | None, Option("--download", help="Fetch MNIST into this folder.", metavar="FOLDER")
]


@command
def digits(
    out: Annotated[Path, Option(help="The folder to write: LABEL/SPLIT-NUMBER.png.")],
    data: DataFolder = None,
    download: Download = None,
    split: Annotated[str, Option(help="Which part of the data set: train or test.")] = "test",
    count: Annotated[int, Option(min=1, help="How many, from the first on.")] = 1000,
) -> None:
    """Writes pictures of digits, MNIST's or those that come with scikit-learn."""
    from patchcollide.digits import SPLITS, read_digits, write_digits
    from patchcollide.files import output_path

    part = next((part for part in SPLITS if part == split), None)
    if part is None:
        raise BadParameter(f"--split should be one of {', '.join(SPLITS)}, but is {split}.")
    write_digits(output_path(out), read_digits(_folder(data, download), part), count)
    echo(out)


@command
def train(
    network: Annotated[str, Argument(help="mlp or lenet5.")],
    out: Annotated[Path, Option(help="The weights to write, NAME.safetensors.")],
    data: DataFolder = None,
    download: Download = None,
    activation: Annotated[
        str, Option(help="relu, relu6, leaky_relu, elu, sigmoid, tanh or gelu.")
    ] = "relu",
    epochs: Annotated[int | None, Option(min=1, help="Passes over the digits.")] = None,
    seed: Annotated[int, Option(help="Of the first weights and the order of the digits.")] = 0,
    collinearity: Annotated[
        float,
        Option(help="Weight of a penalty on nearly collinear hyperplanes of hidden units."),
    ] = 0.0,
) -> None:
    """Trains a small network for digits, MNIST's or those that come with scikit-learn."""
    from patchcollide.networks import DIGIT_NETWORKS
    from patchcollide.networks.digit_weights import TrainingOptions
    from patchcollide.networks.digit_weights import train as train_network

    if network not in DIGIT_NETWORKS:
        known = " and ".join(DIGIT_NETWORKS)
        raise BadParameter(f"{network} cannot be trained here; networks for digits are {known}.")
    options = TrainingOptions(network, activation, epochs, seed, collinearity)
    echo(train_network(options, _folder(data, download), out))


def _folder(data: Path | None, download: Path | None) -> Path | None:
    """Returns where MNIST is, fetched if that is wanted; None for scikit-learn's digits."""
    if data is not None and download is not None:
        raise BadParameter("give one of --data FOLDER and --download FOLDER.")
    if download is None:
        return data
    from patchcollide.digits import download_mnist

    return download_mnist(download)
