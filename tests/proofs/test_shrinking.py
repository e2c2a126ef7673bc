"""A hull is shrunk until it is proved, and no further than it must be."""

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import Claim, Prover
from patchcollide.proofs.shrinking import (
    require_bounds,
    rounded,
    shrink_until_proved,
    shrunk,
)
from tests.helpers.random_networks import random_hull, random_network, target_of
from tests.proofs.test_hulls import tent, triangle


def proof_of(network, vertices, target):
    bounds = HullBounds.of(network, vertices, target, rounding=False)
    return Prover(bounds, Claim(seconds=2)).run()


def test_a_hull_is_shrunk_until_what_its_files_hold_is_proved():
    """The violation is at (0.9, 0.05); the triangle's centre is far from it."""
    network, vertices = tent((0.9, 0.05), 0.1), triangle()
    target = target_of(network, vertices)
    assert proof_of(network, vertices, target)["result"] == "refuted"
    found, scale = shrink_until_proved(
        network, vertices.astype(np.float32), target, gamma=None, seed=0, seconds=1
    )
    assert 0.4 < scale < 1
    np.testing.assert_array_equal(found, shrunk(vertices.astype(np.float32), scale))
    assert proof_of(network, rounded(found), target)["result"] == "proved"
    larger = rounded(shrunk(vertices.astype(np.float32), min(1.0, 1.5 * scale)))
    assert proof_of(network, larger, target)["result"] != "proved"


def test_a_hull_that_is_proved_stays_as_it_is():
    network, vertices = tent((0.9, 0.9), 0.1), triangle().astype(np.float32)
    target = target_of(network, triangle())
    found, scale = shrink_until_proved(network, vertices, target, gamma=None, seed=0, seconds=1)
    assert scale == 1
    np.testing.assert_array_equal(found, vertices)


def test_a_hull_whose_centre_is_of_another_class_is_left_with_a_warning(caplog):
    network, vertices = tent((1 / 3, 1 / 3), 0.2), triangle().astype(np.float32)
    target = target_of(network, triangle())
    found, scale = shrink_until_proved(network, vertices, target, gamma=None, seed=0, seconds=0.1)
    assert scale == 0
    np.testing.assert_array_equal(found, vertices)
    assert "could not be proved at any size" in caplog.text


def test_features_are_brought_within_their_bound():
    network, vertices = random_network(4), random_hull(4, 4, spread=20)
    target = target_of(network, vertices)
    whole = HullBounds.of(network, vertices, target, rounding=False)
    middle = whole.vertices.mean(dim=0, keepdim=True)
    gamma = float(whole.tau_at(middle) + whole.tau_at(whole.vertices).max()) / 2
    found, scale = shrink_until_proved(
        network, vertices.astype(np.float32), target, gamma=gamma, seed=0, seconds=1
    )
    bounds = HullBounds.of(network, rounded(found), target, rounding=False)
    assert 0.2 < scale < 1
    assert float(bounds.tau_at(bounds.vertices).max()) <= gamma


def test_a_network_without_bounds_is_refused_before_anything_is_looked_for():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1), nn.ReLU(), nn.Linear(3, 2))
    network = CollisionNetwork(
        module, name="soft", layer="3", input_size=2, mean=(0.0,), scale=(1.0,)
    )
    with pytest.raises(NetworkError, match=r"no bound of softmax in '2' \(Softmax\)"):
        require_bounds(network)
    require_bounds(tent())
    assert not torch.is_inference_mode_enabled()
