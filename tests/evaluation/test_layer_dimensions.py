"""Layers of networks, block by block, against the whole matrix at once."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.evaluation.dimensions import measure_layer
from patchcollide.networks.affine import read_module_map
from patchcollide.networks.models.digit_networks import load_digit_network
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import Trace
from patchcollide.polyhedra.proposition1 import Proposition1, bytes_needed, examine


def sequence(size, channels, *parts, layer):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        built = nn.Sequential(*(part() for part in parts))
        width = built(torch.zeros(1, channels, size, size)).numel()
        module = nn.Sequential(*built, nn.Flatten(), nn.Linear(width, 3))
    middle = (0.5,) * channels
    return CollisionNetwork(
        module, name="small", layer=layer, input_size=size, mean=middle, scale=middle
    )


def traced(network, seed=0):
    """One image's way through all usable layers."""
    rng = np.random.default_rng(seed)
    shape = (1, network.channels, network.input_size, network.input_size)
    double = network.in_float64()
    return Trace(double, torch.from_numpy(rng.random(shape)), double.usable_layers)


def measured(trace, layer, **limits):
    return measure_layer(trace, layer, trace.network.find_layer(layer)[1], **limits)


def whole(trace, layer):
    """The same without blocks, from all rows."""
    found = read_module_map(trace, layer)
    matrix = found.rows(np.arange(found.connections.num_units))
    z, blind = torch.from_numpy(found.pre_activation), trace.network.find_layer(layer)[1]
    lower, upper = (end.numpy() for end in blind.intervals(z))
    return examine(
        matrix,
        found.pre_activation - matrix @ found.target,
        lower,
        upper,
        found.target,
        input_range=found.input_kind.range,
    )


