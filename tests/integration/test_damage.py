"""A bit is flipped in every file that is written: it is found, made good, or changes nothing.

Whoever reads the file says so in a sentence, or gives what it gave before; nobody gives anything
else, and no library's own error comes through.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from patchcollide import pipeline
from patchcollide.audit import audit
from patchcollide.audit.files import RecordFile, open_audit, write_table
from patchcollide.composition.contributions import Contributions
from patchcollide.config_files import load_config
from patchcollide.errors import InterruptedWorkError, PatchCollideError
from patchcollide.evaluation.samples import load_samples
from patchcollide.images.bundled import write_tree
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.provenance import array_digest
from patchcollide.networks.feature_files import read_features, write_features
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.weights import read_metadata, read_state_dict, write_weights
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.reproduction.results import read_results, write_results
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.runs.folder import Run, open_run
from patchcollide.runs.summary import read_exact, read_summary
from patchcollide.runs.vertices import load_history, load_vertex_pngs, load_vertices
from patchcollide.store.descriptors import Basis
from patchcollide.store.index_files import read_about
from patchcollide.store.reader import PatchStore
from tests.conftest import SMALL
from tests.helpers.browsing import SETTINGS
from tests.helpers.killing import contents

CONFIG = load_config(overrides=SETTINGS)
QUICK_AUDIT = (
    "audit.per_class=1",
    "audit.hull_samples=2",
    "audit.num_vertices=2",
    "audit.method=search",
    "audit.steps=2",
)
FLIPS = 12
FOR_PEOPLE = re.compile(r".*\.(html|svg|csv|md|txt)|(neighbours|figure.*|history|.*chart.*)\.png")
"""Files that nothing here reads back."""


def frozen(value: Any) -> Any:
    """Anything that readers return, as values that can be compared."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if is_dataclass(value) and not isinstance(value, type):
        return [frozen(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, dict):
        return {key: frozen(part) for key, part in value.items()}
    return [frozen(part) for part in value] if isinstance(value, list | tuple) else value


def flipped(path: Path, rng: np.random.Generator) -> bytes:
    """Flips one bit of a file anywhere; returns the bytes before."""
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    return content


def attack(path: Path, read: Callable[[], Any], rng: np.random.Generator) -> int:
    """Flips bits of a file, one at a time; returns how many its reader found."""
    expected, found = frozen(read()), 0
    for _ in range(FLIPS):
        before = flipped(path, rng)
        after = path.read_bytes()
        try:
            assert frozen(read()) == expected, f"{path.name} is read otherwise"
        except PatchCollideError as error:
            found += 1
            told = str(error)
        else:
            told = f"{path.name}."
        assert path.name in told
        assert told.endswith("."), told
        assert path.read_bytes() == after
        path.write_bytes(before)
    assert frozen(read()) == expected
    return found


def readers_of(run: Path) -> dict[str, Callable[[], Any]]:
    """Who reads which file of a finished run."""
    opened = open_run(run)
    vertices = array_digest(load_vertex_pngs(opened))
    known = {
        "config.json": lambda: open_run(run).about,
        "summary.json": lambda: read_summary(opened),
        "exact.json": lambda: read_exact(opened),
        "vertices.h5": lambda: load_vertices(opened),
        "history.csv": lambda: load_history(opened),
        "samples.h5": lambda: load_samples(run / "samples.h5", vertices),
        "contributions.h5": lambda: Contributions.load(
            run / "contributions.h5", opened.fingerprint
        ),
        "neighbours.h5": lambda: Neighbours.load(run / "neighbours.h5"),
        "source.png": lambda: read_png(run / "source.png"),
        "target.png": lambda: read_png(run / "target.png"),
    }
    pictures = {path.name: None for path in run.glob("vertex-*.png")}
    return known | dict.fromkeys(pictures, lambda: load_vertex_pngs(opened))


@pytest.mark.parametrize("kind", ["patches", "pixels", "exact"])
def test_every_file_of_a_run_tells_of_a_flipped_bit(runs_of_each_kind, kind, tmp_path, rng):
    run = shutil.copytree(runs_of_each_kind[kind], tmp_path / "run")
    readers = readers_of(run)
    for name in sorted(path.name for path in run.iterdir()):
        if name in readers:
            found = attack(run / name, readers[name], rng)
            # Spaces between values, and what marks a seal, may be anything.
            assert found >= FLIPS // 2, name
        else:
            assert FOR_PEOPLE.fullmatch(name), f"who reads {name}?"


def test_every_file_of_a_run_that_is_not_finished_tells_of_a_flipped_bit(
    runs_of_each_kind, tmp_path, monkeypatch, rng
):
    digits = sorted((runs_of_each_kind["patches"].parent / "digits").rglob("*.png"))
    vertices, out = [], tmp_path / "run"

    def stop(*arguments):
        vertices.append(arguments)
        raise InterruptedWorkError("Stopped.")

    monkeypatch.setattr("patchcollide.runs.vertices.save_vertices", stop)
    with pytest.raises(InterruptedWorkError, match="Stopped"):
        pipeline.collide(CONFIG, digits[0], digits[5], out)
    partial = tmp_path / "run.partial"
    run = Run(partial, out, open_run(partial).about)
    state = Checkpoint(partial / "checkpoint.h5", run.fingerprint)

    def restore():
        parameter = torch.zeros(4, 1, 28, 28, requires_grad=True)
        generator = torch.Generator()
        found = state.load(parameter, torch.optim.Adam([parameter]), generator)
        return parameter.detach(), generator.get_state(), found

    assert attack(state.path, restore, rng) >= FLIPS // 2
    assert attack(partial / "seconds.json", run.seconds, rng) >= FLIPS // 2
    assert attack(partial / "config.json", lambda: open_run(partial).about, rng) >= FLIPS // 2


@pytest.mark.parametrize("name", ["shard-00001.h5", "manifest.json", "basis.h5", "index.json"])
def test_whoever_opens_a_store_is_told_of_a_flipped_bit(write_images, tmp_path, name, rng):
    config = load_config(overrides=[*SMALL, "store.images_per_shard=3", "index.kind=flat"])
    folder, rng = (
        pipeline.index(config, write_images(), tmp_path / "store"),
        np.random.default_rng(1),
    )
    queries = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)

    def use() -> Any:
        store = PatchStore.open(folder)
        about = read_about(store, config.index)
        if name == "basis.h5":
            basis = Basis.load(folder / name, store=store)
            return basis.filters, basis.transform, basis.variance_share
        return store.manifest, about, store.names, store.valid, store.thumbnails()

    attack(folder / name, use, rng)
    found = ExhaustiveSearcher(PatchStore.open(folder)).search(queries, 3, np.empty(0, np.int64))
    before = contents(folder)
    # Pixels and FAISS's index are too many to be looked at whenever a store is opened.
    for _ in range(4):
        content = flipped(folder / name, rng)
        damages = pipeline.verify(folder).damages
        assert [damage.file for damage in damages] == [name]
        (folder / name).write_bytes(content)
    assert contents(folder) == before
    assert found.proven.all()


