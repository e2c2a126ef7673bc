"""Audits of images by networks whose polytopes are known."""

import csv
import json
import re
import signal
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from patchcollide.audit import audit as audits
from patchcollide.audit.audit import audit
from patchcollide.audit.files import RecordFile, open_audit
from patchcollide.audit.samples import draw_sample, label_classes
from patchcollide.audit.sizes import choose_finder, measure_polytope
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import (
    ImageError,
    InterruptedWorkError,
    NetworkError,
    ProgramError,
    RunError,
)
from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.images.pictures import read_png, write_png
from patchcollide.images.tensors import as_batch
from patchcollide.io.files import write_json
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.weights import write_weights
from patchcollide.networks.network import CollisionNetwork
from patchcollide.randomness import seeded

SIDE = 6
BRIGHT, DARK = 204, 51


@pytest.fixture
def network():
    """Unit j sees how far pixel j is above the middle: dark pixels are free to be darker."""
    fc = nn.Linear(SIDE**2, SIDE**2)
    out = nn.Linear(SIDE**2, 2)
    with torch.no_grad():
        fc.weight.copy_(torch.eye(SIDE**2))
        fc.bias.fill_(-0.5)
        # Many bright pixels are day.
        out.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, SIDE**2))
        out.bias.copy_(torch.tensor([-5.4, 5.4]))
    parts = OrderedDict(flatten=nn.Flatten(), fc=fc, act=nn.ReLU(), out=out)
    return CollisionNetwork(
        nn.Sequential(parts),
        name="bright",
        layer="act",
        input_size=SIDE,
        mean=(0.0,),
        scale=(1.0,),
        class_names=("Day, daylight", "Night"),
    )


@pytest.fixture
def folder(tmp_path):
    """Images with 0, 4, ... 36 dark pixels; those of fewer than 18 lie in ``day``."""
    for number in range(10):
        picture = np.full((SIDE**2, 1), BRIGHT, np.uint8)
        picture[: 4 * number] = DARK
        label = "day" if number < 5 else "night"
        place = tmp_path / "images" / label
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{number}.png", picture.reshape(SIDE, SIDE, 1))
    return tmp_path / "images"


@pytest.fixture
def make(network, folder, monkeypatch):
    monkeypatch.setattr(audits, "load_network", lambda *_: network)

    def run(out, *overrides, images=None, **options):
        config = load_config(overrides=["audit.hull_samples=8", "audit.steps=5", *overrides])
        return open_audit(audit(config, images or folder, out, **options))[1]

    return run


def without_time(found):
    rows = [
        {key: value for key, value in row.items() if key != "seconds"} for row in found["images"]
    ]
    return {**found, "images": rows, "seconds": None, "command": None}


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


@pytest.mark.parametrize("stopped_at", [1, 4, 10])
def test_an_audit_stops_between_images_and_ends_when_asked_at_the_last(
    make, tmp_path, monkeypatch, stopped_at
):
    whole = make(tmp_path / "whole")
    measured = []

    def signalled(*inputs):
        measured.append(None)
        if len(measured) == stopped_at:
            signal.raise_signal(signal.SIGTERM)
        return measure_polytope(*inputs)

    monkeypatch.setattr(audits, "measure_polytope", signalled)
    if stopped_at < 10:
        with pytest.raises(InterruptedWorkError, match=rf"after {stopped_at} of 10 images\. Run"):
            make(tmp_path / "stopped")
        assert len(measured) == stopped_at
    assert without_time(make(tmp_path / "stopped")) == without_time(whole)
    assert len(measured) == 10


@pytest.mark.parametrize("method", ["exact", "search"])
def test_a_stopped_audit_goes_on_and_equals_one_that_was_not(make, tmp_path, monkeypatch, method):
    way = f"audit.method={method}"
    whole = make(tmp_path / "whole", way)
    assert whole["method"] == method
    measured = []

    def stop_at_the_fifth(*inputs):
        measured.append(inputs)
        if len(measured) == 5:
            raise InterruptedWorkError("Stopped after 3 of 5 steps; nothing was kept.")
        return measure_polytope(*inputs)

    monkeypatch.setattr(audits, "measure_polytope", stop_at_the_fifth)
    with pytest.raises(InterruptedWorkError, match=r"after 4 of 10 images\. Run the same"):
        make(tmp_path / "stopped", way)
    partial = tmp_path / "stopped.partial"
    # As if the process had been killed while it wrote.
    with (partial / "records.jsonl").open("a") as file:
        file.write('{"name": "night/5.png", "si')
    stopped = make(tmp_path / "stopped", way)
    assert len(measured) == 5 + 6
    assert not partial.exists()
    assert without_time(stopped) == without_time(whole)
    for file in (tmp_path / "whole").rglob("*"):
        other = tmp_path / "stopped" / file.relative_to(tmp_path / "whole")
        if file.suffix in {".csv", ".png"}:
            assert other.read_bytes() == file.read_bytes()
        assert other.exists()
    make(tmp_path / "stopped", way)
    assert len(measured) == 5 + 6


def test_an_image_that_cannot_be_measured_is_left_out_and_listed(make, tmp_path, monkeypatch):
    def measure(config, network, finder, picture, label):
        if (picture == DARK).sum() == 4 * 3:
            raise ProgramError("Its linear program is cursed.")
        return measure_polytope(config, network, finder, picture, label)

    monkeypatch.setattr(audits, "measure_polytope", measure)
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

    monkeypatch.setattr(audits, "measure_polytope", fail)
    with pytest.raises(ProgramError, match=r"None of the 10 .*, day/0\.png: It is cursed"):
        make(tmp_path / "audit")
    assert not (tmp_path / "audit.partial").exists()


