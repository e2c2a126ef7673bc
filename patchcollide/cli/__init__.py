"""The command line: options to settings, settings to stages, errors to sentences."""

from patchcollide.cli import indexing, reproduction, runs
from patchcollide.cli.framework import app

__all__ = ["indexing", "main", "reproduction", "runs"]


def main() -> None:
    """Runs the command line."""
    app()
