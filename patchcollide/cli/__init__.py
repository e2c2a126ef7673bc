"""The command line: options to settings, settings to stages, errors to sentences."""

from patchcollide.cli import frontier, indexing, networks, reproduction, runs, show
from patchcollide.cli.framework import app

__all__ = ["frontier", "indexing", "main", "networks", "reproduction", "runs", "show"]


def main() -> None:
    """Runs the command line."""
    app()
