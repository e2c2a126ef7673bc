"""The command line: options to settings, settings to stages, errors to sentences."""

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
    run()
