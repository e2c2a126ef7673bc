"""What a run says of its collision, in numbers and in words, wherever it says it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.io.files import write_json
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.polytope import Polytope
from patchcollide.report.headlines import figure_title, headline
from patchcollide.report.side_by_side import side_by_side
from patchcollide.runs.folder import open_run
from patchcollide.runs.replay import _compare_figures, replay
from tests.conftest import SMALL
from tests.helpers.judge import judge
from tests.helpers.pages import Page

GOLDEN = Path(__file__).parents[1] / "golden" / "run-v1"


def make(folder, network, layer):
    """A run of digits, and the file of its network's weights."""
    write_digits(folder / "digits", read_digits(None, "test"), 24)
    weights = folder / f"{network}.pth"
    torch.save(build_digit_network(network, "relu", 3).state_dict(), weights)
    settings = [f"network.name={network}", f"network.weights={weights}", f"network.layer={layer}"]
    settings += ["network.min_confidence=0", "optimiser.num_vertices=3"]
    config = load_config(overrides=[*SMALL, *settings, "evaluation.num_samples=400"])
    source, target, *_ = sorted((folder / "digits").rglob("*.png"))[::5]
    run = pipeline.collide(config, source, target, folder / "run", images=folder / "digits")
    return run, weights


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of the network 784-256-256-10, at its second layer; not to be changed."""
    return make(tmp_path_factory.mktemp("verdicts"), "mlp", "fc2")


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def without_block(run, folder):
    """Returns a copy of a run as it was before tightness was measured, drawn anew."""
    shutil.copytree(run, folder)
    summary = summary_of(folder)
    del summary["tightness"]
    write_json(folder / "summary.json", summary)
    pipeline.report(folder)
    return folder


@pytest.mark.parametrize(("network", "layer"), [("mlp", "fc2"), ("lenet5", "conv2")])
def test_a_judge_that_shares_no_code_finds_the_same_tightness(network, layer, made, tmp_path):
    run, weights = made if network == "mlp" else make(tmp_path, network, layer)
    block, found = summary_of(run)["tightness"], judge(run, weights, layer)
    for name in ("tau_mean", "tau_quantile", "tau_max"):
        assert block["hull"][name] == pytest.approx(found[name], rel=0.01)
    assert f"{found['hits']} of 400 samples" in block["sentence"]
    # Other mixtures are as tight in the mean.
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    anew = judge(run, weights, layer, mixtures)
    assert block["hull"]["tau_mean"] == pytest.approx(anew["tau_mean"], rel=0.01)
    assert "patchcollide" not in Path(judge.__code__.co_filename).read_text()


def test_a_yardstick_of_all_kinds_stands_beside(made):
    block = summary_of(made[0])["tightness"]
    assert [*block["yardstick"]] == [
        "target moved by 1 px",
        "target cropped by 10 %",
        "target as JPEG, quality 30",
        "target mirrored",
        "another image of its class",
        "the source",
        "random images, median",
    ]
    assert all(0 < tau < 10 for tau in block["yardstick"].values())
    assert 0 < block["floor"] < min(block["yardstick"].values())
    certificate = summary_of(made[0])["certificate"]
    others = certificate["others"]["quantiles"]["feature_distance_relative"]
    assert block["yardstick"]["random images, median"] == others[1]
    assert block["yardstick"]["the source"] == certificate["source"]["feature_distance_relative"]
    assert block["hull"]["tau_max"] == certificate["hull"]["feature_distance_relative"]["max"]


def test_page_table_and_terminal_say_the_same_sentence(made):
    run, _ = made
    summary = summary_of(run)
    sentence, name = summary["tightness"]["sentence"], summary["tightness"]["verdict"]
    assert name != "feature collision"
    assert dict(headline(summary))["verdict"] == sentence
    printed = CliRunner().invoke(app, ["evaluate", str(run)]).stdout
    assert f"{'verdict':<34}{sentence}\n" in printed
    assert "tau: target mirrored" in printed
    page = Page((run / "report.html").read_text())
    assert f"{sentence}." in page.words
    assert "another image of its class" in page.words
    assert "Feature collision" not in page.words
    assert name in side_by_side({"a": summary})
    assert sentence in Page(Polytope.load(run)._repr_html_()).words
    assert Polytope.load(run).verdict == sentence


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("feature collision", "features of the target, not its look"),
        ("class collision", "the class of the target, the look of the source"),
        ("none", "no collision with the target"),
        (None, "features of the target, not its look"),
    ],
)
def test_a_figure_is_called_what_it_shows(made, verdict, title):
    summary = summary_of(made[0])
    summary["tightness"]["verdict"] = verdict
    if verdict is None:
        del summary["tightness"]
    assert figure_title(summary) == f"784-256-256-10, act2: {title}"


def test_a_run_of_before_is_read_evaluated_and_replayed(made, tmp_path):
    run, _ = made
    old = without_block(run, tmp_path / "old")
    assert (old / "figure.png").read_bytes() != (run / "figure.png").read_bytes()
    assert "verdict" not in dict(headline(summary_of(old)))
    assert "tau" not in side_by_side({"old": summary_of(old)})
    assert "7 → 2: features not measured" in Page((old / "report.html").read_text()).words
    assert Polytope.load(old).verdict is None
    assert replay(old).identical
    (old / "figure.png").write_bytes((run / "source.png").read_bytes())
    assert _compare_figures(open_run(old), open_run(run)) == "figure.png: another drawing"
    before = summary_of(run)
    pipeline.evaluate(old)
    kept = {"another image of its class"}
    found = summary_of(old)["tightness"]
    assert before["tightness"]["yardstick"].keys() - found["yardstick"].keys() == kept
    del found["yardstick"], before["tightness"]["yardstick"]
    assert found == before["tightness"]


def test_an_evaluation_without_images_keeps_what_they_gave(made, tmp_path):
    run = shutil.copytree(made[0], tmp_path / "run")
    before = summary_of(run)
    pipeline.evaluate(run)
    assert summary_of(run)["tightness"] == before["tightness"]
    pipeline.certify(run, images=made[1].parent / "digits" / "1", num_edges=1, max_pieces=1)
    after = summary_of(run)["tightness"]["yardstick"]
    name = "random images, median"
    assert after.pop(name) != before["tightness"]["yardstick"].pop(name)
    assert after == before["tightness"]["yardstick"]


def test_a_run_of_the_first_version_is_told_what_it_is():
    torch.manual_seed(5)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3))
    network = CollisionNetwork(
        module, name="tiny", layer="2", input_size=8, mean=(0.5,), scale=(0.5,), class_names="abc"
    )
    assert Polytope.load(GOLDEN).verdict is None
    old = Polytope.load(GOLDEN, network)
    block = old.evaluate()["tightness"]
    assert old.verdict == block["sentence"]
    assert old.samples is not None
    assert block["hull"]["tau_max"] == pytest.approx(max(old.samples["hull"].feature_distances))
