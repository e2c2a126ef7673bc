"""Commands that measure a network on many images at once."""

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
from patchcollide.cli.runs import Device, LayerName, NetworkName, Weights


@command
def audit(
    images: Annotated[Path, Argument(help="A folder of images: class/file.")],
    out: Annotated[Path, Option(help="The audit's folder.")],
    network: NetworkName = None,
    layer: LayerName = None,
    weights: Weights = None,
    device: Device = None,
    per_class: Annotated[
        int | None, Option(min=1, help="How many images of each class, drawn by seed.")
    ] = None,
    one_class: Annotated[
        bool, Option("--one-class", help="Take images of one class, or without classes.")
    ] = False,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Ranks images by the size of what collides with them; looks for wrong labels among them."""
    from patchcollide import pipeline
    from patchcollide.audit_files import open_audit
    from patchcollide.report.audit_page import audit_lines

    options = {
        "network.name": network,
        "network.layer": layer,
        "network.weights": weights,
        "network.device": device,
        "audit.per_class": per_class,
        "seed": seed,
    }
    settings = read_settings(config, overrides, options)
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
    from patchcollide.adequacy_tables import adequacy_table
    from patchcollide.files import output_path, write_text

    table = adequacy_table(pipeline.compare_audits(audits))
    if out is not None:
        write_text(output_path(out), table)
    echo(table)
