"""A run's proof: in its summary, on its page, and open ones go on."""

import json
import math
import shutil
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.config_files import parse_recorded
from patchcollide.errors import InterruptedWorkError, RunError
from patchcollide.evaluation.samples import load_samples
from patchcollide.evaluation.simplex import combine, round_to_8_bits
from patchcollide.images.pictures import read_png, write_png
from patchcollide.images.tensors import as_batch
from patchcollide.io.files import write_json
from patchcollide.io.provenance import array_digest
from patchcollide.networks.linear_regions.walk import margins
from patchcollide.polytope import Polytope
from patchcollide.progress import StopRequest
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import Claim, Prover
from patchcollide.proofs.search import Cells
from patchcollide.runs.collide import collide, evaluate
from patchcollide.runs.folder import open_run
from patchcollide.runs.networks import network_of
from patchcollide.runs.prove import prove
from patchcollide.runs.summary import read_summary
from patchcollide.runs.vertices import load_vertex_pngs


@pytest.fixture
def run(explored_run, tmp_path):
    """A run of a random MLP, whose layer is affine in the image."""
    return shutil.copytree(explored_run, tmp_path / "run")


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def test_a_proof_stands_in_the_summary_and_on_the_page(run):
    proof = prove(run, Claim(seconds=0.5))
    assert summary_of(run)["certificate"]["proofs"] == {"hull": proof}
    page = (run / "report.html").read_text()
    assert proof["sentence"].split(":")[0] in page
    rounded = prove(run, Claim(seconds=0.5, rounding=True))
    assert summary_of(run)["certificate"]["proofs"] == {"hull": proof, "rounded": rounded}
    evaluate(run)
    assert summary_of(run)["certificate"]["proofs"] == {"hull": proof, "rounded": rounded}


def test_samples_where_a_failure_is_likely_stand_beside_the_uniform_ones(run):
    prove(run, Claim(seconds=0.2))
    aimed = summary_of(run)["certificate"]["aimed"]
    uniform = summary_of(run)["num_samples"]
    assert aimed["num_uniform"] == uniform
    low, high = aimed["outside_interval"]
    assert 0 <= low <= aimed["outside_share"] <= high <= 1
    for kind in ("edges", "worst"):
        assert 0 <= aimed[kind]["outside"] <= aimed[kind]["num_samples"]
        assert aimed[kind]["num_samples"] > 0
    assert "No such interval excludes a single image" in (run / "report.html").read_text()
    evaluate(run)
    assert summary_of(run)["certificate"]["aimed"] == aimed


def margins_at_the_least_sure_sample(folder):
    """What the network says of the sample that is least probably of the target's class.

    That is one of the points that the search of the smallest margin begins at.
    """
    made = open_run(folder)
    network, summary = network_of(made), read_summary(made)
    vertices = load_vertex_pngs(made)
    hull = load_samples(folder / "samples.h5", array_digest(vertices))["hull"]
    weights = torch.from_numpy(hull.weights[hull.target_probabilities.argmin()][None])
    exact = combine(weights, as_batch(vertices))
    with torch.no_grad():
        logits = network(torch.cat([exact, round_to_8_bits(exact)])).logits
    return margins(logits, summary["target_class"]).tolist()


def test_every_run_says_the_worst_found_and_what_convexity_gives(run):
    summary = read_summary(open_run(run))
    worst, certificate = summary["worst_found"], summary["certificate"]
    assert sum(worst["weights"]) == pytest.approx(1)
    sampled, sampled_rounded = margins_at_the_least_sure_sample(run)
    assert worst["margin"] <= sampled + 1e-6
    assert worst["rounded"]["margin"] <= sampled_rounded + 1e-6
    assert "the worst found once rounded to 8 bits has" in (run / "report.html").read_text()
    largest = certificate["vertices"]["feature_distance_relative"]["max"] or 0.0
    assert certificate["tau_at_vertices"] >= largest * (1 - 1e-6)
    assert "The layer is affine in the image" in (run / "report.html").read_text()


def test_a_refuted_claim_leaves_an_image(run):
    tau = summary_of(run)["certificate"]["tau_at_vertices"]
    proof = prove(run, Claim(gamma=tau / 100))
    assert proof["result"] == "refuted"
    assert read_png(run / "counterexample-hull.png").shape == (28, 28, 1)
    assert not (run / "proof-hull.h5").exists()


def test_ctrl_c_keeps_what_is_proved_and_the_same_command_goes_on(run, monkeypatch):
    proving = Prover.run

    def stopped(self: Prover, request: StopRequest) -> None:
        request.requested = True
        proving(self, request)

    with monkeypatch.context() as patched:
        patched.setattr(Prover, "run", stopped)
        patched.setattr(Prover, "_goal", lambda *_: math.inf)  # Nothing is near enough,
        patched.setattr(Prover, "_counterexample", lambda *_: None)  # and nothing refuted.
        with pytest.raises(InterruptedWorkError, match="run the same command again to go on"):
            prove(run, Claim(seconds=5))
    assert (run / "proof-hull.h5").exists()
    assert "proofs" not in summary_of(run)["certificate"]
    prove(run, Claim(seconds=0.2))
    assert "hull" in summary_of(run)["certificate"]["proofs"]


