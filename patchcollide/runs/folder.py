"""A run's folder: what is in it, which run it belongs to, and how it comes to be whole.

Work goes on in ``RUN.partial``, which is renamed to ``RUN`` when everything is there. The same
command finds what was finished and goes on; another one is refused.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from patchcollide.config import Config
from patchcollide.config_files import parse_recorded
from patchcollide.errors import RunError
from patchcollide.io.encodings import require_encoding
from patchcollide.io.files import (
    PARTIAL_SUFFIX,
    is_occupied,
    partial_path,
    read_json,
    write_json,
)
from patchcollide.io.provenance import (
    Encoded,
    Machine,
    differences,
    fingerprint,
    machine,
    versions,
)

logger = logging.getLogger(__name__)

ENCODING = "patchcollide-run"
AUDIT_ENCODING = "patchcollide-audit"
VERSION = "1"
CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"
VERTICES_FILE = "vertices.h5"
HISTORY_FILE = "history.csv"
EXACT_FILE = "exact.json"
CONTRIBUTIONS_FILE = "contributions.h5"
SAMPLES_FILE = "samples.h5"
_SECONDS_FILE = "seconds.json"
_COMMANDS = {ENCODING: "collide", AUDIT_ENCODING: "audit"}


class RunInputs(TypedDict, total=False):
    """What a run is made from, as people know it: names, paths and the command line.

    ``engine`` is the one that ``retrieval.engine = "auto"`` took; settings name any other. An audit
    has of these only the images, the network, the layer and the command.
    """

    source: str
    target: str
    target_given_as: str
    target_image: str | None
    network: str
    network_given_as: str
    layer: str
    store: str | None
    neighbours: str | None
    images: str | None
    parameterisation: str
    command: str
    source_crop: str
    target_crop: str
    engine: str


class RunIdentity(TypedDict, total=False):
    """Digests of all that decides the result beside the settings, and names that do.

    An audit's are those of its images, its network and its method.
    """

    source: str
    target: str
    network: str
    layer: str
    store: str | None
    neighbours: str | None
    parameterisation: str
    images: str
    method: str
    measures: int


class RunRecord(Encoded):
    """What ``config.json`` holds: all that a run is made from, and what with and where.

    ``config`` are the settings, nested as in a file of settings. Runs of older versions lack the
    machine.
    """

    fingerprint: str
    config: dict[str, Any]
    identity: RunIdentity
    inputs: RunInputs
    seed: int
    versions: NotRequired[dict[str, str]]
    machine: NotRequired[Machine]


@dataclass(frozen=True)
class Run:
    """A run's folder, finished or not.

    Attributes:
        folder: Where its files are now.
        final: Where they will be when it is finished.
        about: What ``config.json`` holds.
    """

    folder: Path
    final: Path
    about: RunRecord

    @property
    def finished(self) -> bool:
        """Whether all its files are there."""
        return self.folder == self.final

    @property
    def fingerprint(self) -> str:
        """Decided by the settings and the inputs' contents; the same for the same run."""
        return self.about["fingerprint"]

    @property
    def config(self) -> Config:
        """The settings the run was made with."""
        return parse_recorded(self.about["config"], str(self.folder / CONFIG_FILE))

    @property
    def inputs(self) -> RunInputs:
        """Source, target, network, store: names and paths."""
        return self.about["inputs"]

    @property
    def target_file(self) -> str:
        """The name of the file with the target: a picture, or features where those were given."""
        return "target.h5" if self.inputs.get("target_given_as") == "features" else "target.png"

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time the block takes to that of a stage, also when it is cut off."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds()
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - started
            write_json(self / _SECONDS_FILE, spent)

    def seconds(self) -> dict[str, float]:
        """Returns the time each stage took, over all attempts."""
        path = self / _SECONDS_FILE
        return read_json(path, error=RunError) if path.exists() else {}

    def finish(self) -> "Run":
        """Renames the folder to its final name; everything must be in it."""
        self.folder.replace(self.final)
        finished = Run(self.final, self.final, self.about)
        for name in (_SECONDS_FILE, "checkpoint.h5"):
            (finished / name).unlink(missing_ok=True)
        return finished

    def discard(self) -> None:
        """Removes an unfinished run's folder."""
        if not self.finished:
            shutil.rmtree(self.folder)

    def discard_unless_found(self) -> None:
        """Removes an unfinished run's folder, but not vertices that were found already.

        What failed after them, a measure or the page, is no reason to lose them.
        """
        if not (self / VERTICES_FILE).exists():
            self.discard()
            return
        logger.error(
            "The vertices are found and kept in %s. Run the same command again to go on.",
            self.folder,
        )


