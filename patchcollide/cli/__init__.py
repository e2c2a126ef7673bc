"""The command line: options to settings, settings to stages, errors to sentences."""

from patchcollide.cli import indexing, networks, reproduction, runs, show
from patchcollide.cli.framework import app

__all__ = ["indexing", "main", "networks", "reproduction", "runs", "show"]


def main() -> None:
    """Runs the command line."""
    app()
