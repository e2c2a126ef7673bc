"""The command line: options to settings, settings to stages, errors to sentences."""

import contextlib
import faulthandler

from patchcollide.cli import (
    audits,
    digits,
    explorer,
    figures,
    indexing,
    reproduction,
    runs,
    theory,
    transfer,
)
from patchcollide.cli.framework import run

__all__ = [
    "audits",
    "digits",
    "explorer",
    "figures",
    "indexing",
    "main",
    "reproduction",
    "runs",
    "theory",
    "transfer",
]


def main() -> None:
    """Runs the command line."""
    # A mapped index that is cut off while it is read ends the process: at least it says where.
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):
        faulthandler.enable()
    run()
