"""Runs made again are the same, and what keeps them from it is named."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.api import find_polytope
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import RunError
from patchcollide.images.pictures import write_png
from patchcollide.io.files import write_json
from patchcollide.runs import replay as replaying
from patchcollide.runs.folder import open_run
from patchcollide.runs.replay import replay
from patchcollide.store.writer import write_store
from tests.conftest import SMALL

NETWORK = ["network.name=lenet5", "network.weights=random", "network.layer=fc1"]
FAST = [
    *NETWORK,
    *SMALL,
    "optimiser.num_vertices=2",
    "retrieval.engine=exact",
    "images.size_px=28",
    "network.min_confidence=0",
]


def picture(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)


def write_pair(folder):
    paths = folder / "source.png", folder / "target.png"
    for seed, path in enumerate(paths):
        write_png(path, picture(seed))
    return paths


@pytest.fixture
def pair(tmp_path):
    return write_pair(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of pictures; neither is to be changed."""
    folder = tmp_path_factory.mktemp("made")
    source, target = write_pair(folder)
    return pipeline.collide(load_config(overrides=FAST), source, target, folder / "run")


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def run_of_pair(pair, tmp_path):
    """A run whose pictures may be changed."""
    source, target = pair
    return pipeline.collide(load_config(overrides=FAST), source, target, tmp_path / "run")


def command(*words):
    result = CliRunner().invoke(app, ["replay", *map(str, words)])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def edited(run, **changes):
    path = run / "config.json"
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_a_run_is_made_again_to_the_last_bit(run, tmp_path):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, printed, said = command(run)
    assert (code, said.count("not as before")) == (0, 0)
    names = "figure.png, source.png, target.png, vertex-0.png, vertex-1.png, vertices.h5"
    assert printed.strip() == f"identical: {names}"
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert command(run, "--out", tmp_path / "kept")[0] == 0
    kept = tmp_path / "kept" / "vertex-1.png"
    assert kept.read_bytes() == before["vertex-1.png"]


def test_a_folded_run_says_so_and_is_made_again_to_the_last_bit(pair, tmp_path):
    config = load_config(overrides=[*FAST, "network.folded=true"])
    source, target = pair
    made = pipeline.collide(config, source, target, tmp_path / "run")
    assert open_run(made).config.network.folded
    assert replay(made).identical


@pytest.fixture
def store(write_images, tmp_path):
    return write_store(load_config(overrides=FAST), write_images(), tmp_path / "store")


@pytest.fixture
def patches_run(pair, store, tmp_path):
    config, (source, target) = load_config(overrides=FAST), pair
    return pipeline.collide(config, source, target, tmp_path / "run", store.path)


def test_patches_are_retrieved_and_composed_again(patches_run, store, tmp_path):
    found = replay(patches_run, tmp_path / "again")
    assert found.identical
    assert not found.notes
    assert "neighbours.png" in found.compared
    recorded = json.loads((tmp_path / "again" / "config.json").read_text())
    assert recorded["inputs"]["store"] == str(store.path)


def test_of_patches_whose_store_is_gone_the_own_copy_is_composed(patches_run, store, write_images):
    shutil.rmtree(store.path)
    # Another store of the same name.
    write_store(load_config(overrides=FAST), write_images("others", seed=9), store.path)
    with pytest.raises(RunError, match=r"cannot be made again: store: .* is not what the run"):
        replay(patches_run)
    shutil.rmtree(store.path)
    without = replay(patches_run)
    assert without.identical
    assert any("own copy of the neighbours is composed" in note for note in without.notes)


def test_runs_of_lists_need_no_store(patches_run, store, pair, tmp_path):
    lists = patches_run / "neighbours.h5"
    config, (source, target), out = load_config(overrides=FAST), pair, tmp_path / "lists"
    by_lists = pipeline.collide(config, source, target, out, neighbours_path=lists)
    shutil.rmtree(store.path)
    assert replay(by_lists).notes == ()
    lists.unlink()
    assert replay(by_lists).identical


def test_exact_runs_are_made_again(pair, tmp_path):
    options = ["network.name=mlp", "network.layer=fc1", "exact.vertices=random"]
    config = load_config(overrides=[*FAST, *options, "exact.extents=false"])
    run = pipeline.find_exact(config, pair[1], tmp_path / "run", source=pair[0])
    assert replay(run).identical


def test_other_vertices_are_found_and_counted(run):
    pixels = picture(8)[..., :1]
    write_png(run / "vertex-1.png", pixels)
    code, printed, _ = command(run)
    assert code == 1
    assert "differs: vertex-1.png: " in printed
    assert " of 784 values, by up to " in printed
    assert "vertex-0" not in printed
    assert "Nothing else is known to be different" in printed


