"""The command line: options to settings, settings to stages, errors to sentences."""

from patchcollide.cli import audits, digits, figures, indexing, reproduction, runs, theory
from patchcollide.cli.framework import app

__all__ = ["audits", "digits", "figures", "indexing", "main", "reproduction", "runs", "theory"]


def main() -> None:
    """Runs the command line."""
    app()
