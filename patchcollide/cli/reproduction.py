"""The command that makes the paper's tables again."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from patchcollide.cli.framework import (
    BadParameter,
    Option,
    Overrides,
    ask_for,
    command,
    echo,
    run_in_process,
)
from patchcollide.cli.network_options import LayerName, NetworkName

if TYPE_CHECKING:
    from patchcollide.reproduction.inputs import Inputs
    from patchcollide.reproduction.rows import Row

_HEADER = ("row", "metric", "paper", "expected", "obtained", "result")
_OBTAINED_WIDTH = len("37,011,074")


@dataclass(frozen=True)
class StandInOptions:
    """Options for Section 4 on a folder of photographs."""

    photographs: Annotated[
        Path | None,
        Option(
            help="Section 4 on these photographs, a folder a class, in place of the rows.",
            metavar="FOLDER",
        ),
    ] = None
    network: NetworkName = None
    layer: LayerName = None
    pairs: Annotated[
        int | None, Option(min=1, help="Of so many pairs of these photographs; by default 12.")
    ] = None
    steps: Annotated[int | None, Option(min=1, help="In so many steps at most.")] = None
    overrides: Overrides = None

    def rows(self, weights: Path | None) -> "list[Row] | None":
        """Returns the rows; None where no photographs are given."""
        from patchcollide.reproduction.stand_in import NUM_PAIRS, StandIn, stand_in_rows

        if self.photographs is None:
            given = {"network": self.network, "layer": self.layer, "pairs": self.pairs}
            for name, value in {**given, "steps": self.steps, "set": self.overrides}.items():
                if value:
                    option = f"--{name}"
                    raise BadParameter(f"{option} is for --photographs FOLDER, which is not given.")
            return None
        ask_for(self.network)
        steps = [] if self.steps is None else [f"optimiser.steps={self.steps}"]
        settings = (*steps, *(self.overrides or []))
        names = (self.network or "", self.layer or "")
        pairs = self.pairs or NUM_PAIRS
        return stand_in_rows(StandIn(self.photographs, *names, weights, pairs, settings))


@command
def reproduce(
    out: Annotated[Path, Option(help="Where runs, results and tables go.")] = Path("runs/paper"),
    quick: Annotated[
        bool, Option("--quick", help="Variants that need no data but what comes with libraries.")
    ] = False,
    only: Annotated[
        list[str] | None,
        Option("--only", help="A table or a row, also with *; may be repeated.", metavar="NAME"),
    ] = None,
    list_rows: Annotated[bool, Option("--list", help="Say which rows there are.")] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the commands, and what would be skipped.")
    ] = False,
    imagenet: Annotated[
        Path | None, Option(help="ImageNet's training images, a folder a class.")
    ] = None,
    mnist: Annotated[Path | None, Option(help="A folder with MNIST's four files.")] = None,
    weights: Annotated[Path | None, Option(help="VGG-16's weights, as a file.")] = None,
    download: Annotated[
        bool, Option("--download", help="Fetch VGG-16's weights (528 MB) if they are not there.")
    ] = False,
    store: Annotated[
        Path | None, Option(help="A store of a tenth of ImageNet, if there is one already.")
    ] = None,
    rows: Annotated[
        Path | None, Option(help="A folder of rows of your own; see configs/reproduce.")
    ] = None,
    *,
    stand_in: StandInOptions,
) -> None:
    """Makes the paper's Tables 1 to 6 again, and says of each number whether it comes out.

    Prints row, metric, paper, expected, obtained and OK, FAIL or SKIPPED with the reason; a row
    that lacks its data is skipped. Exit code 1 if a number is not as expected.

    With --photographs, Tables 5 and 6 on a folder of your own: a stand-in for the paper's.
    """
    from patchcollide.reproduction.inputs import Inputs
    from patchcollide.reproduction.rows import builtin_rows, load_rows, select_rows

    if stand_in.photographs and (quick or rows or imagenet or mnist):
        raise BadParameter(
            "--photographs FOLDER takes the place of --quick, --rows, --imagenet and --mnist: give "
            "it without them."
        )
    found = stand_in.rows(weights) or load_rows(rows or builtin_rows(), quick=quick)
    chosen = select_rows(found, only or [])
    folder = stand_in.photographs or imagenet
    inputs = Inputs(out, folder, weights, store, download, mnist)
    if list_rows:
        _list(chosen)
    elif dry_run:
        _show_commands(chosen, inputs)
    else:
        _reproduce(chosen, inputs)


def _list(rows: "Sequence[Row]") -> None:
    from patchcollide.reproduction.results import aligned

    lines = [("row", "table", "min", "hardware", "needs", "title")]
    for row in rows:
        variant = row.variant
        needs = ", ".join(variant.needs) or "nothing"
        minutes = f"{variant.minutes:g}"
        lines.append((row.name, row.table, minutes, variant.hardware, needs, row.title))
    echo("\n".join(aligned(lines)))


def _show_commands(rows: "Sequence[Row]", inputs: "Inputs") -> None:
    from patchcollide.reproduction.inputs import command_line

    inputs.require()
    for row in rows:
        echo(f"# {row.name}: {row.title}, about {row.variant.minutes:g} min")
        if why := inputs.lacking(row):
            echo(f"# SKIPPED ({why})")
        if inputs.needs_photographs(row):
            echo(
                f"# The photographs inside scikit-image and scikit-learn go to {inputs.photographs}"
            )
        for words in inputs.commands(row):
            echo(command_line(words))
        if not row.variant.commands:
            echo("# Counts images and positions; no picture is read.")


def _reproduce(rows: "Sequence[Row]", inputs: "Inputs") -> None:
    from patchcollide.reproduction.results import Check, aligned, unmeasured
    from patchcollide.reproduction.runner import reproduce

    # The widths are known before the numbers are.
    blank = [(row.name, *c.cells) for row in rows for c in unmeasured(row, "SKIPPED", "")]
    place = len(_HEADER) - 1
    blank = [(*cells[: place - 1], "".ljust(_OBTAINED_WIDTH), "") for cells in [_HEADER, *blank]]

    def announce(row: "Row", checks: Sequence[Check]) -> None:
        lines = aligned([*blank, *((row.name, *check.cells) for check in checks)])
        echo("\n".join(lines[len(blank) :]))

    echo(aligned([*blank, _HEADER])[-1])
    reproduce(rows, inputs, _execute, announce)
    echo(inputs.out / "tables.html")


def _execute(words: list[str]) -> None:
    """Runs a row's command; what it prints goes to standard error, beside what it says."""
    with contextlib.redirect_stdout(sys.stderr):
        run_in_process(words)