def test_ctrl_c_while_edges_are_proved_keeps_their_cells(run, monkeypatch):
    """Of a hull that is not proved in the time there is, each part of the proof can be stopped."""
    bounding: Any = vars(Cells)["first"].__func__

    def stopped(cls, cell, *rest):
        found = bounding(cls, cell, *rest)
        if cell.shape[1] == 2:
            raise InterruptedWorkError("The user asked to stop between two simplices.")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(HullBounds, "margins", lambda _, simplices, *__: _open(simplices))
        patched.setattr(Prover, "_counterexample", lambda *_: None)
        patched.setattr(Cells, "first", classmethod(stopped))
        with pytest.raises(InterruptedWorkError, match="run the same command again to go on"):
            prove(run, Claim(seconds=0.05))
        patched.setattr(Cells, "first", classmethod(bounding))
        first = prove(run, Claim(seconds=0.05))
        again = prove(run, Claim(seconds=0.05))
    assert first["edges"]["num_edges"] == 3
    assert again["edges"]["cells"] > first["edges"]["cells"]
    assert "of the edges" in again["sentence"]


def _open(simplices):
    """Bounds that never are above 0, but of a point."""
    value = 1.0 if simplices.shape[1] == 1 else -1.0
    return torch.full((len(simplices),), value, dtype=torch.float64)


def test_a_run_of_a_single_vertex_is_a_point_that_is_proved(explored_run, tmp_path):
    settings = json.loads((explored_run / "config.json").read_text())["config"]
    settings["optimiser"]["num_vertices"] = 1
    config = parse_recorded(settings, "the settings")
    target = explored_run.parent / "target.png"
    source = tmp_path / "source.png"
    write_png(source, read_png(target) // 16 * 15)
    out = collide(config, source, target, tmp_path / "single")
    proof = prove(out, Claim(gamma=0.9, seconds=0.1))
    assert proof["result"] == "proved"
    assert proof["margin"]["proved"] == pytest.approx(proof["margin"]["found"])
    assert summary_of(out)["certificate"]["aimed"] is None


def test_what_is_known_of_another_hull_is_not_used(run, caplog):
    (run / "proof-hull.h5").write_bytes(b"something else")
    prove(run, Claim(seconds=0.1))
    assert "The proof begins anew" in caplog.text


def test_a_run_that_was_not_measured_or_of_other_weights_is_refused(run):
    with pytest.raises(RunError, match="is not a run"):
        prove(run / "none", Claim())
    about = json.loads((run / "config.json").read_text())
    about["identity"]["network"] = "0" * 64
    write_json(run / "config.json", about)
    with pytest.raises(RunError, match="with other weights of mlp"):
        prove(run, Claim())


def test_a_hull_that_is_asked_to_be_proved_is_shrunk_until_it_is(explored_run, tmp_path):
    """What is proved are the images between the vertices as they are saved."""
    about = json.loads((explored_run / "config.json").read_text())
    settings = about["config"]
    settings["objective"] |= {"proved": True, "tightness": 0.9}
    config = parse_recorded(settings, "the settings")
    target, source = explored_run.parent / "target.png", tmp_path / "source.png"
    write_png(source, read_png(target) // 16 * 15)  # Near enough for hulls of its class.
    out = collide(config, source, target, tmp_path / "proved")
    summary = summary_of(out)
    assert summary["certificate"]["proofs"]["hull"]["result"] == "proved"
    assert 0 < summary["shrunk_to"] <= 1
    assert Polytope.load(out).state["shrunk_to"] == summary["shrunk_to"]
    assert Polytope.load(out).prove(seconds=2)["result"] == "proved"
    written = (out / "summary.json").read_bytes()
    collide(config, source, target, out)
    assert (out / "summary.json").read_bytes() == written
    evaluate(out)
    assert summary_of(out)["shrunk_to"] == summary["shrunk_to"]


def test_a_run_that_is_not_asked_to_be_proved_has_the_fingerprint_it_had(explored_run):
    config = open_run(explored_run).config
    assert "proved" not in config.identity()["objective"]


def certify(*words: object):
    return CliRunner().invoke(app, ["certify", *map(str, words)])


def test_the_command_prints_what_is_proved(run):
    outcome = certify(run, "--hull", "--rounding", "--seconds", 0.2)
    assert outcome.exit_code == 0, outcome.output
    assert "rounded to 8 bits in any way" in outcome.stdout
    assert list(summary_of(run)["certificate"]["proofs"]) == ["rounded"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rounding",), "need --hull"),
        (("--hull", "--seconds", 0), "--seconds should be a number above 0"),
        (("--hull", "--seconds", "nan"), "--seconds should be a number above 0"),
        (("--hull", "--tightness", 1.5), "--tightness should be a number between 0 and 1"),
        (("--tightness", 0.1), "need --hull"),
    ],
)
def test_options_that_cannot_be_met_are_refused(run, words, message):
    outcome = certify(run, *words)
    assert outcome.exit_code == 2
    assert message in " ".join(outcome.output.replace("│", " ").split())


def test_a_polytope_in_memory_is_proved_as_its_run_is(run):
    polytope = Polytope.load(run)
    proof = polytope.prove(tightness=0.5, seconds=0.2)
    kept = prove(run, Claim(0.5, seconds=0.2))
    assert (proof["result"], proof["margin"]["found"]) == (kept["result"], kept["margin"]["found"])
    with pytest.raises(ValueError, match="Expected seconds above 0 to prove in, but found 0"):
        polytope.prove(seconds=0)
    with pytest.raises(ValueError, match="Expected a tightness between 0 and 1, but found 2"):
        polytope.prove(tightness=2)
