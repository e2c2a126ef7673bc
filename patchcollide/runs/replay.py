"""Replay: a finished run made again from what it recorded, and compared file by file."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from patchcollide.errors import InputError, RunError
from patchcollide.images.pictures import read_png, read_square
from patchcollide.io.provenance import array_digest, differences, file_digest, machine, versions
from patchcollide.networks.network import CollisionNetwork
from patchcollide.report.headlines import figure_title
from patchcollide.report.sheet import is_former_drawing
from patchcollide.retrieval.engines import named_engine
from patchcollide.runs.collide import collide
from patchcollide.runs.exact import find_exact
from patchcollide.runs.folder import SUMMARY_FILE, Run, RunRecord, open_run
from patchcollide.runs.networks import network_of
from patchcollide.runs.pictures import (
    OF_STORE,
    Crop,
    Crops,
    choose_picture,
    choose_target,
    target_of,
)
from patchcollide.runs.report import write_picture, write_run_differences
from patchcollide.runs.summary import read_summary
from patchcollide.runs.vertices import load_vertex_pngs, load_vertices
from patchcollide.store.manifest import MANIFEST
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

__all__ = ["Replay", "replay"]

logger = logging.getLogger(__name__)

_FIGURE, _SHEET = "figure.png", "neighbours.png"


@dataclass(frozen=True)
class Replay:
    """What came of making a run again.

    Attributes:
        compared: Names of the files that were compared.
        differing: A line for each that is not the same; empty if all are.
        notes: What was not as when the run was made: copies used for inputs that are gone,
            libraries, the machine.
    """

    compared: tuple[str, ...]
    differing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every file is the same."""
        return not self.differing

    def lines(self) -> list[str]:
        """Returns what to tell a person."""
        found = [f"not as before: {note}" for note in self.notes]
        if self.identical:
            return [*found, f"identical: {', '.join(self.compared)}"]
        found += [f"differs: {line}" for line in self.differing]
        if not self.notes:
            found.append(
                "Nothing else is known to be different. What can still be: the model of the "
                "processor, libraries that PyTorch links, and changes to this program within a "
                "version."
            )
        return found


