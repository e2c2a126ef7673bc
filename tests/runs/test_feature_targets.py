"""`patchcollide features`, and runs whose target is given as features."""

import json
import shlex
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.images.pictures import read_png, write_png
from patchcollide.networks import feature_files
from patchcollide.networks.targets import Target
from patchcollide.report.figures import write_figure
from patchcollide.runs import collide, networks
from tests.helpers.commands import ARTEFACTS, World, assert_refused


@pytest.fixture
def world(tmp_path, small_network, monkeypatch):
    for stage in (collide, networks, feature_files):
        monkeypatch.setattr(stage, "load_network", lambda *_: small_network)
    return World(tmp_path)


@pytest.fixture
def target(world, small_network):
    return Target.of_picture(small_network, read_png(world.target))


def features_of(world, target, suffix):
    """Makes the world's target one of features."""
    path = world.folder / f"features{suffix}"
    if suffix == ".npz":
        np.savez(path, featfc1=target.pre_activation.numpy()[None])
    else:
        outcome = world("features", world.target, "--out", path)
        assert outcome.exit_code == 0, outcome.said
        assert str(path) in outcome.printed
    world.target = path


def summary_of(world):
    return json.loads((world.run / "summary.json").read_text())


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_features_lead_to_the_run_that_their_image_leads_to(suffix, world, target):
    assert world.collide("--pixels").exit_code == 0
    before = summary_of(world)
    vertices = [(world.run / f"vertex-{number}.png").read_bytes() for number in range(5)]
    world.run.rename(world.folder / "by-image")
    image = world.target
    features_of(world, target, suffix)
    outcome = world.collide("--pixels")
    assert outcome.exit_code == 0, outcome.said
    names = {path.name for path in world.run.iterdir()}
    of_patches = {"contributions.h5", "neighbours.h5", "neighbours.png"}
    assert names == ARTEFACTS - of_patches - {"target.png"} | {"target.h5"}
    for number, content in enumerate(vertices):
        assert (world.run / f"vertex-{number}.png").read_bytes() == content
    after = summary_of(world)
    assert (before["target_given_as"], after["target_given_as"]) == ("image", "features")
    for name in ("target_class", "success_rate", "vertices", "sample_probability_mean"):
        assert after[name] == before[name]
    assert after["target_probability"] == pytest.approx(before["target_probability"])
    inputs = json.loads((world.run / "config.json").read_text())["inputs"]
    assert inputs["target"] == str(world.target)
    assert inputs["target_image"] == (str(image) if suffix == ".h5" else None)
    with h5py.File(world.run / "target.h5") as file:
        np.testing.assert_array_equal(file["pre_activation"][:], target.pre_activation)


def test_the_page_and_the_figure_do_without_a_picture_of_the_target(world, target, tmp_path):
    features_of(world, target, ".npz")
    world.collide("--pixels")
    page = (world.run / "report.html").read_text()
    assert page.count("given as features") == 1
    assert 'alt="Target' not in page
    options: dict[str, Any] = {
        "source": read_png(world.run / "source.png"),
        "vertices": np.zeros((5, 32, 32, 3), np.uint8),
        "title": "",
        "captions": [""] * 7,
    }
    write_figure(tmp_path / "with.png", target=options["source"], **options)
    with Image.open(world.run / "figure.png") as figure, Image.open(tmp_path / "with.png") as other:
        assert figure.size == other.size


def test_a_run_on_features_is_measured_and_drawn_again(world, target):
    features_of(world, target, ".npz")
    world.collide("--pixels")
    page, summary = (world.run / "report.html").read_bytes(), summary_of(world)
    world.target.unlink()
    assert world("evaluate", world.run).exit_code == 0
    assert summary_of(world) == summary
    assert world("report", world.run).exit_code == 0
    assert (world.run / "report.html").read_bytes() == page
    (world.run / "target.h5").write_bytes(b"")
    assert_refused(world("evaluate", world.run), 2, "TargetError", "target.h5 is not a readable")


def test_the_same_features_again_do_nothing_and_others_are_refused(world, target):
    features_of(world, target, ".npz")
    world.collide("--pixels")
    before = world.files()
    assert "holds this run already" in world.collide("--pixels").said
    assert world.files() == before
    np.savez(world.target, featfc1=target.pre_activation.numpy()[None] + 1)
    assert_refused(
        world.collide("--pixels"), 2, "RunError", "target", "had another content", "another --out"
    )
    world.run.joinpath("target.h5").unlink()
    np.savez(world.target, featfc1=target.pre_activation.numpy()[None])
    assert_refused(world.collide("--pixels"), 2, "RunError", "no longer whole", "target.h5")


