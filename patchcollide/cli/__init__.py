"""The command line: options to settings, settings to stages, errors to sentences."""

from patchcollide.cli import frontier, indexing, networks, reproduction, runs, settings, show
from patchcollide.cli.framework import app, arrange

__all__ = ["frontier", "indexing", "main", "networks", "reproduction", "runs", "settings", "show"]

_GROUPS = {
    "Store: patches of a folder of images": (
        "photographs", "digits", "plan", "index", "verify", "repair", "export",
    ),
    "Collide": (
        "demo", "networks", "layers", "train", "settings", "retrieve", "import-neighbours",
        "features", "collide", "exact", "frontier",
    ),
    "Measure": ("evaluate", "certify", "transfer", "compare", "replay", "audit", "adequacy"),
    "Show": ("report", "explore", "figure", "animate"),
    "Theory": ("dimensions",),
    "Paper": ("reproduce", "figure1"),
}  # fmt: skip

arrange(_GROUPS)


def main() -> None:
    """Runs the command line."""
    app()
