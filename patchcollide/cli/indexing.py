"""Commands that make and keep stores.

What takes seconds to import is imported by the command that needs it: ``--help`` should not wait.
"""

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


@command
def index(
    images: Annotated[Path, Argument(help="A folder of images: class/file, or flat.")],
    out: Annotated[Path, Option(help="The store's folder.")],
    fraction: Annotated[float | None, Option(help="Share of each class to take.")] = None,
    config: ConfigPath = None,
    overrides: Overrides = None,
    seed: Seed = None,
) -> None:
    """Cuts a folder of images into a patch store and indexes its patches."""
    from patchcollide import pipeline

    if fraction is not None:
        overrides = [*(overrides or []), f"store.fraction={fraction}"]
    pipeline.index(read_settings(config, overrides, {"seed": seed}), images, out)
    echo(out)
