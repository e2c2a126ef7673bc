"""Polytopes are found, measured and made again the same in whatever mode PyTorch is."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.api import find_polytope
from patchcollide.networks.linear_regions.walk import walk_segment
from patchcollide.networks.network import CollisionNetwork
from patchcollide.runs.replay import replay
from tests.helpers.modes import TORCH_MODES, torch_state
from tests.helpers.pictures import picture
from tests.test_polytope import FAST

FOR_POLYTOPES = (
    "no grad",
    "inference",
    "autocast",
    "contradiction",
    "float64",
    "default device",
    "flushed",
    "function mode",
    "dispatch mode",
)
UNTIMED = {"seconds", "peak_memory_bytes"}


def untimed(figures):
    """Figures without what says how long they took, at any depth."""
    if isinstance(figures, dict):
        return {key: untimed(value) for key, value in figures.items() if key not in UNTIMED}
    return [untimed(value) for value in figures] if isinstance(figures, list) else figures


def everything_of(network):
    """A polytope, and all that it says of itself."""
    found = find_polytope(network, "1", picture(0), picture(1), settings=FAST)
    summary = found.evaluate()
    walked = found.walk(num_edges=1, max_pieces=8)
    figures = {
        "summary": untimed(dict(summary)),
        "walk": untimed(walked),
        "gaps": found.gaps(picture(1)),
        "contains": found.contains(picture(1)),
        "sample": found.sample(3).tolist(),
    }
    return found.unrounded, figures


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 49, 3)
        )
    half = (0.5, 0.5, 0.5)
    return CollisionNetwork(module, name="n", layer="1", input_size=32, mean=half, scale=half)


@pytest.fixture(scope="module")
def expected(network):
    return everything_of(network)


@pytest.mark.parametrize("mode", FOR_POLYTOPES)
def test_a_polytope_is_the_same_in_every_mode(mode, network, expected):
    with TORCH_MODES[mode]():
        before = torch_state()
        vertices, figures = everything_of(network)
        assert torch_state() == before
    np.testing.assert_array_equal(vertices, expected[0])
    assert figures == expected[1]


@pytest.mark.parametrize("mode", ["inference", "autocast", "float64"])
def test_an_exact_polytope_is_the_same_in_every_mode(mode):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 4))
    options: dict[str, Any] = {"exact": True, "input_size": 8, "mean": (0.5,), "scale": (0.5,)}
    options["settings"] = FAST | {"optimiser.num_vertices": 2, "exact.extents": False}
    pair = [picture(seed, 8, 1)[..., 0] for seed in (0, 1)]
    wanted = find_polytope(module, "2", *pair, **options)
    with TORCH_MODES[mode]():
        found = find_polytope(module, "2", *pair, **options)
    np.testing.assert_array_equal(found.unrounded, wanted.unrounded)


def test_a_run_is_made_again_bit_for_bit_in_all_modes_at_once(explored_run, tmp_path):
    with ExitStack() as stack:
        for mode in ("autocast", "medium precision", "float64", "inference", "default device"):
            stack.enter_context(TORCH_MODES[mode]())
        assert replay(explored_run, tmp_path / "again").identical


@pytest.mark.parametrize("mode", TORCH_MODES)
def test_a_walk_is_that_of_float64_in_every_mode(mode, generator):
    module = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).double()
    start, end = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    wanted = walk_segment(module, start, end, 1, [0.0, 0.0], max_pieces=20)
    with TORCH_MODES[mode]():
        assert walk_segment(module, start, end, 1, [0.0, 0.0], max_pieces=20) == wanted
