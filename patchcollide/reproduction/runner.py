"""Makes rows one after the other, compares their numbers, and keeps what it found."""

import logging
import time
from collections.abc import Callable, Sequence

from patchcollide.errors import (
    DiskFullError,
    InterruptedWorkError,
    PatchCollideError,
    ReproductionError,
)
from patchcollide.io.files import output_path
from patchcollide.io.locks import locked
from patchcollide.io.provenance import describe_machine, versions
from patchcollide.reproduction.inputs import NO_IMAGENET, Inputs, command_line
from patchcollide.reproduction.measures import (
    Measured,
    Missing,
    index_statistics,
    run_statistics,
    verdict_of,
)
from patchcollide.reproduction.rendering import render_tables
from patchcollide.reproduction.results import (
    Check,
    Outcome,
    check_row,
    read_results,
    unmeasured,
    write_results,
)
from patchcollide.reproduction.rows import Row
from patchcollide.runs.folder import open_run
from patchcollide.runs.summary import read_summary

logger = logging.getLogger(__name__)

Execute = Callable[[list[str]], None]
Announce = Callable[[Row, Sequence[Check]], None]


def reproduce(rows: Sequence[Row], inputs: Inputs, execute: Execute, announce: Announce) -> None:
    """Makes rows, compares their numbers, and writes ``results.json`` and the tables.

    What a row left in its folder is not made again: ``index`` and ``collide`` do nothing on what
    is finished, and go on with what was begun.

    Args:
        rows: In this order.
        inputs: What they are made from, and where they go.
        execute: Runs the words after ``patchcollide`` as the command line would; its errors are
            raised as they are.
        announce: Is told of each row when it is compared.

    Raises:
        InputError: If something given is not there, or the folder holds something else.
        ReproductionError: If a number is not as expected; all rows were tried.
        InterruptedWorkError: If the user stopped it; what is finished is kept.
        DiskFullError: If the disk is full.
    """
    inputs.require()
    with locked(output_path(inputs.out)):
        results = read_results(inputs.out)
        write_results(inputs.out, results)
        made = {}
        for row in rows:
            made[row.key] = _reproduce_row(row, inputs, execute, results.get(row.key))
            results[row.key] = made[row.key]
            write_results(inputs.out, results)
            announce(row, made[row.key].checks)
        render_tables(inputs.out, results)
    checks = [(key, check) for key, outcome in made.items() for check in outcome.checks]
    failed = [f"{key} {check.metric}" for key, check in checks if check.status == "FAIL"]
    if failed:
        raise ReproductionError(
            f"{len(failed)} of {len(checks)} numbers are not as expected: {', '.join(failed)}. See "
            f"{inputs.out / 'tables.html'}."
        )


def _reproduce_row(row: Row, inputs: Inputs, execute: Execute, before: Outcome | None) -> Outcome:
    """Makes a row and compares it; a row that cannot be made, or fails, says why."""
    outcome = Outcome(
        table=row.table,
        title=row.title,
        origin=row.origin,
        note=row.note,
        commands=tuple(command_line(words) for words in inputs.commands(row)),
        checks=[],
        values={},
        fingerprint="",
        seconds=0.0,
        machine={},
        versions={},
    )
    if row.variant.measure == "index":
        measured = index_statistics(inputs.imagenet, NO_IMAGENET)
        return _with_numbers(outcome, row, measured)
    if why := inputs.lacking(row):
        return outcome.model_copy(update={"checks": unmeasured(row, "SKIPPED", why)})
    try:
        return _make_run(outcome, row, inputs, execute, before)
    except (DiskFullError, InterruptedWorkError):
        raise
    except PatchCollideError as error:
        logger.warning("%s: %s", row.key, error)
        why = f"{type(error).__name__}: {error}"
        return outcome.model_copy(update={"checks": unmeasured(row, "FAIL", why)})


def _make_run(
    outcome: Outcome, row: Row, inputs: Inputs, execute: Execute, before: Outcome | None
) -> Outcome:
    logger.info(
        "%s: %s, about %g min on %s.",
        *(row.key, row.title, row.variant.minutes, row.variant.hardware),
    )
    inputs.prepare(row)
    begun = time.perf_counter()
    for words in inputs.commands(row):
        execute(words)
    seconds = time.perf_counter() - begun
    run = open_run(inputs.out / row.key)
    uses_store = any("{store}" in command for command in row.variant.commands)
    measured = run_statistics(run, inputs.store_of(row) if uses_store else None)
    if before is not None and before.fingerprint == run.fingerprint:
        made_on = {"seconds": before.seconds, "machine": before.machine}
        made_on |= {"versions": before.versions}
    else:
        # A run that was there has its own record of how long it took.
        recorded = sum(read_summary(run)["seconds"].values())
        made_on = {"seconds": max(seconds, recorded), "machine": describe_machine()}
        made_on |= {"versions": versions()}
    compared = _with_numbers(outcome, row, measured)
    made_on |= {"fingerprint": run.fingerprint, "verdict": verdict_of(run)}
    return compared.model_copy(update=made_on)


def _with_numbers(outcome: Outcome, row: Row, measured: Measured) -> Outcome:
    values = {name: v for name, v in measured.items() if not isinstance(v, Missing)}
    return outcome.model_copy(update={"values": values, "checks": check_row(row, measured)})
