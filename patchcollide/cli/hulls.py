"""Options for a proof of all images between the vertices of a run."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import BadParameter, Option, echo


@dataclass(frozen=True)
class HullOptions:
    """Options for a proof of all images between the vertices."""

    hull: Annotated[
        bool, Option("--hull", help="Prove the class of all images between the vertices.")
    ] = False
    rounding: Annotated[
        bool, Option("--rounding", help="With --hull: also however they are rounded to 8 bits.")
    ] = False
    tightness: Annotated[
        float | None,
        Option(
            help="With --hull: prove that features differ by at most this share; by default what "
            "the run was asked for.",
            metavar="GAMMA",
        ),
    ] = None
    seconds: Annotated[
        float | None, Option(help="With --hull: how long to refine the proof; by default 10.")
    ] = None

    def is_asked(self) -> bool:
        """Says whether a proof is wanted; refuses options that only a proof has."""
        if not self.hull and (self.rounding, self.tightness, self.seconds) != (False, None, None):
            raise BadParameter("--rounding, --tightness and --seconds need --hull.")
        if self.tightness is not None and not 0 < self.tightness < 1:
            raise BadParameter(
                "--tightness should be a number between 0 and 1, such as 0.1, but is "
                f"{self.tightness:g}."
            )
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise BadParameter(
                f"--seconds should be a number above 0, such as 10, but is {self.seconds:g}."
            )
        return self.hull

    def prove(self, run: Path) -> None:
        """Proves what can be proved, and prints it."""
        from patchcollide import pipeline
        from patchcollide.proofs.hulls import SECONDS, Claim
        from patchcollide.report.proofs import proof_lines
        from patchcollide.runs.folder import open_run
        from patchcollide.runs.summary import read_summary

        seconds = SECONDS if self.seconds is None else self.seconds
        pipeline.prove(run, Claim(self.tightness, self.rounding, seconds))
        for line in proof_lines(read_summary(open_run(run))):
            echo(line)
        echo(run / "report.html")