def test_another_audit_in_the_same_place_is_refused(make, tmp_path):
    make(tmp_path / "audit")
    with pytest.raises(RunError, match=r"audit\.num_vertices: found 3, expected 4"):
        make(tmp_path / "audit", "audit.num_vertices=4")
    with pytest.raises(RunError, match=r"audit\.per_class.*; images: found"):
        make(tmp_path / "audit", "audit.per_class=2")
    # What an older version measured is not gone on with.
    about = json.loads((tmp_path / "audit" / "config.json").read_text())
    old = {**about, "fingerprint": "0" * 64, "identity": {**about["identity"]}}
    del old["identity"]["measures"]
    write_json(tmp_path / "audit" / "config.json", old)
    with pytest.raises(RunError, match=r"holds another run \(measures: found null, expected 2\)"):
        make(tmp_path / "audit")
    write_json(tmp_path / "audit" / "config.json", about)
    (tmp_path / "audit" / "audit.csv").unlink()
    with pytest.raises(RunError, match=r"no longer whole: it lacks audit\.csv"):
        make(tmp_path / "audit")


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


def test_a_damaged_record_is_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    for content in ('{"name": 1}\n{"na\n{"name": 2}\n', '["a"]\n', "1\n"):
        path.write_text(content)
        with pytest.raises(RunError, match=f"{re.escape(str(path))} is damaged"):
            RecordFile(path).read()
    path.write_text('{"na')
    assert RecordFile(path).read() == []
    assert path.read_text() == ""


def test_a_search_ranks_as_linear_programs_do_where_sizes_are_far_apart(network, folder):
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


def test_the_sample_is_seeded_and_a_smaller_one_is_part_of_a_larger(network, folder):
    def names(*overrides):
        sample = draw_sample(load_config(overrides=overrides), network, folder)
        return {image.name for image in sample.images}

    small = names("audit.per_class=2")
    assert len(small) == 4
    assert small == names("audit.per_class=2")
    assert small < names("audit.per_class=4")
    assert any(small != names("audit.per_class=2", f"seed={seed}") for seed in range(1, 5))


def test_images_that_cannot_be_read_are_left_out_and_listed(make, folder, tmp_path):
    (folder / "day" / "broken<b>.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    write_png(folder / "day" / "large.png", np.full((9, 12, 3), 90, np.uint8))
    found = make(tmp_path / "audit")
    assert len(found["images"]) == 11
    (skipped,) = found["skipped"]
    assert skipped["name"] == "day/broken<b>.png"
    assert "damaged" in skipped["reason"]
    fitted = [row["name"] for row in found["images"] if row["is_fitted"]]
    assert fitted == ["day/large.png"]
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "day/broken&lt;b&gt;.png" in page
    assert "<b>" not in page


def test_bad_folders_are_refused(make, folder, tmp_path):
    (tmp_path / "only").mkdir()
    folder.rename(tmp_path / "only" / "images")
    with pytest.raises(ImageError, match=r"two classes.*found one, 'images'.*--one-class"):
        make(tmp_path / "audit", images=tmp_path / "only")
    flat = tmp_path / "only" / "images" / "day"
    with pytest.raises(ImageError, match="found none: its images lie in no folder of a class"):
        make(tmp_path / "audit", images=flat)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="but found none, only 0 other files"):
        make(tmp_path / "audit", images=empty)
    (empty / "a.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"None of the 1 images drawn from .*a\.png"):
        make(tmp_path / "audit", images=empty)
    assert not (tmp_path / "audit.partial").exists()


def test_one_class_is_audited_when_asked_for(make, folder, tmp_path):
    found = make(tmp_path / "audit", images=folder / "day", one_class=True)
    assert len(found["images"]) == 5
    assert found["classes"][0]["label"] == ""
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "classes cannot be compared" in page
    one = tmp_path / "one"
    one.mkdir()
    (folder / "night" / "9.png").rename(one / "9.png")
    found = make(tmp_path / "single", images=one, one_class=True)
    assert found["data_distance"] is None
    assert len(found["trust"]["bins"]) == 1
    assert found["adequacy"]["interval"] is None
    page = " ".join((tmp_path / "single" / "report.html").read_text().split())
    assert "no interval, since one image does not show how much others would differ" in page
    assert "one image</td>" in page


def test_the_page_loads_nothing_and_answers_three_questions(make, tmp_path):
    make(tmp_path / "audit")
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Where should more data be collected?",
        "Which examples are vulnerable or mislabelled?",
        "Should a prediction near an image be trusted?",
        "Images by the size of their polytopes",
        "How to make it again",
    ]
    assert page.count("<svg") == 2
    assert page.count('src="data:image/png') == 30
    assert "None of these 10 images is suspect" in page
    # Nothing is empty, and nothing is shown that is not known.
    assert not re.findall(r"<(td|th|dd|p|li)[^>]*>\s*</\1>", page)
    assert "None<" not in page
    assert "nan" not in re.findall(r">([^<]*)<", page)


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
    monkeypatch.setattr(audits, "load_network", lambda *_: small_network)
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
