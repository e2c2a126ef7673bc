"""Commands that say what the paper's propositions mean for a network."""

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
from patchcollide.cli.runs import NetworkName, Weights


@command
def dimensions(
    images: Annotated[list[Path], Argument(help="The image, or several.")],
    network: NetworkName = None,
    weights: Weights = None,
    layers: Annotated[
        list[str] | None,
        Option("--layer", help="An activation; may be repeated. By default all.", metavar="NAME"),
    ] = None,
    memory: Annotated[
        str, Option(help="What a layer may take, such as 8GB; above, only bounds are given.")
    ] = "2GB",
    seconds: Annotated[float, Option(min=0, help="What a layer may take for an image.")] = 300.0,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
    out: Annotated[Path | None, Option(help="A JSON file to write as well.")] = None,
) -> None:
    """Prints how large the polytopes of colliding inputs are at each layer (Proposition 1)."""
    from patchcollide import pipeline
    from patchcollide.dimensions import Limits
    from patchcollide.report.dimensions import dimension_lines
    from patchcollide.sizes import parse_size

    options = {"network.name": network, "network.weights": weights, "seed": seed}
    settings = read_settings(config, overrides, options)
    limits = Limits(parse_size(memory), seconds)
    found = pipeline.measure_dimensions(settings, images, layers or (), limits, out)
    for line in dimension_lines(found):
        echo(line)