def test_a_file_that_is_not_made_again_is_named(run):
    write_png(run / "figure-2.png", picture(1))
    (run / "figure.png").write_bytes((run / "source.png").read_bytes())
    found = replay(run)
    assert found.differing == (
        "figure-2.png: it was not made again",
        "figure.png: another drawing",
    )


def test_figures_of_a_former_drawing_are_drawn_again_and_compared(run):
    png = (run / "figure.png").read_bytes()
    assert b"Drawing\x00" in png
    (run / "figure.png").write_bytes(png.replace(b"Drawing\x00", b"Comment\x00"))
    assert replay(run).differing == ()
    # What is drawn, not only how, is another thing.
    write_png(run / "vertex-1.png", picture(8)[..., :1])
    assert "figure.png: another drawing" in replay(run).differing


def test_copies_stand_in_for_inputs_that_are_gone(run_of_pair, pair):
    for path in pair:
        path.unlink()
    code, printed, said = command(run_of_pair)
    assert code == 0
    assert f"not as before: source: {pair[0]} is gone, so the run's own copy is used" in printed
    assert f"target: {pair[1]} is gone" in said


def test_inputs_that_changed_are_all_named(run_of_pair, pair):
    write_png(pair[0], picture(5))
    pair[1].write_bytes(b"no picture")
    code, _, said = command(run_of_pair)
    assert code == 2
    assert f"source: {pair[0]} is not what the run was made from (digest " in said
    assert f"target: {pair[1]}: not an image of a known format" in said


def test_targets_given_as_features_are_met_again(pair, tmp_path):
    config = load_config(overrides=FAST)
    pipeline.extract_features(config, pair[1], tmp_path / "target.h5")
    run = pipeline.collide(config, pair[0], tmp_path / "target.h5", tmp_path / "run")
    (tmp_path / "target.h5").unlink()
    found = replay(run)
    assert found.identical
    assert len(found.notes) == 1


def test_other_libraries_and_machines_are_named_but_tried(run):
    about = json.loads((run / "config.json").read_text())
    edited(
        run,
        versions={**about["versions"], "torch": "1.0"},
        machine={**about["machine"], "cpu_capability": "ABACUS"},
    )
    found = replay(run)
    assert found.identical
    assert found.notes == (
        f'versions.torch: found "{about["versions"]["torch"]}", expected "1.0"',
        f'machine.cpu_capability: found "{about["machine"]["cpu_capability"]}", expected "ABACUS"',
    )


def test_a_run_of_before_threads_were_recorded_is_tried(run):
    about = json.loads((run / "config.json").read_text())
    del about["machine"]
    write_json(run / "config.json", about)
    (note,) = replay(run).notes
    assert "does not say how many threads" in note


def test_as_many_threads_are_used_as_recorded(run, monkeypatch):
    about = json.loads((run / "config.json").read_text())
    assert about["machine"]["num_threads"] == torch.get_num_threads() == 1
    edited(run, machine={**about["machine"], "num_threads": 2})
    seen = []
    collide = pipeline.collide
    monkeypatch.setattr(
        replaying,
        "collide",
        lambda *a, **k: seen.append(torch.get_num_threads()) or collide(*a, **k),
    )
    assert not replay(run).notes
    assert seen == [2]
    assert torch.get_num_threads() == 1


def test_another_network_is_refused(run):
    about = json.loads((run / "config.json").read_text())
    edited(run, identity={**about["identity"], "network": "0" * 64})
    code, _, said = command(run)
    assert code == 2
    assert "was made with other weights of lenet5" in said


def test_a_network_of_ones_own_cannot_be_made_again(small_network, tmp_path):
    settings = {"optimiser.steps": 2, "optimiser.num_vertices": 2, "network.min_confidence": 0}
    rng = np.random.default_rng(1)
    source, target = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = find_polytope(small_network, "act", source, target, settings=settings)
    with pytest.raises(RunError, match="with a network of one's own"):
        replay(found.save(tmp_path / "run"))


def test_images_in_memory_are_in_the_run(tmp_path):
    found = find_polytope("lenet5", "fc1", picture(0), picture(1), settings=FAST)
    done = replay(found.save(tmp_path / "run"))
    assert done.identical
    assert [note.split(":")[0] for note in done.notes] == ["source", "target"]


def test_what_is_no_run_cannot_be_made_again(tmp_path):
    code, _, said = command(tmp_path)
    assert (code, "is not a run" in said) == (2, True)