def test_the_recorded_command_makes_the_run_again(world, target):
    features_of(world, target, ".h5")
    world.collide("--pixels")
    words = shlex.split(json.loads((world.run / "config.json").read_text())["inputs"]["command"])
    vertex = (world.run / "vertex-0.png").read_bytes()
    world.run.rename(world.folder / "before")
    assert CliRunner().invoke(app, words[1:]).exit_code == 0
    assert (world.run / "vertex-0.png").read_bytes() == vertex


def test_patches_of_an_unknown_image_are_warned_of(world, target, write_images):
    assert world.index(write_images()).exit_code == 0
    features_of(world, target, ".npz")
    outcome = world.collide()
    assert outcome.exit_code == 0, outcome.said
    assert "its own patches are not known and not left out" in outcome.said
    world.run.rename(world.folder / "before")
    assert "own patches" not in world.collide("--set", "retrieval.leak_guard=false").said


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (np.zeros((1, 7), np.float32), ["holds 'featfc1' of shape (1, 7)", "has 384 units"]),
        (np.full((1, 384), np.nan, np.float32), ["384 values that are not finite"]),
        (np.array([{}], dtype=object), ["holds Python objects"]),
    ],
)
def test_bad_features_are_refused_and_leave_nothing(values, parts, world):
    world.target = world.folder / "bad.npz"
    np.savez(world.target, featfc1=values)
    assert_refused(world.collide("--pixels"), 2, "TargetError", *parts)
    assert not list(world.folder.glob("run*"))


def test_features_of_other_weights_are_refused_and_leave_nothing(world, target, small_network):
    features_of(world, target, ".h5")
    with torch.no_grad():
        small_network.module.classifier.bias[0] += 1
    small_network.__dict__.pop("digest")
    outcome = world.collide("--pixels")
    assert_refused(outcome, 2, "TargetError", "features.h5 holds features of layer 'act' of small")
    assert not list(world.folder.glob("run*"))


def test_too_few_inactive_units_are_refused_and_leave_nothing(world):
    world.target = world.folder / "active.npz"
    np.savez(world.target, featfc1=np.ones((1, 384), np.float32))
    words = ("--pixels", "--set", "objective.penalty=absolute", "--set", "objective.tightness=0")
    said = ("has 0 inactive units", "5 vertices", "objective.units = 'none'")
    assert_refused(world.collide(*words), 2, "TargetError", *said)
    assert not list(world.folder.glob("run*"))


def test_features_are_written_once_and_never_over_others(world, small_network, target):
    image, path = world.target, world.folder / "sub" / "features.h5"
    outcome = world("features", image, "--out", path)
    assert f"{target.class_name}, {target.probability:.3f} by small" in outcome.said
    content = path.read_bytes()
    with h5py.File(path) as file:
        assert file.attrs["image"] == str(image)
        assert json.loads(file.attrs["settings"])["images"]["size_px"] == 32
    again = world("features", image, "--out", path)
    assert again.exit_code == 0
    assert "holds these features already" in again.said
    outcome = world("features", world.source, "--out", path)
    assert_refused(outcome, 2, "TargetError", "holds other features", "another --out")
    path.with_name("picture.h5").write_bytes(b"a thesis")
    outcome = world("features", image, "--out", path.with_name("picture.h5"))
    assert_refused(outcome, 2, "TargetError", "picture.h5 is not a readable HDF5 file")
    assert path.read_bytes() == content


def test_features_of_no_image_or_to_no_hdf5_file_are_refused(world):
    outcome = world("features", world.source, "--out", world.folder / "features.npz")
    assert_refused(outcome, 2, "TargetError", "features.npz should be an HDF5 file", "features.h5")
    outcome = world("features", world.folder / "none.png", "--out", world.folder / "f.h5")
    assert_refused(outcome, 2, "ImageError", "none.png: no such file")
    write_png(world.folder / "f.png", np.zeros((4, 4, 3), np.uint8))
    assert not list(world.folder.glob("f.h5*"))
