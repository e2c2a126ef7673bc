"""What is refused and said of a source and a target before a descent."""

import logging
import re

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.api import find_polytope
from patchcollide.errors import ConfigError, TargetError
from patchcollide.evaluation.known_changes import noise_floor
from patchcollide.images.pictures import write_png

SIZE = 8
SMALL = {
    "optimiser.steps": 4,
    "optimiser.num_vertices": 2,
    "optimiser.validation_samples": 2,
    "optimiser.check_every": 2,
    "optimiser.warmup_steps": 1,
    "objective.units": "none",
    "network.device": "cpu",
    "evaluation.batch_size": 16,
    "evaluation.num_samples": 20,
    "evaluation.check_samples": 40,
    "evaluation.null_samples": 40,
}


def module(activation, bias, outputs=3):
    """Its layer sees a black image as ``bias`` in all units."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * SIZE**2, 6), activation, nn.Linear(6, outputs)
        )
    nn.init.constant_(made.get_parameter("1.bias"), bias)
    return made


def collide_with(made, layer="2", **settings):
    source = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    return find_polytope(made, layer, source, black, input_size=SIZE, settings=SMALL | settings)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh()])
def test_a_target_that_activates_no_unit_is_refused(activation):
    with pytest.raises(TargetError, match=r"No unit of layer '2' responds to the target.*another"):
        collide_with(module(activation, -1.0))


def test_a_target_within_the_tolerance_of_no_response_is_refused():
    with pytest.raises(TargetError, match="No unit of layer '2' responds"):
        collide_with(module(nn.Sigmoid(), -9.0), **{"network.tolerance": 0.01})


def test_a_target_whose_units_are_all_saturated_is_none_without_features():
    assert len(collide_with(module(nn.ReLU6(), 7.0)).vertices) == 2


@pytest.mark.parametrize("bias", [1.0, -1.0])
def test_a_target_that_leaves_no_unit_blind_is_said(bias, caplog):
    made = module(nn.ReLU(), 1.0)
    made[1].bias.data[0] = bias
    with caplog.at_level(logging.WARNING):
        collide_with(made)
    assert ("all 6 units of layer '2' are active at the target" in caplog.text) == (bias > 0)


def test_features_nearer_than_rounding_leaves_them_are_said_or_refused(caplog):
    made = module(nn.ReLU(), 0.3)
    found = collide_with(made)
    floor = noise_floor(found.network, found.target, seed=0)
    assert floor is not None
    said = r"objective\.tightness = \S+ asks for features nearer .* its own by \S+ at layer '2'"
    for share in (1.01, 0.99, 0.6):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            collide_with(made, **{"objective.tightness": share * floor})
        assert bool(re.search(said, caplog.text)) == (share < 1), share
    with pytest.raises(ConfigError, match=rf"{said}.*Ask for \S+ or more") as refused:
        collide_with(made, **{"objective.tightness": 0.4 * floor})
    advised = float(str(refused.value).split("Ask for ")[1].split()[0])
    assert floor <= advised <= 1.2 * floor


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("ending", ["one logit", "softmax"])
def test_polytopes_of_other_outputs_are_the_same_in_every_grad_mode(ending, mode):
    """Both classes of one logit have samples' probabilities that are not all 1."""
    made = module(nn.ReLU(), 0.3, 1 if ending == "one logit" else 3)
    made = nn.Sequential(*made, nn.Softmax(dim=1)) if ending == "softmax" else made
    expected = collide_with(made)
    with mode():
        found = collide_with(made)
        measured = found.evaluate()
    assert np.array_equal(found.vertices, expected.vertices)
    certain = expected.evaluate()
    for name in ("success_rate", "sample_probability_mean", "certificate", "unrounded"):
        assert measured[name] == certain[name]
    assert 0.3 < measured["sample_probability_mean"] < 0.9
    assert 0.3 < measured["target_probability"] < 0.9


@pytest.mark.parametrize("side", [1, 40])
def test_a_picture_that_is_much_enlarged_is_told_by_how_much(side, tmp_path, caplog):
    rng = np.random.default_rng(0)
    paths = [tmp_path / "source.png", tmp_path / "target.png"]
    for path in paths:
        write_png(path, rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    find_polytope(module(nn.ReLU(), 1.0), "2", *paths, input_size=SIZE, settings=SMALL)
    told = f"the source {paths[0]} is enlarged 8.0 times, from 1 to 8 pixels: most of what"
    assert (told in caplog.text) == (side == 1)


@pytest.mark.parametrize("grey", [True, False])
def test_a_photograph_in_colour_for_a_network_of_grey_images_is_told(grey, tmp_path, caplog):
    rng = np.random.default_rng(0)
    paths = [tmp_path / "source.png", tmp_path / "target.png"]
    for path in paths:
        picture = rng.integers(0, 256, (28, 28, 1 if grey else 3), dtype=np.uint8)
        write_png(path, picture.repeat(3, axis=2) if grey else picture)
    settings = SMALL | {"network.weights": "random"}
    find_polytope("lenet5", "fc1", *paths, settings=settings)
    told = (
        r"is in colour \(channels differ by 1\d\d levels of 255 .*\), but LeNet-5 sees grey images"
    )
    assert bool(re.search(told, caplog.text)) != grey
