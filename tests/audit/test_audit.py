"""Audits of images by networks whose polytopes are known."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from patchcollide.audit import audit
from patchcollide.audit.page import audit_lines
from patchcollide.audit.samples import draw_sample, label_classes
from patchcollide.audit.sizes import choose_finder, measure_polytope
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import NetworkError, ProgramError
from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.images.pictures import read_png
from patchcollide.images.tensors import as_batch
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.weights import write_weights
from patchcollide.progress import recording
from patchcollide.randomness import seeded
from tests.helpers.audits import BRIGHT, DARK, SIDE
from tests.helpers.records import last_of


def test_images_are_ranked_by_how_much_the_layer_does_not_see(make, tmp_path):
    found = make(tmp_path / "audit")
    assert found["method"] == "exact"
    assert [row["name"] for row in found["images"]] == [
        *(f"night/{number}.png" for number in (9, 8, 7, 6, 5)),
        *(f"day/{number}.png" for number in (4, 3, 2, 1, 0)),
    ]
    assert [row["active"] for row in found["images"]] == [4 * n for n in range(10)]
    smallest = found["images"][-1]
    assert smallest["size"] == pytest.approx(0, abs=1e-3)
    assert found["classes"][0]["label"] == "night"
    assert found["agreement"] == 1
    assert found["suspects"] == []
    assert found["adequacy"]["score"] < 1


def test_an_audit_tells_how_far_it_is_and_what_the_last_image_gave(make, tmp_path):
    with recording(tmp_path / "log"):
        found = make(tmp_path / "audit")
    assert last_of(tmp_path / "log", "Reading images")["step"] == 10
    told = last_of(tmp_path / "log", "Measuring polytopes")
    (last,) = (row for row in found["images"] if row["name"] == "night/9.png")
    assert told["step"] == 10
    assert told["tau"] == last["feature_distance_relative"]
    assert told["size"] == last["size"]


def test_sizes_are_those_of_boxes(network, folder):
    config = load_config(overrides=["audit.num_vertices=2"])
    sample = draw_sample(config, network, folder)
    finder = choose_finder(config, network)
    for image in sample.images:
        measured = measure_polytope(config, network, finder, image.picture, None)
        # Dark pixels are 0 or 0.5 in a vertex, each by the sign of its own in the direction.
        vertices = finder.find(image.picture).flatten(start_dim=1).numpy()
        dark = (image.picture == DARK).ravel()
        assert np.isin(vertices[:, dark].round(9), [0, 0.5]).all()
        assert vertices[:, ~dark] == pytest.approx(BRIGHT / 255)
        differing = (vertices[0] != vertices[1])[dark].sum()
        expected = 127.5 * np.sqrt(differing)
        assert measured.figures["vertex_distance"] == pytest.approx(expected, abs=1e-3)
        assert measured.figures["size"] == pytest.approx(expected, rel=1e-5, abs=1e-3)
        assert measured.figures["hull_agreement"] == 1
        assert measured.figures["hull_probability"] == pytest.approx(
            measured.figures["probability"], abs=1e-5
        )


def test_an_image_that_cannot_be_measured_is_left_out_and_listed(make, tmp_path, monkeypatch):
    def measure(config, network, finder, picture, label):
        if (picture == DARK).sum() == 4 * 3:
            raise ProgramError("Its linear program is cursed.")
        return measure_polytope(config, network, finder, picture, label)

    monkeypatch.setattr(audit, "measure_polytope", measure)
    found = make(tmp_path / "audit")
    assert len(found["images"]) == 9
    assert found["skipped"] == [
        {"name": "day/3.png", "reason": "Its linear program is cursed."},
    ]
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "Its linear program is cursed." in page


def test_an_audit_that_can_measure_nothing_is_refused(make, tmp_path, monkeypatch):
    def fail(*_):
        raise ProgramError("It is cursed.")

    monkeypatch.setattr(audit, "measure_polytope", fail)
    with pytest.raises(ProgramError, match=r"None of the 10 .*, day/0\.png: It is cursed"):
        make(tmp_path / "audit")
    assert not (tmp_path / "audit.partial").exists()


def test_sizes_are_less_by_what_features_differ_behind_the_activation(network, folder):
    config = load_config(overrides=["audit.method=search", "audit.steps=3"])
    picture = read_png(folder / "night" / "8.png")
    finder = choose_finder(config, network)
    vertices = finder.find(picture)
    found = measure_polytope(config, network, finder, picture, None).figures
    weights = uniform_weights(config.audit.hull_samples, len(vertices), seeded(config.seed, 3))
    images = torch.einsum("sv,vchw->schw", weights, vertices.double()).float()
    with torch.no_grad():
        y = network(images).pre_activation.relu()
        t = network(as_batch(picture[None])).pre_activation.relu()
    tau = float(((y - t).norm(dim=1) / t.norm()).mean())
    assert tau > 0.01
    assert found["feature_distance_relative"] == pytest.approx(tau, rel=1e-4)
    assert found["size"] == pytest.approx(found["vertex_distance"] * max(0, 1 - tau), rel=1e-4)


def test_a_descent_ranks_as_linear_programs_do_where_sizes_are_far_apart(network, folder):
    config = load_config(
        overrides=[
            "audit.method=search",
            "audit.steps=60",
            "objective.active=100",
            "objective.diversity=0.01",
        ]
    )
    finder = choose_finder(config, network)
    sizes = [
        measure_polytope(config, network, finder, read_png(path), None).figures["size"]
        for path in sorted(folder.rglob("*.png"), key=lambda path: path.name)
    ]
    assert sizes[0] < sizes[1] < sizes[3] < sizes[5] < sizes[9]
    # What is matched at a price, not exactly, is never quite nothing.
    assert sizes[0] < 0.1 * sizes[9]


def test_the_page_loads_nothing_and_answers_three_questions(make, tmp_path):
    make(tmp_path / "audit")
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Images by the size of their polytopes in bright",
        "Where should bright see more data?",
        "Which examples are vulnerable or mislabelled for bright?",
        "Should a prediction of bright near an image be trusted?",
        "How to make it again",
    ]
    assert page.count("<svg") == 2
    assert page.count('src="data:image/png') == 30
    assert "None of these 10 images is suspect" in page
    # Nothing is empty, and nothing is shown that is not known.
    assert not re.findall(r"<(td|th|dd|p|li)[^>]*>\s*</\1>", page)
    assert "None<" not in page
    assert "nan" not in re.findall(r">([^<]*)<", page)


def test_a_class_of_few_images_is_not_judged(make, folder, tmp_path):
    (folder / "day" / "4.png").unlink()
    found = make(tmp_path / "audit")
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "No two classes have the 5 images that a judgement takes" in " ".join(page.split())
    judged = [line.split()[-3:] for line in audit_lines(found) if line.startswith("class with")]
    assert [words[0] for words in judged] == ["night,", "night,"]
    (folder / "night" / "9.png").unlink()
    alone = make(tmp_path / "alone")
    assert "none has 5 images" in " ".join(audit_lines(alone))


def test_a_mislabelled_image_is_suspect_and_shown(make, folder, tmp_path):
    (folder / "night" / "9.png").rename(folder / "day" / "9.png")
    found = make(tmp_path / "audit")
    assert found["suspects"] == [{"name": "day/9.png", "reasons": ["predicted as Night"]}]
    assert found["trust"]["area"] == 1
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "1 of 10 images is suspect" in page
    with (tmp_path / "audit" / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 11)]
    assert rows[0]["name"] == "day/9.png"
    assert rows[0]["agrees"] == "False"


def test_audit_json_says_what_made_it(make, tmp_path):
    make(tmp_path / "audit")
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["encoding-type"] == "patchcollide-audit"
    assert found["settings"]["audit"]["steps"] == 5
    assert {"torch", "patchcollide"} <= found["versions"].keys()
    assert all(len(row["sha256"]) == 64 for row in found["images"])
    assert found["command"].startswith("patchcollide audit ")
    for row in found["images"]:
        for name in row["pictures"]:
            assert read_png(tmp_path / "audit" / name).shape == (SIDE, SIDE, 1)


def test_folders_are_compared_with_the_names_of_classes(network, small_network):
    assert label_classes(network, ["day", "Daylight", "NIGHT", "dusk"]) == {
        "day": 0,
        "Daylight": 0,
        "NIGHT": 1,
    }
    small_network.class_names = ("crane, bird", "crane, machine", "sea_snake", "x")
    assert label_classes(small_network, ["crane", "machine", "sea snake"]) == {
        "machine": 1,
        "sea snake": 2,
    }
    small_network.class_names = ()
    assert label_classes(small_network, ["3", "4"]) == {"3": 3}
    small_network.class_names = ("caf\u00e9", "x")
    for name in ("caf\u00e9", "cafe\u0301", "CAFE\u0301"):
        assert label_classes(small_network, [name]) == {name: 0}


def test_linear_programs_need_an_affine_layer(
    make, monkeypatch, small_network, write_images, tmp_path, caplog
):
    monkeypatch.setattr(audit, "load_network", lambda *_: small_network)
    images = write_images()
    caplog.set_level("INFO")
    # Its images are as affine as any, but now there is a bend before its layer.
    small_network.module.conv = nn.Sequential(nn.ReLU(), small_network.module.conv)
    with pytest.raises(NetworkError, match="is not affine in the image"):
        make(tmp_path / "exact", "audit.method=exact", images=images)
    found = make(tmp_path / "auto", images=images)
    assert found["method"] == "search"
    # None of these folders is named like a class: the most frequent prediction stands in.
    assert "4 of 4 folders are named like no class of small, such as 'class-0'" in caplog.text
    assert found["named_labels"] == []


def test_the_command_audits_and_compares(write_images, tmp_path):
    images = write_images(num=4)
    for name, epochs in (("a", 1), ("b", 2)):
        weights = tmp_path / f"{name}.safetensors"
        about = {"network": "mlp", "activation": "relu"}
        write_weights(weights, build_digit_network("mlp", "relu", epochs), about)
        words = ["audit", str(images), "--out", str(tmp_path / name), "--network", "mlp"]
        words += ["--weights", str(weights), "--per-class", "1", "--set", "audit.method=search"]
        done = CliRunner().invoke(app, [*words, "--set", "audit.steps=4"])
        assert done.exit_code == 0, done.output
        assert "adequacy" in done.output
        assert done.output.strip().endswith(str(tmp_path / name / "report.html"))
    done = CliRunner().invoke(app, ["adequacy", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0
    assert "784-256-256-10" in done.output


def test_a_layer_without_a_blind_region_is_refused(write_images, tmp_path):
    weights = tmp_path / "tanh.safetensors"
    about = {"network": "mlp", "activation": "tanh"}
    write_weights(weights, build_digit_network("mlp", "tanh", 0), about)
    words = ["audit", str(write_images()), "--out", str(tmp_path / "audit"), "--network", "mlp"]
    done = CliRunner().invoke(app, [*words, "--weights", str(weights)])
    assert done.exit_code == 2
    assert not Path(tmp_path / "audit.partial").exists()


def test_an_audit_of_one_image_says_that_it_has_no_interval(make, folder, tmp_path):
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(folder / "day" / "1.png", only)
    found = make(tmp_path / "audit", images=only, one_class=True)
    assert re.search(r"^adequacy +0\.\d{4} \(no interval\)$", "\n".join(audit_lines(found)), re.M)
    # The longest name does not run into its number.
    assert re.search(
        r"^left out, cannot be read or measured 0$", "\n".join(audit_lines(found)), re.M
    )