@dataclass
class _Inputs:
    """Where the inputs of a run are now."""

    places: dict[str, Path | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    crops: dict[str, Crop] = field(default_factory=dict)


@proof_modes(grad=True)
def replay(folder: Path, out: Path | None = None) -> Replay:
    """Makes a finished run again, with as many threads, and compares the two.

    PNG files are compared byte for byte, ``vertices.h5`` value for value. Inputs that are gone are
    replaced by the copies that the run keeps: of the source and the target as the network saw them,
    and of the neighbours, which are then not retrieved again.

    Args:
        folder: A finished run's folder.
        out: Where to keep what is made; None to keep nothing.

    Raises:
        RunError: If it cannot be made again: an input, or the network, is another now, or gone
            without a copy.
        InputError: If the run's settings are refused here.
    """
    run = open_run(folder)
    load_vertices(run), load_vertex_pngs(run)
    network = network_of(run)
    found = _find_inputs(run, network)
    if found.problems:
        raise RunError(f"{folder} cannot be made again: {'; '.join(found.problems)}.")
    notes = [*found.notes, *_environment(run.about)]
    for note in notes:
        logger.warning("not as before: %s", note)
    with contextlib.ExitStack() as stack:
        if out is None:
            parent = stack.enter_context(tempfile.TemporaryDirectory(prefix="patchcollide-"))
            out = Path(parent) / "replay"
        stack.enter_context(_threads(_threads_of(run.about)))
        made = open_run(_make(run, found.places, Crops(**found.crops), out))
        names = sorted(path.name for path in run.folder.glob("*.png"))
        drawn = {_FIGURE: _compare_figures, _SHEET: _compare_sheets}
        lines = [_compare_png(run / name, made / name) for name in names if name not in drawn]
        lines += [compare(run, made) for name, compare in drawn.items() if name in names]
        lines.append(_compare_vertices(run, made))
    return Replay(
        compared=(*names, "vertices.h5"),
        differing=tuple(line for line in lines if line),
        notes=tuple(notes),
    )


def _make(run: Run, places: dict[str, Path | None], crops: Crops, out: Path) -> Path:
    source, target = places["source"], places["target"]
    if source is None or target is None:
        raise RunError(f"{run.folder} records no source or no target.")
    config = run.config
    if "engine" in run.inputs:
        config = named_engine(config, run.inputs["engine"])
    if run.inputs["parameterisation"].endswith("exact"):
        return find_exact(
            config,
            target,
            out,
            source=source,
            neighbours_path=places["neighbours"],
            images=places["images"],
        )
    return collide(
        config,
        source,
        target,
        out,
        places["store"],
        neighbours_path=places["neighbours"],
        images=places["images"],
        crops=crops,
    )


def _find_inputs(run: Run, network: CollisionNetwork) -> _Inputs:
    """Finds the inputs, and says which are not those the run was made from."""
    recorded, identity = run.inputs, run.about["identity"]
    found = _Inputs()
    _find_picture(found, run, network, "source", run / "source.png")
    _find_picture(found, run, network, "target", run / run.target_file)
    store, lists = recorded["store"], recorded["neighbours"]
    found.places |= {"store": None, "neighbours": None, "images": _folder(recorded.get("images"))}
    if store and Path(store).exists():
        _compare_digest(found, "store", Path(store), identity["store"], _store_digest)
    elif lists and Path(lists).is_file():
        _compare_digest(found, "neighbours", Path(lists), identity["neighbours"], file_digest)
    elif store or lists:
        found.notes.append(
            f"{'store' if store else 'neighbours'}: {store or lists} is gone, so the run's own "
            "copy of the neighbours is composed"
        )
        found.places["neighbours"] = run / "neighbours.h5"
    return found


def _find_picture(
    found: _Inputs,
    run: Run,
    network: CollisionNetwork,
    name: Literal["source", "target"],
    copy: Path,
) -> None:
    """Finds a picture where it was, in a file or the store, or else the run's own copy."""
    config, recorded = run.config, run.inputs
    path, text = Path(recorded[name]), recorded.get(f"{name}_crop")
    crop = Crop.parse(text) if isinstance(text, str) else None
    is_of_store = recorded[name].startswith(OF_STORE)
    place = Path(recorded["store"] or "")
    if not (place / MANIFEST if is_of_store else path).is_file():
        found.notes.append(f"{name}: {recorded[name]} is gone, so the run's own copy is used")
        path, crop, is_of_store = copy, None, False
    if crop is not None:
        found.crops[name] = crop

    def digest(path: Path) -> str:
        store = PatchStore.open(place) if is_of_store else None
        if name == "target":
            return target_of(config, network, choose_target(config, path, store, crop)).digest
        seen = choose_picture(config, path, store, crop).picture
        return array_digest(read_square(config, seen, network.input_size, network.channels))

    _compare_digest(found, name, path, run.about["identity"][name], digest)


def _compare_digest(
    found: _Inputs, name: str, path: Path, expected: str | None, digest: Callable[[Path], str]
) -> None:
    found.places[name] = path
    try:
        now = digest(path)
    except InputError as error:
        found.problems.append(f"{name}: {str(error).rstrip('.')}")
        return
    if now != expected:
        found.problems.append(
            f"{name}: {path} is not what the run was made from (digest {now[:12]}, expected "
            f"{(expected or 'none')[:12]})"
        )


def _store_digest(path: Path) -> str:
    return PatchStore.open(path).fingerprint


def _folder(recorded: str | None) -> Path | None:
    # Images of the data set change no file that is compared.
    return Path(recorded) if recorded and Path(recorded).is_dir() else None


def _threads_of(about: RunRecord) -> int | None:
    recorded = about.get("machine")
    return recorded.get("num_threads") if recorded else None


def _environment(about: RunRecord) -> list[str]:
    """Says which libraries, and what of the machine, are not as they were."""
    recorded = about.get("machine")
    # The number of threads is set as it was.
    now = {**machine(), "num_threads": _threads_of(about)}
    lines = differences(about.get("versions", {}), versions(), "versions")
    if recorded is None:
        return [*lines, "machine: the run does not say how many threads it was made with"]
    return [*lines, *differences(recorded, now, "machine")]


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Has PyTorch use so many threads: among how many a sum is split decides its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare_png(before: Path, after: Path) -> str:
    if not after.is_file():
        return f"{before.name}: it was not made again"
    if before.read_bytes() == after.read_bytes():
        return ""
    if before.name in (_FIGURE, _SHEET):
        return f"{before.name}: another drawing"
    return f"{before.name}: {_values(read_png(before), read_png(after)) or 'the same pixels'}"


def _compare_figures(before: Run, after: Run) -> str:
    """Compares figures under the title of the first, which says what was known when it was made."""
    difference = _compare_png(before / _FIGURE, after / _FIGURE)
    if not difference or not (before / SUMMARY_FILE).exists():
        return difference
    title = figure_title(read_summary(before))
    with tempfile.TemporaryDirectory(prefix="patchcollide-") as folder:
        write_run_differences(Path(folder, _FIGURE), after, title)
        if not is_former_drawing(before / _FIGURE):
            return _compare_png(before / _FIGURE, Path(folder, _FIGURE))
        # Drawn otherwise than today: what it is drawn from is drawn again.
        again = Path(folder, "again", _FIGURE)
        again.parent.mkdir()
        write_run_differences(again, before, title)
        return _compare_png(again, Path(folder, _FIGURE))


def _compare_sheets(before: Run, after: Run) -> str:
    """Compares contact sheets; one that is drawn otherwise than today is drawn again."""
    difference = _compare_png(before / _SHEET, after / _SHEET)
    known = (before / "neighbours.h5").is_file()
    if not difference or not known or not is_former_drawing(before / _SHEET):
        return difference
    with tempfile.TemporaryDirectory(prefix="patchcollide-") as folder:
        write_picture(before, Path(folder, _SHEET), "neighbours")
        return _compare_png(Path(folder, _SHEET), after / _SHEET)


def _compare_vertices(before: Run, after: Run) -> str:
    (old, _), (new, _) = load_vertices(before), load_vertices(after)
    found = _values(old, new)
    return f"vertices.h5: {found}" if found else ""


def _values(before: np.ndarray, after: np.ndarray) -> str:
    """Says how two arrays differ; nothing if they do not."""
    if before.shape != after.shape:
        return f"shape {after.shape}, expected {before.shape}"
    gaps = np.abs(after.astype(np.float64) - before.astype(np.float64))
    if not gaps.any():
        return ""
    return f"{np.count_nonzero(gaps)} of {gaps.size} values, by up to {gaps.max():.3g} of 255"