def test_every_file_of_an_audit_tells_of_a_flipped_bit(tmp_path, monkeypatch, rng):
    for number in range(4):
        pixels = rng.integers(0, 256, (28, 28, 1), dtype=np.uint8)
        place = tmp_path / "images" / f"class-{number % 2}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_png(place, pixels)
    digits = tmp_path / "images"
    config = load_config(overrides=[*SETTINGS, *QUICK_AUDIT])
    kept = tmp_path / "records.jsonl"
    original = write_table

    def keep_records(path, rows):
        shutil.copy(path.parent / "records.jsonl", kept)
        original(path, rows)

    monkeypatch.setattr(audit, "write_table", keep_records)
    out = audit.audit(config, digits, tmp_path / "audit")
    assert attack(out / "config.json", lambda: open_audit(out)[0].about, rng) >= FLIPS // 2
    assert attack(out / "audit.json", lambda: open_audit(out)[1], rng) >= FLIPS // 2
    for path in (out / "images").iterdir():
        attack(path, partial(read_png, path), rng)
    records = RecordFile(kept).read()
    for _ in range(FLIPS):
        content = flipped(kept, rng)
        try:
            found = RecordFile(kept).read()
        except PatchCollideError:
            found = records
        # A last line without its end is half a record, and measured again.
        assert found in (records, records[:-1])
        kept.write_bytes(content)


def test_files_of_weights_features_results_and_trees_tell_of_a_flipped_bit(tmp_path, rng):
    module = build_digit_network("mlp", "relu", 0)
    weights = tmp_path / "mlp.safetensors"
    write_weights(weights, module, {"network": "mlp", "test_accuracy": "0.97"})
    weights_found = attack(weights, lambda: (read_state_dict(weights), read_metadata(weights)), rng)
    assert weights_found >= FLIPS - 1
    network = CollisionNetwork(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU()),
        name="small",
        layer="2",
        input_size=4,
        mean=(0.0,),
        scale=(1.0,),
    )
    features = tmp_path / "features.h5"
    write_features(features, torch.arange(8.0), network, image="a.png", about={})
    assert attack(features, lambda: read_features(features, network), rng) >= FLIPS // 2
    (tmp_path / "out").mkdir()
    write_results(tmp_path / "out", {})
    results = tmp_path / "out" / "results.json"
    assert attack(results, lambda: read_results(tmp_path / "out"), rng) >= FLIPS // 2
    settings: dict[str, str | int | list[str]] = {"encoding-type": "pictures", "seed": 7}
    tree = tmp_path / "tree"

    def write() -> None:
        write_tree(tree, "about.json", settings, [("a.txt", b"a")])

    write()
    assert attack(tree / "about.json", write, rng) >= FLIPS // 2