def start_run(
    out: Path,
    config: Config,
    inputs: RunInputs,
    identity: RunIdentity,
    encoding: str = ENCODING,
) -> Run:
    """Opens the folder of a run, new, begun or finished.

    Args:
        out: The run's folder.
        config: All settings; they are part of its fingerprint.
        inputs: What it is made from, for people: written into ``config.json``.
        identity: Digests of the inputs' contents: part of its fingerprint.
        encoding: What kind of run it is.

    Raises:
        RunError: If the folder, or what was begun beside it, holds something else.
    """
    about = describe(config, inputs, identity, encoding)
    partial = partial_path(out)
    if is_occupied(out):
        return _same_run(out, out, about, f"Choose another --out than {out}, or remove it.")
    if (partial / CONFIG_FILE).exists():
        how = f"Remove {partial} to start again, or choose another --out."
        run = _same_run(partial, out, about, how)
        logger.info("Going on with what was begun in %s.", partial)
        return run
    if is_occupied(partial):
        raise RunError(
            f"{partial} is where the run is made, but it holds something else. Move that away, or "
            "choose another --out."
        )
    partial.mkdir(parents=True, exist_ok=True)
    write_json(partial / CONFIG_FILE, about)
    return Run(partial, out, about)


def new_run(out: Path, about: RunRecord) -> Run:
    """Begins a run's folder where nothing is yet.

    Args:
        out: Where it will be.
        about: What ``config.json`` is to hold; it is not written.

    Raises:
        RunError: If something is there.
    """
    partial = partial_path(out)
    for place in (out, partial):
        if is_occupied(place):
            raise RunError(f"{place} is there already. Choose another folder, or remove it.")
    partial.mkdir(parents=True, exist_ok=True)
    return Run(partial, out, about)


def describe(
    config: Config,
    inputs: RunInputs,
    identity: RunIdentity,
    encoding: str = ENCODING,
) -> RunRecord:
    """Returns what ``config.json`` of a run holds; arguments as of :func:`start_run`."""
    return {
        "encoding-type": encoding,
        "encoding-version": VERSION,
        "fingerprint": fingerprint({"config": config.identity(), "identity": identity}),
        "config": config.model_dump(mode="json"),
        "identity": identity,
        "inputs": inputs,
        "seed": config.seed,
        "versions": versions(),
        "machine": machine(),
    }


def open_run(folder: Path, encoding: str = ENCODING) -> Run:
    """Opens a finished run.

    Args:
        folder: Where it is.
        encoding: What kind of run it should be.

    Raises:
        RunError: If there is none, or it is of another version.
    """
    if not (folder / CONFIG_FILE).is_file():
        begun = folder.with_name(folder.name + PARTIAL_SUFFIX) if folder.name else folder
        command = f"`patchcollide {_COMMANDS[encoding]}`"
        hint = (
            f"It was begun in {begun} but not finished: run the same {command} again."
            if begun.exists()
            else f"Check the path, or make a run with {command}."
        )
        raise RunError(f"{folder} is not a run: it holds no {CONFIG_FILE}. {hint}")
    about = read_json(folder / CONFIG_FILE, error=RunError)
    remedy = "Make the run again with this version."
    require_encoding(about, folder / CONFIG_FILE, (encoding, VERSION), RunError, remedy)
    missing = {"fingerprint", "config", "identity", "inputs", "seed"} - about.keys()
    if missing:
        raise RunError(
            f"{folder / CONFIG_FILE} is damaged: it lacks {', '.join(sorted(missing))}. Make the "
            "run again."
        )
    return Run(folder, folder, cast(RunRecord, about))


def require_files(run: Run, num_vertices: int) -> None:
    """Raises :class:`RunError` if a file that every run has is missing."""
    names = [SUMMARY_FILE, "source.png", run.target_file, VERTICES_FILE, HISTORY_FILE]
    names += ["report.html"]
    names += [f"vertex-{number}.png" for number in range(num_vertices)]
    missing = [name for name in names if not (run / name).exists()]
    if missing:
        raise RunError(
            f"{run.folder} is no longer whole: it lacks {', '.join(missing)}. Remove it and run "
            "the same command again."
        )


def _other_inputs(about: RunRecord, found: RunRecord) -> list[str]:
    """Lists the inputs that differ, by their names, or as they are where they have none."""
    lines = []
    for key in sorted(about["identity"].keys() | found["identity"].keys()):
        now, before = (cast(Any, record["identity"]).get(key) for record in (about, found))
        if now == before:
            continue
        named, called = (cast(Any, record["inputs"]).get(key) for record in (about, found))
        if not named and not called:
            lines += differences(now, before, key)
        elif named == called:
            lines.append(f"{key}: {called} had another content")
        else:
            lines += differences(named, called, key)
    return lines


def _same_run(folder: Path, final: Path, about: RunRecord, how: str) -> Run:
    try:
        found = open_run(folder, about["encoding-type"]).about
    except RunError as error:
        raise RunError(f"{folder} is there already and is not this run: {error} {how}") from None
    if found["fingerprint"] != about["fingerprint"]:
        # Settings that came later than the run have their defaults.
        before = parse_recorded(found["config"], str(folder / CONFIG_FILE)).model_dump(mode="json")
        changed = [
            *differences(about["config"], before),
            *_other_inputs(about, found),
        ]
        if changed:
            raise RunError(f"{folder} holds another run ({'; '.join(changed)}). {how}")
    return Run(folder, final, found)
