"""Commands as people give them, in a folder with pictures."""

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.images.pictures import write_png
from tests.conftest import SMALL

SETTINGS = [word for override in SMALL for word in ("--set", override)]
ARTEFACTS = {
    "config.json",
    "contributions.h5",
    "figure.png",
    "history.csv",
    "neighbours.h5",
    "neighbours.png",
    "report.html",
    "samples.h5",
    "source.png",
    "summary.json",
    "target.png",
    "vertices.h5",
    *(f"vertex-{number}.png" for number in range(5)),
}


class World:
    """A folder with pictures, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store, self.run = folder / "store", folder / "run"
        self.source, self.target = folder / "source.png", folder / "target.png"
        rng = np.random.default_rng(5)
        for path in (self.source, self.target):
            write_png(
                path, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
            )

    def __call__(self, *words: object) -> "Outcome":
        without = ("certify", "compare", "evaluate", "report", "--version")
        settings = [] if words[0] in without else SETTINGS
        result = CliRunner().invoke(app, [str(words[0]), *settings, *map(str, words[1:])])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, " ".join(result.stderr.split()))

    def index(self, images: Path, *more: object) -> "Outcome":
        return self("index", images, "--out", self.store, *more)

    def collide(self, *more: object) -> "Outcome":
        space = [] if "--pixels" in more else ["--store", self.store]
        pair = ["--source", self.source, "--target", self.target]
        return self("collide", *pair, *space, "--out", self.run, *more)

    def files(self) -> dict[str, int]:
        """Every file and when it was written."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path): path.stat().st_mtime_ns for path in found}


class Outcome:
    """What a command did."""

    def __init__(self, exit_code: int, printed: str, said: str) -> None:
        self.exit_code, self.printed, self.said = exit_code, printed, said


def assert_refused(outcome, exit_code, *parts):
    assert outcome.exit_code == exit_code, outcome.said
    assert "Traceback" not in outcome.said
    for part in parts:
        assert part in outcome.said
