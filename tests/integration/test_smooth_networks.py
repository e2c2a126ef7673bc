"""Transformers and smooth activations, whose features agree to a tolerance: settings to verdict."""

import json

import pytest

from tests.helpers.commands import World, assert_refused

NETWORKS = {
    "timm:vit_tiny_patch16_224": "blocks.11.mlp.act",
    "timm:convnext_atto": "stages.3.blocks.1.mlp.act",
}


@pytest.fixture
def world(tmp_path, write_images):
    made = World(tmp_path)
    assert made.index(write_images()).exit_code == 0
    return made


def asked(name, tolerance):
    words = ["--network", name, "--weights", "random", "--input-size", "32", "--layer"]
    settings = [f"network.tolerance={tolerance}", "network.min_confidence=0", "optimiser.steps=3"]
    settings.append("optimiser.num_vertices=2")
    return [*words, NETWORKS[name], *(word for each in settings for word in ("--set", each))]


@pytest.mark.parametrize("space", [[], ["--pixels"]], ids=["patches", "pixels"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_has_a_verdict_by_the_same_measure(name, space, world):
    outcome = world.collide(*space, *asked(name, 0.01))
    assert outcome.exit_code == 0, outcome.said
    found = json.loads((world.run / "summary.json").read_text())["tightness"]
    assert 0 < found["hull"]["tau_mean"] <= found["hull"]["tau_max"]
    assert found["verdict"]


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_tolerance_one_is_suggested_with_the_share_of_blind_units(name, world):
    outcome = world.collide("--pixels", *asked(name, 0))
    assert_refused(outcome, 2, "NetworkError", "network.tolerance", "%")