LAYERS = {
    "depthwise on pixels": (1, lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3)),
    "one by one on pixels": (1, lambda: nn.Conv2d(3, 5, 1)),
    "few units, inputs unread": (1, lambda: nn.Conv2d(3, 2, 1, stride=2)),
    "one by one": (12, lambda: nn.Conv2d(4, 6, 1)),
    "depthwise": (4, lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4)),
    "strides and groups": (50, lambda: nn.Conv2d(4, 6, 2, stride=2, groups=2)),
    "inputs unread": (9, lambda: nn.Conv2d(4, 9, 1, stride=2)),
    "units in padding": (36, lambda: nn.Conv2d(4, 3, 1, padding=1)),
    "whole": (1, lambda: nn.Conv2d(4, 6, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("before", [nn.ReLU, nn.ReLU6, nn.Identity])
def test_blocks_add_up_to_the_whole(name, before):
    _, layer = LAYERS[name]
    stem = () if "pixels" in name or "few" in name else (lambda: nn.Conv2d(3, 4, 1), before)
    network = sequence(5, 3, *stem, layer, nn.ReLU6, layer=str(len(stem) + 1))
    for seed in range(2):
        trace = traced(network, seed)
        found, expected = measured(trace, network.layer), whole(trace, network.layer)
        assert found.found == expected
        assert (found.units, found.num_matched) == (expected.num_units, expected.num_matched)
        assert (found.dimension_of_inputs, found.bound) == (
            expected.dimension_of_inputs,
            expected.bound,
        )
        assert found.not_computed is None


def test_blocks_are_counted():
    network = sequence(5, 3, lambda: nn.Conv2d(3, 5, 1), nn.ReLU, layer="1")
    assert measured(traced(network), "1").num_blocks == 25


@pytest.mark.parametrize("seed", range(3))
def test_parts_join_into_the_block_diagonal(seed):
    rng = np.random.default_rng(seed)
    sizes = [(2, 3), (4, 2), (0, 2), (1, 0), (3, 3)]
    parts, matrices, targets = [], [], []
    for units, inputs in sizes:
        matrices.append(rng.integers(-1, 2, (units, inputs)).astype(float))
        targets.append(rng.random(inputs))
    ends = [bounds_at(matrix, x) for matrix, x in zip(matrices, targets, strict=True)]
    for matrix, x, (lower, upper) in zip(matrices, targets, ends, strict=True):
        parts.append(examine(matrix, np.zeros(len(matrix)), lower, upper, x))
    full = np.zeros(np.sum(sizes, axis=0))
    row = column = 0
    for matrix in matrices:
        full[row : row + matrix.shape[0], column : column + matrix.shape[1]] = matrix
        row, column = row + matrix.shape[0], column + matrix.shape[1]
    lower, upper = (np.concatenate(side) for side in zip(*ends, strict=True))
    expected = examine(full, np.zeros(row), lower, upper, np.concatenate(targets))
    assert Proposition1.joined(parts) == expected


def bounds_at(matrix, x, offset=0.0):
    z = matrix @ x + offset
    return np.where(z > 0, z, -np.inf), np.where(z > 0, z, 0.0)


def test_a_part_that_is_not_known_leaves_the_whole_unknown():
    nothing = np.zeros(0)
    part = examine(np.zeros((0, 2)), nothing, nothing, nothing, np.zeros(2))
    unknown = replace(part, dimension=None, bounded=None, not_computed="needs more")
    joined = Proposition1.joined([part, unknown, part])
    assert (joined.dimension, joined.bounded, joined.not_computed) == (None, None, "needs more")
    assert (joined.dimension_of_inputs, joined.bound) == (6, 6)


@pytest.mark.parametrize(
    ("name", "layer", "module", "kind"),
    [
        ("mlp", "act1", "fc1", "pixels [0, 1]"),
        ("mlp", "act2", "fc2", "act1 [0, inf)"),
        ("lenet5", "act3", "fc1", "act2 [0, inf)"),
        ("lenet5", "act4", "fc2", "act3 [0, inf)"),
    ],
)
def test_networks_for_digits_are_measured_as_their_weights_say(name, layer, module, kind):
    network = load_digit_network(name, weights="random", layer=layer)
    trace = traced(network)
    found = measured(trace, layer)
    parts = dict(trace.network.module.named_children())
    x = trace.image
    for part in list(parts.values())[: list(parts).index(module)]:
        x = part(x)
    x = x[0].numpy()
    matrix, offset = (value.numpy() for value in parts[module].parameters())
    lower, upper = bounds_at(matrix, x, offset)
    high = 1.0 if kind.startswith("pixels") else np.inf
    assert found.found == examine(matrix, offset, lower, upper, x, input_range=(0.0, high))
    assert found.found.dimension == len(x) - np.linalg.matrix_rank(matrix[lower == upper])
    assert found.found.dimension == found.bound > 0
    assert (str(found.input_kind), found.module, found.num_blocks) == (kind, module, 1)


def test_above_the_memory_bound_what_needs_no_matrix_is_still_known():
    network = load_digit_network("mlp", weights="random")
    trace = traced(network)
    full, left = measured(trace, "act2"), measured(trace, "act2", memory_bytes=10**6)
    needed = bytes_needed(256, 256, (0.0, np.inf))
    assert 10**6 < needed < 10**8
    assert left.not_computed == "needs about 31.4MB, may take 1.00MB"
    assert left == replace(full, found=None, not_computed=left.not_computed)
    assert left.bound == full.bound == 256 - left.num_matched
    assert measured(trace, "act2", memory_bytes=needed) == full


def test_the_memory_bound_is_that_of_a_block_and_known_before_any_is_built(monkeypatch):
    network = sequence(5, 3, lambda: nn.Conv2d(3, 5, 1), nn.ReLU, layer="1")
    trace = traced(network)
    needed = bytes_needed(5, 3, (0.0, 1.0))
    assert measured(trace, "1", memory_bytes=needed).found is not None
    monkeypatch.setattr("patchcollide.networks.affine.ModuleMap.matrix_of", None)
    assert measured(trace, "1", memory_bytes=needed - 1).not_computed.startswith("needs about")


def test_blocks_that_would_take_too_long_are_left(monkeypatch):
    clock = itertools.count(0.0, 2.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    network = sequence(5, 3, lambda: nn.Conv2d(3, 5, 1), nn.ReLU, layer="1")
    trace = traced(network)
    found = measured(trace, "1", seconds=30.0)
    assert found.not_computed == "25 blocks would take about 50 s, may take 30 s"
    assert (found.found, found.num_blocks) == (None, 25)
    assert measured(trace, "1", seconds=50.0).found is not None


def test_a_layer_that_is_not_affine_in_its_input_says_why():
    network = sequence(
        6, 3, lambda: nn.Conv2d(3, 4, 3), lambda: nn.AvgPool2d(2), nn.ReLU, layer="2"
    )
    found = measured(traced(network), "2")
    assert found.not_computed == (
        "not affine in its input: '0' before it has 64 outputs, but it has 16 units"
    )
    assert (found.units, found.found, found.dimension_of_inputs, found.bound) == (
        16, None, None, None,
    )  # fmt: skip
    assert found.num_matched is not None
