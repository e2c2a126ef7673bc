"""Bounds on features on the command line, one or several."""

import json
from decimal import ROUND_CEILING, Context
from typing import get_type_hints

import pytest

from patchcollide.evaluation.frontier import Frontier
from patchcollide.runs import frontier
from tests.helpers.commands import assert_refused
from tests.helpers.records import last_of

QUICK = ["--set", "optimiser.num_vertices=2", "--set", "optimiser.steps=4"]


def trace(world, *more):
    pair = ["--source", world.source, "--target", world.target]
    return world("frontier", *pair, "--pixels", *QUICK, "--out", world.folder / "traced", *more)


def test_a_run_is_made_within_the_bound_that_is_asked_for(world):
    outcome = world.collide("--pixels", *QUICK, "--tightness", 0.25)
    assert outcome.exit_code == 0, outcome.said
    about = json.loads((world.run / "config.json").read_text())
    assert about["config"]["objective"]["tightness"] == 0.25
    assert "tau" in (world.run / "history.csv").read_text().splitlines()[0].split(",")
    changed = world.collide("--pixels", *QUICK, "--tightness", 0.2)
    assert_refused(changed, 2, "RunError", "objective.tightness", "0.25")


@pytest.mark.parametrize("bound", ["0", "1", "-0.1", "nan", "inf"])
def test_bounds_that_are_no_share_are_refused(world, bound):
    before = world.files()
    outcome = world.collide("--pixels", "--tightness", bound)
    assert_refused(outcome, 2, "should be a number between 0 and 1")
    assert world.files() == before


def test_a_bound_below_the_floor_is_refused_before_anything_is_written(world):
    before = world.files()
    outcome = world.collide("--pixels", "--tightness", 1e-6)
    assert_refused(outcome, 2, "ConfigError", "objective.tightness = 1e-06", "or more, or choose")
    assert world.files() == before


def test_a_bound_that_is_not_reached_is_no_error_and_the_nearest_is_named(world):
    outcome = world.collide("--pixels", *QUICK, "--tightness", 0.05)
    assert outcome.exit_code == 0, outcome.said
    block = json.loads((world.run / "summary.json").read_text())["tightness"]
    assert block["verdict"] != "feature collision"
    nearest = f"features differ by up to {as_told(block['hull']['tau_max'])} (0.05 asked)"
    assert nearest in block["sentence"]
    assert nearest in outcome.printed


def as_told(tau):
    """Two digits, rounded up."""
    return str(Context(prec=2, rounding=ROUND_CEILING).create_decimal(repr(tau)))


@pytest.mark.parametrize("method", ["class", "features", "metamer", "null_space"])
def test_a_method_without_bounds_refuses_one(world, method):
    before = world.files()
    outcome = world.collide("--pixels", "--tightness", 0.1, "--method", method)
    assert_refused(outcome, 2, "ConfigError", "objective.tightness = 0.1", f"method = '{method}'")
    assert world.files() == before


def test_a_frontier_is_a_run_within_each_bound_and_what_they_found_side_by_side(world, monkeypatch):
    log = world.folder / "log"
    outcome = trace(world, "--tightness", "0.3,0.6", "--seed", 4, "--log-json", log)
    assert outcome.exit_code == 0, outcome.said
    out = world.folder / "traced"
    files = {"frontier.json", "frontier.md", "frontier.pdf", "frontier.png", "frontier.svg"}
    assert {path.name for path in out.iterdir()} == files | {"tightness-0.3", "tightness-0.6"}
    found = json.loads((out / "frontier.json").read_text())
    assert found.keys() - {"digest"} == get_type_hints(Frontier).keys()
    assert [point["tightness"] for point in found["points"]] == [0.6, 0.3]
    assert found["seed"] == 4
    assert found["source_bound"] == pytest.approx(0.11 * 255 * (3 * 32 * 32) ** 0.5)
    for point in found["points"]:
        summary = json.loads((out / point["run"] / "summary.json").read_text())
        assert point["tau"] == summary["certificate"]["hull"]["feature_distance_relative"]
        assert point["vertex_distance"] == summary["vertex_distance_mean"]
    assert (out / "frontier.md").read_text() in outcome.printed
    assert str(out / "frontier.png") in outcome.printed
    told = json.loads((out / "tightness-0.3" / "summary.json").read_text())["tightness"]
    assert last_of(log, "Tracing the frontier")["tau"] == told["hull"]["tau_max"]
    before = world.files()
    monkeypatch.setattr(frontier, "write_frontier_chart", lambda *_: None)
    again = trace(world, "--tightness", "0.3", "--seed", 4)
    assert again.exit_code == 0
    assert "nothing to do" in again.said
    (only,) = json.loads((out / "frontier.json").read_text())["points"]
    assert only == found["points"][1]
    kept = {path: time for path, time in before.items() if "tightness-" in path}
    assert {path: time for path, time in world.files().items() if "tightness-" in path} == kept
    other = trace(world, "--tightness", "0.3", "--seed", 5)
    assert_refused(other, 2, "RunError", "tightness-0.3 holds another run", "seed")


@pytest.mark.parametrize("bounds", ["", "0.2,", "0.2;0.1", "0.2,0.2", "0.2,1", "0", "0.1,nan"])
def test_a_frontier_refuses_what_are_no_bounds(world, bounds):
    outcome = trace(world, "--tightness", bounds)
    assert_refused(outcome, 2, "should be numbers between 0 and 1, each once")


def test_a_frontier_refuses_other_methods_and_the_folder_of_a_run(finished):
    outcome = trace(finished, "--set", "method=features")
    assert_refused(outcome, 2, "ConfigError", "method = 'features' has no bound")
    outcome = trace(finished, "--out", finished.run)
    assert_refused(outcome, 2, "RunError", "is a run, but a frontier wants a folder")
    assert_refused(
        finished("frontier", "--source", "a", "--target", "b", "--out", "c"), 2, "give one of"
    )
