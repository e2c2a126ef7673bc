"""Polytopes found, asked, saved and loaded from Python, beside what the stages do."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import patchcollide
from patchcollide import pipeline
from patchcollide.api import find_polytope
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, ImageError, NetworkError, RunError
from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.residuals import collides
from patchcollide.images.digits import read_digits
from patchcollide.images.pictures import read_png, write_png
from patchcollide.io.files import read_json
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.polytope import Polytope
from patchcollide.runs.folder import open_run
from patchcollide.runs.report import write_picture
from patchcollide.runs.vertices import load_history
from tests.conftest import SMALL
from tests.helpers.pictures import picture
from tests.helpers.presence import present

GOLDEN = Path(__file__).parent / "golden" / "run-v1"
FAST = {
    "optimiser.num_vertices": 3,
    "optimiser.steps": 4,
    "optimiser.validation_samples": 4,
    "evaluation.num_samples": 12,
    "evaluation.check_samples": 40,
    "evaluation.null_samples": 40,
    "network.min_confidence": 0,
}


@pytest.fixture
def polytope(small_network):
    return find_polytope(small_network, "act", picture(0), picture(1), settings=FAST)


def test_a_bound_on_features_is_a_setting(small_network, polytope):
    pair = small_network, "act", picture(0), picture(1)
    found = find_polytope(*pair, tightness=0.25, settings=FAST)
    named = find_polytope(*pair, settings={**FAST, "objective.tightness": 0.25})
    assert found.about["config"]["objective"]["tightness"] == 0.25
    assert found.about["fingerprint"] == named.about["fingerprint"]
    assert found.about["fingerprint"] != polytope.about["fingerprint"]
    np.testing.assert_array_equal(found.vertices, named.vertices)
    for bound in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="tightness= should be a number between 0 and 1"):
            find_polytope(*pair, tightness=bound, settings=FAST)
    with pytest.raises(ConfigError, match="Exact vertices have the target's features"):
        find_polytope(*pair, tightness=0.25, exact=True, settings=FAST)
    with pytest.raises(ConfigError, match="method = 'class' has no bound"):
        find_polytope(*pair, tightness=0.25, settings={**FAST, "method": "class"})


@pytest.fixture
def module():
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 24), nn.ReLU(), nn.Linear(24, 10))


@pytest.fixture
def digits():
    return read_digits(None, "test").images[:4]


def test_names_are_public_and_import_nothing_heavy():
    assert set(patchcollide.__all__) == {
        "CollisionNetwork", "Config", "PatchCollideError", "PatchStore", "Polytope",
        "__version__", "find_polytope", "load_config", "load_network",
    }  # fmt: skip
    assert all(getattr(patchcollide, name) is not None for name in patchcollide.__all__)
    assert set(dir(patchcollide)) == {*patchcollide.__all__, "errors", "pipeline", "polyhedra"}
    with pytest.raises(AttributeError, match="no attribute 'polytope_of'"):
        patchcollide.polytope_of  # noqa: B018
    code = "import sys, patchcollide; sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_finds_what_the_collide_stage_finds(tmp_path):
    source, target = tmp_path / "source.png", tmp_path / "target.png"
    write_png(source, picture(0))
    write_png(target, picture(1))
    names = ["network.name=lenet5", "network.weights=random", "network.layer=fc1"]
    settings = [*names, *(f"{key}={value}" for key, value in FAST.items())]
    run = open_run(
        pipeline.collide(load_config(overrides=settings), source, target, tmp_path / "run")
    )
    found = find_polytope("lenet5", "fc1", source, str(target), settings=settings)
    for number, vertex in enumerate(found.vertices):
        np.testing.assert_array_equal(vertex, read_png(run / f"vertex-{number}.png"))
    assert found.about["fingerprint"] == run.fingerprint
    written = read_json(run / "summary.json", error=RunError)
    measured = found.evaluate()
    left_out = {"seconds", "peak_memory_bytes"}
    assert {k: v for k, v in measured.items() if k not in left_out} == {
        k: v for k, v in written.items() if k not in left_out
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step\nabc\n", r"history\.csv cannot be read"),
        ("a,b\n1,2\n", r"history\.csv is damaged: it has rows without a step"),
    ],
)
def test_a_damaged_history_of_a_run_without_digests_is_found(text, message, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_text(text)
    with pytest.raises(RunError, match=message):
        load_history(open_run(tmp_path / "run"))


def test_patches_come_from_a_store_or_from_neighbours(small_network, small_store, tmp_path):
    config = load_config(overrides=[*SMALL, "retrieval.engine=exact"])
    options: dict[str, Any] = {"settings": config, "seed": 2}
    pair = (picture(0), picture(1))
    composed = find_polytope(small_network, "act", *pair, store=small_store.path, **options)
    assert composed.neighbours is not None
    assert composed.vertices.shape == (5, 32, 32, 3)
    folder = composed.save(tmp_path / "saved")
    assert (folder / "neighbours.png").exists()
    again = find_polytope(
        small_network, "act", *pair, neighbours=folder / "neighbours.h5", **options
    )
    np.testing.assert_array_equal(again.vertices, composed.vertices)
    np.testing.assert_array_equal(
        present(Polytope.load(folder, small_network).neighbours).patches,
        composed.neighbours.patches,
    )
    with pytest.raises(RunError, match="Give one"):
        find_polytope(small_network, "", *pair, store="a", neighbours="b")


def test_an_exact_polytope_is_exact(digits, module, tmp_path):
    options: dict[str, Any] = {"input_size": 28, "mean": (0.0,), "scale": (1.0,), "exact": True}
    found = find_polytope(
        module, "2", digits[0], digits[1], settings={**FAST, "exact.extents": False}, **options
    )
    assert present(found.exact)["violation_max"] < 1e-9
    network = found.network.in_float64()
    z = network(torch.from_numpy(found.unrounded).permute(0, 3, 1, 2).double() / 255)
    target = TargetFeatures.of(found.target.pre_activation.double(), network.blind)
    assert target.pre_activation[target.active].numel() > 0
    gaps = (z.pre_activation - target.pre_activation)[:, target.active].abs()
    assert float(gaps.detach().max()) < 1e-4
    loaded = Polytope.load(found.save(tmp_path / "exact"), found.network)
    assert loaded.exact == found.exact
    with pytest.raises(ImageError, match="has 20 x 20 pixels, but Sequential takes 28 x 28"):
        find_polytope(module, "2", digits[0, :20, :20], digits[1], **options)


def test_a_module_of_ones_own_is_left_as_it_is(digits, module):
    module.train()
    before = [p.clone() for p in module.parameters()]
    settings = [f"{key}={value}" for key, value in FAST.items()]
    found = find_polytope(
        module, "2", digits[0], digits[1], settings=settings, input_size=28, mean=(0,), scale=(1,)
    )
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert (found.network.name, found.network.channels) == ("Sequential", 1)
    with pytest.raises(NetworkError, match="takes images of one size"):
        find_polytope(module, "2", digits[0], digits[1])


def test_another_layer_of_a_network_shares_its_weights(module):
    deep = nn.Sequential(*module, nn.ReLU(), nn.Linear(10, 3))
    network = CollisionNetwork(
        deep, name="deep", layer="2", input_size=28, mean=(0.0,), scale=(1.0,)
    )
    other = network.at_layer("4")
    assert (network.layer, network.units, other.layer, other.units) == ("2", 24, "4", 10)
    assert other.module is network.module
    with pytest.raises(NetworkError, match="'5'"):
        network.at_layer("5")


@pytest.mark.parametrize("kind", ["path", "text", "pillow", "grey array", "flat array"])
def test_pictures_come_in_many_kinds(small_network, tmp_path, kind):
    grey = picture(0, channels=1)
    write_png(tmp_path / "a.png", grey)
    given = {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "pillow": Image.fromarray(grey[:, :, 0]),
        "grey array": grey,
        "flat array": grey[:, :, 0],
    }[kind]
    found = find_polytope(small_network, "act", given, picture(1), settings=FAST)
    np.testing.assert_array_equal(found.source, grey.repeat(3, axis=2))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.zeros((32, 32, 3)), r"is float64 of shape \(32, 32, 3\)"),
        (np.zeros((3, 32, 32), np.uint8), r"is uint8 of shape \(3, 32, 32\)"),
        (np.zeros((0, 32, 3), np.uint8), r"should have pixels"),
        (np.zeros((2, 32, 32, 3), np.uint8), r"of shape \(2, 32, 32, 3\)"),
    ],
)
def test_other_arrays_are_refused(small_network, given, reason):
    with pytest.raises(ImageError, match=reason):
        find_polytope(small_network, "act", given, picture(1), settings=FAST)


def test_a_pillow_picture_is_turned_as_its_camera_says_and_not_changed(small_network):
    upright = picture(0)
    turned = Image.fromarray(np.rot90(upright).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    found = find_polytope(small_network, "act", turned, picture(1), settings=FAST)
    np.testing.assert_array_equal(found.source, upright)
    np.testing.assert_array_equal(np.array(turned), np.rot90(upright))


def test_samples_are_rounded_combinations_and_those_measured(polytope, monkeypatch):
    samples = polytope.sample(12)
    assert samples.dtype == np.uint8
    np.testing.assert_array_equal(samples, polytope.sample(12, polytope.config.seed))
    assert not np.array_equal(samples, polytope.sample(12, seed=99))
    flat = polytope.vertices.reshape(3, -1).astype(np.float64)
    for sample in samples.reshape(12, -1).astype(np.float64):
        weights = np.linalg.lstsq(flat.T, sample, rcond=None)[0]
        assert weights.min() > -0.05
        assert weights.sum() == pytest.approx(1, abs=0.05)
        assert np.abs(weights @ flat - sample).max() < 2
    seen = []
    call = CollisionNetwork.__call__
    monkeypatch.setattr(
        CollisionNetwork, "__call__", lambda self, x: seen.append(x) or call(self, x)
    )
    polytope.evaluate()
    measured = torch.cat([batch for batch in seen if len(batch) in (8, 4)][:2])
    images = (255 * measured).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(images, samples)


def test_membership_is_of_class_and_of_features(polytope):
    network, target = polytope.network, polytope.target
    assert polytope.contains(polytope.target_picture, tolerance=0)
    features = TargetFeatures.of(target.pre_activation, network.blind)
    for image in [*polytope.vertices, *polytope.sample(3), picture(4), picture(5)]:
        with torch.no_grad():
            output = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        in_class = int(output.logits.argmax()) == target.class_index
        assert polytope.contains(image, by="class") == in_class
        tau = float(relative_feature_distances(output.pre_activation, features)[0])
        assert polytope.contains(image) == (in_class and tau <= 0.1)
        assert not polytope.contains(image, tightness=0.99 * tau)
        assert polytope.contains(image, tightness=1.01 * tau) == in_class
        exact = in_class and bool(collides(output.pre_activation, features))
        assert polytope.contains(image, tolerance=0) == exact
        z, wanted = output.pre_activation[0], features.pre_activation
        worst = float((z.relu() - wanted.relu()).abs().max())
        assert worst > 0
        assert not polytope.contains(image, tolerance=0.99 * worst)
        assert polytope.contains(image, tolerance=1.01 * worst) == in_class
        gaps = polytope.gaps(image)
        found = max(gaps["active_feature_gap_max"], gaps["inactive_response_max"])
        assert found == pytest.approx(worst)


def test_membership_goes_by_what_the_verdict_goes_by(polytope):
    asked = polytope.config.objective.model_copy(update={"tightness": 0.999})
    asking = replace(polytope, about={**polytope.about})
    asking.config = polytope.config.model_copy(update={"objective": asked})
    ends = polytope.target_picture.astype(np.float64), polytope.source.astype(np.float64)
    images = np.stack([ends[0] + (ends[1] - ends[0]) * way**2 for way in np.linspace(0, 1, 12)])
    images = images.round().astype(np.uint8)
    wider = polytope.contains(images, tightness=0.999)
    np.testing.assert_array_equal(asking.contains(images), wider)
    assert wider.sum() > polytope.contains(images).sum()
    with pytest.raises(ConfigError, match="by='look': an image collides by its 'features' or"):
        polytope.contains(images, by="look")


@pytest.mark.parametrize("tolerance", [None, 0.0, 5.0])
def test_membership_of_tensors_of_floats_and_of_batches_is_that_of_pictures(polytope, tolerance):
    images = np.stack([*polytope.vertices, picture(4), picture(5), polytope.target_picture])
    expected = [polytope.contains(image, tolerance) for image in images]
    assert sum(expected) > 0
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    floats = images.astype(np.float32) / np.float32(255)
    for batch in (images, floats, values):
        assert polytope.contains(batch, tolerance).tolist() == expected
    for one in (floats[-1], values[-1], floats[-1].astype(np.float64)):
        assert polytope.contains(one, tolerance) is expected[-1]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (torch.zeros(32, 32, 3), r"of shape \(32, 32, 3\)\. Give such"),
        (torch.full((3, 32, 32), 1.5), r"are torch\.float32 of shape .*, or leave \[0, 1\]"),
        (np.full((32, 32, 3), np.nan), r"are float64 of shape .*, or leave \[0, 1\]"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"are torch\.uint8 of shape"),
    ],
)
def test_values_that_are_no_image_are_refused(polytope, given, reason):
    with pytest.raises(ImageError, match=reason):
        polytope.contains(given)


def test_edges_are_walked(polytope):
    walk = polytope.walk(num_edges=2, max_pieces=4)
    assert (walk["num_edges"], walk["num_walked"]) == (3, 2)


def test_what_is_saved_is_a_run(polytope, small_network, tmp_path):
    polytope.evaluate(num_samples=9, images=None)
    assert polytope.summary["num_samples"] == 9
    folder = polytope.save(tmp_path / "saved")
    loaded = Polytope.load(folder, small_network)
    for name in ("vertices", "unrounded", "source", "target_picture"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(polytope, name))
    assert loaded.about == json.loads(json.dumps(polytope.about))
    assert loaded.summary == polytope.summary
    assert loaded.history == polytope.history
    assert loaded.evaluate(9)["success_rate"] == polytope.summary["success_rate"]
    assert write_picture(open_run(folder), tmp_path / "a.png", "table").exists()
    with pytest.raises(RunError, match="is there already"):
        polytope.save(folder)
    assert not (tmp_path / "saved.partial").exists()


def test_a_network_of_ones_own_is_asked_for_only_when_needed(polytope, tmp_path, small_network):
    folder = polytope.save(tmp_path / "saved")
    loaded = Polytope.load(folder)
    assert len(loaded.sample(2)) == 2
    assert "<img" in loaded._repr_html_()
    with pytest.raises(RunError, match="made in Python with a network of one's own"):
        loaded.evaluate()
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32**2, 4), nn.ReLU())
    other = CollisionNetwork(
        module, name="a", layer="2", input_size=32, mean=(0.0,) * 3, scale=(1.0,) * 3
    )
    with pytest.raises(RunError, match="at layer 'act'"):
        Polytope.load(folder, other)
    with torch.no_grad():
        small_network.module.classifier.bias += 1
    small_network.__dict__.pop("digest", None)
    with pytest.raises(RunError, match="other weights"):
        Polytope.load(folder, small_network)


def test_targets_given_as_features_are_saved_too(tmp_path):
    image, features = tmp_path / "target.png", tmp_path / "target.h5"
    write_png(image, picture(1))
    names = {"network.weights": "random", **FAST}
    config = load_config(
        overrides=["network.name=lenet5", "network.weights=random", "network.layer=fc1"]
    )
    pipeline.extract_features(config, image, features)
    found = find_polytope("lenet5", "fc1", picture(0), features, settings=names)
    assert found.target_picture is None
    loaded = Polytope.load(found.save(tmp_path / "saved"))
    assert torch.equal(loaded.target.pre_activation, found.target.pre_activation)
    assert found._repr_html_().count("<img") == 1 + len(found)


def test_polytopes_show_themselves(polytope):
    before = polytope._repr_html_()
    assert before.count("data:image/png;base64,") == 5
    assert "Not evaluated yet" in before
    assert 'src="http' not in before
    numbers = polytope.evaluate()._repr_html_()
    after = polytope._repr_html_()
    for text in (numbers, after):
        assert "of 12 samples, in the target" in text
    assert "<img" not in numbers
    assert polytope.target.class_name in after
    assert len(after) < 60_000


def test_they_say_in_a_line_what_they_are(polytope):
    assert repr(polytope) == "Polytope(3 vertices, small, act, pixels, 4 steps)"


def test_names_are_escaped(polytope):
    polytope.about["inputs"]["network"] = "<script>"
    assert "<script>" not in polytope._repr_html_()


def test_a_folder_of_the_first_version_is_read():
    found = Polytope.load(GOLDEN)
    assert found.vertices.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(found.vertices, np.rint(found.unrounded))
    assert found.state == {"steps": 3, "stopped_because": "all steps were done"}
    assert present(found.summary)["num_samples"] == 4
    assert [row["step"] for row in found.history] == [0, 1, 2]
    assert found.neighbours is None
    assert found.config.seed == 5
    assert "data:image/png" in found._repr_html_()


def test_a_run_with_vertices_of_two_sizes_is_refused(polytope, tmp_path, small_network):
    folder = polytope.save(tmp_path / "saved")
    for number in range(3):
        write_png(folder / f"vertex-{number}.png", picture(number, side=16))
    with pytest.raises(RunError, match=r"PNG files are of shape \(3, 16, 16, 3\)"):
        Polytope.load(folder, small_network)
