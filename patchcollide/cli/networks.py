"""Commands that make, measure and compare networks.

They draw digits and train small networks on them, audit a network on many images, say what the
paper's propositions mean for it, and ask whether what collides in one place does in others.
"""

from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import (
    Argument,
    BadParameter,
    Option,
    Settings,
    command,
    echo,
)
from patchcollide.cli.network_options import NetworkChoice, NetworkOptions, RunCode
from patchcollide.cli.runs import DataImages, Device

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
    from patchcollide.images.digits import SPLITS, read_digits, write_digits
    from patchcollide.io.files import output_path

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
    from patchcollide.networks.loading import DIGIT_NETWORKS
    from patchcollide.networks.models.training import TrainingOptions
    from patchcollide.networks.models.training import train as train_network

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
    from patchcollide.images.digits import download_mnist

    return download_mnist(download)


@command
def audit(
    images: Annotated[Path, Argument(help="A folder of images: class/file.")],
    out: Annotated[Path, Option(help="The audit's folder.")],
    *,
    chosen: NetworkChoice,
    device: Device = None,
    per_class: Annotated[
        int | None, Option(min=1, help="How many images of each class, drawn by seed.")
    ] = None,
    one_class: Annotated[
        bool, Option("--one-class", help="Take images of one class, or without classes.")
    ] = False,
    given: Settings,
) -> None:
    """Ranks images by the size of what collides with them; looks for wrong labels among them."""
    from patchcollide import pipeline
    from patchcollide.audit.files import open_audit
    from patchcollide.audit.page import audit_lines

    options = {**chosen.options, "network.device": device, "audit.per_class": per_class}
    settings = given.read(options)
    folder = pipeline.audit(settings, images, out, one_class=one_class)
    for line in audit_lines(open_audit(folder)[1]):
        echo(line)
    echo(folder / "report.html")


@command
def adequacy(
    audits: Annotated[list[Path], Argument(help="Finished audits of the same images.")],
    out: Annotated[Path | None, Option(help="A Markdown file to write as well.")] = None,
) -> None:
    """Compares networks by how little that people see escapes them, on the same images."""
    from patchcollide import pipeline
    from patchcollide.audit.adequacy import adequacy_table
    from patchcollide.io.files import output_path, write_text

    table = adequacy_table(pipeline.compare_audits(audits))
    if out is not None:
        write_text(output_path(out), table)
    echo(table)


@command
def networks(
    library: Annotated[str, Argument(help="torchvision or timm: all of its networks.")] = "",
) -> None:
    """Lists what --network takes: the names of networks."""
    from patchcollide.networks.loading import NETWORK_NAMES
    from patchcollide.networks.models.libraries import LIBRARIES, library_names

    if library and library not in LIBRARIES:
        known = " and ".join(LIBRARIES)
        raise BadParameter(f"{library} is no library of networks here; known are {known}.")
    for name in () if library else NETWORK_NAMES:
        echo(name)
    for each in [library] if library else LIBRARIES:
        names = library_names(each)
        if library:
            for name in names:
                echo(f"{each}:{name}")
        else:
            echo(f"{each}:NAME, {len(names)} networks: patchcollide networks {each}")
    if not library:
        echo("package.module:function, your own, whose code is then run")


@command
def layers(
    image: Annotated[Path | None, Argument(help="An image; by default noise.")] = None,
    *,
    chosen: NetworkOptions,
    given: Settings,
) -> None:
    """Lists a network's activations, run by run: --layer's names, and what can be asked at each."""
    from patchcollide.images.pictures import read_square
    from patchcollide.images.tensors import as_batch
    from patchcollide.networks.loading import load_at_any_layer
    from patchcollide.networks.overview import overview_of
    from patchcollide.networks.probes import noise_image
    from patchcollide.progress import print_table
    from patchcollide.proofs.tracing import read_program
    from patchcollide.report.tables import LAYERS_HEADER, layer_lines

    settings = given.read(chosen.options)
    network = load_at_any_layer(settings.network, settings.seed)
    size, channels = network.input_size, network.channels
    seen = noise_image(channels, size)
    if image is not None:
        seen = as_batch(read_square(settings, image, size, channels)[None])
    tolerance = settings.network.tolerance
    found = overview_of(network, seen, tolerance, {"proof": read_program})
    print_table(LAYERS_HEADER, layer_lines(found))
    for refusal in found.refusals.values():
        echo(refusal)


@command
def dimensions(
    images: Annotated[list[Path], Argument(help="The image, or several.")],
    *,
    chosen: NetworkOptions,
    layers: Annotated[
        list[str] | None,
        Option("--layer", help="An activation; may be repeated. By default all.", metavar="NAME"),
    ] = None,
    memory: Annotated[
        str, Option(help="What a layer may take, such as 8GB; above, only bounds are given.")
    ] = "2GB",
    seconds: Annotated[float, Option(min=0, help="What a layer may take for an image.")] = 300.0,
    given: Settings,
    out: Annotated[Path | None, Option(help="A JSON file to write as well.")] = None,
) -> None:
    """Prints how large the polytopes of colliding inputs are at each layer (Proposition 1)."""
    from patchcollide import pipeline
    from patchcollide.evaluation.dimensions import Limits
    from patchcollide.formats import parse_size
    from patchcollide.report.tables import dimension_lines

    settings = given.read(chosen.options)
    limits = Limits(parse_size(memory), seconds)
    found = pipeline.measure_dimensions(settings, images, layers or (), limits, out)
    for line in dimension_lines(found):
        echo(line)


@command
def transfer(
    runs: Annotated[list[Path], Argument(help="Folders of finished runs.")],
    networks: Annotated[
        list[str] | None,
        Option(
            help="A network and layers; may be repeated. By default those of the runs.",
            metavar="NAME[=WEIGHTS][:LAYER,...]",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        Option(help="Of networks named without: all, or names with commas between."),
    ] = None,
    samples: Annotated[
        int | None,
        Option(min=1, help="Points between vertices; by default as many as the run's own."),
    ] = None,
    images: DataImages = None,
    mixed: Annotated[bool, Option("--mixed", help="Allow runs of different layers.")] = False,
    out: Annotated[
        list[Path] | None,
        Option(help="A file to write, .md, .json, .png, .pdf or .svg; may be repeated."),
    ] = None,
    device: Device = None,
    *,
    code: RunCode,
    given: Settings,
) -> None:
    """Measures whether runs collide at other layers, and in other networks."""
    from patchcollide.io.files import output_path
    from patchcollide.networks.factories import ask_for
    from patchcollide.networks.loading import parse_spec
    from patchcollide.progress import print_table
    from patchcollide.report.transfer import HEADER, require_format, transfer_lines, write_transfer
    from patchcollide.runs.transfer import TransferOptions
    from patchcollide.runs.transfer import transfer as measure

    for path in out or []:
        require_format(path)
    paths = [output_path(path) for path in out or []]
    settings = given.read({"network.device": device})
    wanted = tuple(layer.strip() for layer in layers.split(",")) if layers else ()
    del code
    specs = [parse_spec(text) for text in networks or []]
    for spec in specs:
        ask_for(spec.name)
    matrix = measure(settings, runs, specs, TransferOptions(wanted, samples, images, mixed))
    print_table(HEADER, transfer_lines(matrix))
    for path in paths:
        write_transfer(path, matrix)
        echo(path)
