"""Distances of features behind the activation, against the modules themselves."""

import math

import pytest
import torch
from torch import nn

from patchcollide.evaluation.feature_distances import (
    distances_of_features,
    feature_differences,
    feature_distances,
    feature_scale,
    relative_feature_distances,
)
from patchcollide.networks.activations import BlindRegions, blind_regions
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from tests.helpers.presence import present

EXACT = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(-2, 0.5),
    nn.Hardsigmoid(),
    nn.Hardswish(),
    nn.Threshold(0.25, 7.0),
    nn.Threshold(0.5, 0.5),
]
SMOOTH = [
    (nn.GELU(), 0.0),
    (nn.ELU(), -1.0),
    (nn.Tanh(), -1.0),
    (nn.Sigmoid(), 0.0),
    (nn.LeakyReLU(), 0.0),
    (nn.SiLU(), 0.0),
    (nn.LogSigmoid(), 0.0),
]


def pre_activations(generator, images=5, units=40):
    return 4 * torch.randn(images, units, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("module", EXACT, ids=repr)
def test_distances_are_those_of_what_the_module_gives(module, generator):
    z = pre_activations(generator)
    target = TargetFeatures.of(z[0], present(blind_regions(module)))
    outputs = module(z.clone())
    silent = module(torch.full_like(z[0], -99.0))
    expected = (outputs - outputs[0]).norm(dim=1)
    assert torch.equal(feature_differences(z, target), outputs - outputs[0])
    assert feature_distances(z, target) == pytest.approx(expected)
    assert feature_scale(target) == pytest.approx((outputs[0] - silent).norm())
    tau = expected / (outputs[0] - silent).norm()
    assert relative_feature_distances(z, target) == pytest.approx(tau)
    assert distances_of_features(outputs, target) == pytest.approx(tau)


@pytest.mark.parametrize(("module", "floor"), SMOOTH, ids=repr)
def test_the_floor_is_what_a_silent_unit_tends_to(module, floor, generator):
    z = pre_activations(generator)
    regions = present(blind_regions(module, 0.01))
    assert regions.floor == floor
    assert regions.respond(z) == pytest.approx(module(z))


@pytest.mark.parametrize(
    ("regions", "floor"),
    [
        (BlindRegions(0.0, None), 0),
        (BlindRegions(-2.0, 1.0), -2),
        (BlindRegions(None, 3.0), 3),
        (BlindRegions(None, None), 0),
    ],
)
def test_between_given_regions_the_activation_is_the_identity(regions, floor):
    assert regions.floor == floor
    z = torch.tensor([-9.0, 0.5, 9.0])
    ends = [-9.0 if regions.low is None else regions.low, 0.5, regions.high or 9.0]
    assert regions.respond(z).tolist() == ends


def test_the_input_is_left_as_it_was(generator):
    class Odd(nn.Module):
        def forward(self, z):
            return z.mul_(2).clamp_(min=-1)

    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), Odd(), nn.Linear(6, 2))
    network = CollisionNetwork(
        module,
        name="odd",
        layer="2",
        input_size=2,
        mean=(0,) * 3,
        scale=(1,) * 3,
        blind=BlindRegions(-0.5, None),
    )
    z = pre_activations(generator)
    before = z.clone()
    assert torch.equal(network.blind.respond(z), (2 * before).clamp(min=-1))
    assert torch.equal(z, before)
    assert network.blind.floor == -1


@pytest.mark.parametrize("moved", [-20.0, -0.5, 0.0])
def test_inputs_on_the_blind_side_are_no_distance_apart(moved):
    target = TargetFeatures.of(torch.tensor([-3.0, 2.0]), BlindRegions(0.0, None))
    assert feature_distances(torch.tensor([[moved, 2.0]]), target) == 0


def test_to_a_silent_target_distances_have_no_scale():
    target = TargetFeatures.of(torch.tensor([-3.0, -1.0]), BlindRegions(0.0, None))
    z = torch.tensor([[-5.0, 0.0], [1.0, 1.0]])
    assert relative_feature_distances(z, target).tolist() == [0, math.inf]
