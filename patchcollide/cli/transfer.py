"""The command that asks whether what collides in one place collides in others."""

from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import (
    Argument,
    ConfigPath,
    Option,
    Overrides,
    Seed,
    command,
    echo,
    read_settings,
)
from patchcollide.cli.runs import DataImages, Device


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
        Option(help="A file to write, .md, .json, .png or .pdf; may be repeated."),
    ] = None,
    device: Device = None,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Measures whether runs collide at other layers, and in other networks."""
    from patchcollide.files import output_path
    from patchcollide.network_specs import parse_spec
    from patchcollide.progress import print_table
    from patchcollide.report.transfers import (
        HEADER,
        require_format,
        transfer_lines,
        write_transfer,
    )
    from patchcollide.transfer_runs import TransferOptions
    from patchcollide.transfer_runs import transfer as measure

    for path in out or []:
        require_format(path)
    paths = [output_path(path) for path in out or []]
    settings = read_settings(config, overrides, {"network.device": device, "seed": seed})
    wanted = tuple(layer.strip() for layer in layers.split(",")) if layers else ()
    specs = [parse_spec(text) for text in networks or []]
    matrix = measure(settings, runs, specs, TransferOptions(wanted, samples, images, mixed))
    print_table(HEADER, transfer_lines(matrix))
    for path in paths:
        write_transfer(path, matrix)
        echo(path)
