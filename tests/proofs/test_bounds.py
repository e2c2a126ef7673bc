"""No image between vertices is beyond what is bounded, whatever the network is made of."""

import pytest
import torch
from torch import nn

from patchcollide.errors import TargetError
from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.networks.network import CollisionNetwork
from patchcollide.proofs.attack import find_worst, find_worst_nearby
from patchcollide.proofs.backward import Backward
from patchcollide.proofs.bands import Band, run_forward
from patchcollide.proofs.bends import Slopes
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.simplices import at_corners, combined, halved, whole
from patchcollide.proofs.tracing import FEATURES, LOGITS, PRE_ACTIVATION, read_program
from tests.helpers.random_networks import (
    random_hull,
    random_network,
    silences_targets,
    target_of,
)

QUICK, SLOW = range(30), range(30, 500)


def bounds_of(seed: int, num_vertices: int = 4, *, rounding: bool = False) -> HullBounds:
    network, vertices = random_network(seed), random_hull(seed, num_vertices)
    while silences_targets(network, vertices):
        seed += 1000
        vertices = random_hull(seed, num_vertices)
    return HullBounds.of(network, vertices, target_of(network, vertices), rounding=rounding)


def dense_samples(bounds: HullBounds, count: int = 300) -> torch.Tensor:
    weights = uniform_weights(count, len(bounds.vertices), torch.Generator().manual_seed(1))
    sharp = weights**4 / (weights**4).sum(dim=1, keepdim=True)
    return torch.cat([whole(len(bounds.vertices))[0], weights, sharp])


def require_inside(bounds: HullBounds) -> None:
    """Compares all bounds with samples, each shifted as far as it may be, and with attacks."""
    weights = dense_samples(bounds)
    generator = torch.Generator().manual_seed(2)
    shifts = torch.rand(len(weights), *bounds.radius.shape[1:], generator=generator)
    between = combined(weights, bounds.vertices)
    images = between + bounds.radius * (2 * shifts.double() - 1).sign()
    simplex = whole(len(bounds.vertices))
    lowest = {way: float(bounds.margins(simplex, way)) for way in ("forward", "rows", "maps")}
    highest = {way: float(bounds.distances(simplex, way)) for way in ("forward", "rows", "maps")}
    margins, taus = bounds.margin_at(images), bounds.tau_at(images)
    found = find_worst(bounds.margin_at, bounds.vertices, generator, restarts=10, steps=6)
    near = find_worst_nearby(bounds.margin_at, between[:8], bounds.radius[0], steps=4)
    for way in lowest:
        assert lowest[way] <= min(float(margins.min()), near), way
        assert bounds.radius.any() or lowest[way] <= found.value, way
        assert highest[way] >= float(taus.max()), way
    require_bands_hold(bounds, weights, images)


def require_bands_hold(bounds, weights, images):
    """Compares the values of all outputs with both kinds of bands, point by point."""
    program, corners = bounds.program, at_corners(whole(len(bounds.vertices)), bounds.vertices)
    output = bounds.network(images)
    values = {
        PRE_ACTIVATION: output.pre_activation,
        FEATURES: bounds.network.blind.respond(output.pre_activation),
        LOGITS: output.logits,
    }
    forward = run_forward(program, Band.around(corners, bounds.radius), *program.outputs.values())
    back = Backward(program, corners[0], bounds.radius)
    for name, number in program.outputs.items():
        for band in (forward[number], back.band(number, every_unit=True)):
            lower, upper = (weights @ end.flatten(2)[0] for end in band.ends())
            assert (values[name] >= lower).all(), name
            assert (values[name] <= upper).all(), name


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("seeds", [QUICK[:10], QUICK[10:20], QUICK[20:]])
def test_nothing_is_beyond_the_bounds_of_random_networks(seeds, rounding):
    for seed in seeds:
        require_inside(bounds_of(seed, 1 + seed % 5, rounding=rounding))


@pytest.mark.slow
@pytest.mark.parametrize("rounding", [False, True])
def test_nothing_is_beyond_the_bounds_of_many_more(rounding):
    for seed in SLOW:
        require_inside(bounds_of(seed, 1 + seed % 5, rounding=rounding))


@pytest.mark.parametrize("seed", [1, 4])
def test_turned_lines_are_below_too_and_no_worse(seed):
    """Any slopes from 0 to 1: those that a search ends with, and random ones."""
    bounds = bounds_of(seed, 4, rounding=True)
    logits, rows = bounds.program.outputs[LOGITS], bounds._rows
    corners = at_corners(whole(4), bounds.vertices)[0]
    back = Backward(bounds.program, corners, bounds.radius)
    plain, turned = float(back.lowest(logits, rows).min()), float(back.smallest(logits, rows))
    least = float(bounds.margin_at(combined(dense_samples(bounds), bounds.vertices)).min())
    assert plain <= turned <= least
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        back._slopes = {
            number: Slopes(*torch.rand(2, 1, *step.shape, generator=generator).double())
            for number, step in back._floors(logits)
        }
        assert float(back.lowest(logits, rows).min()) <= least


def test_what_is_known_of_the_whole_narrows_its_parts_and_holds_there():
    bounds = bounds_of(3, 3, rounding=True)
    cells, flat = whole(3), bounds.vertices.flatten(1)
    bounds.margins(cells, "maps")
    assert bounds._ranges
    fresh = bounds_of(3, 3, rounding=True)
    for _ in range(3):
        cells = halved(cells, flat @ flat.T)
    points = torch.einsum("sk,ckv->csv", dense_samples(bounds)[:, :3], cells)
    least = bounds.margin_at(combined(points.flatten(0, 1), bounds.vertices)).reshape(8, -1)
    known, alone = bounds.margins(cells, "maps"), fresh.margins(cells, "maps")
    assert (known <= least.amin(dim=1)).all()
    assert float(known.min()) >= float(alone.min()) - 0.1 * abs(float(alone.min()))
    assert bounds._ranges.keys() >= fresh._ranges.keys()


@pytest.mark.parametrize("way", ["forward", "rows", "maps"])
def test_smaller_simplices_are_bounded_better(way):
    bounds = bounds_of(3, 3)
    flat = bounds.vertices.flatten(1)
    cells = whole(3)
    widths = []
    for _ in range(4):
        low = bounds.margins(cells, way)
        middles = bounds.margin_at(combined(cells.mean(dim=1), bounds.vertices))
        assert (low <= middles).all()
        widths.append(float((middles - low).mean()))
        for _ in range(2):
            cells = halved(cells, flat @ flat.T)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 3


def test_a_single_image_is_bounded_to_within_rounding():
    for seed in range(6):
        bounds = bounds_of(seed, 1)
        margin, tau = bounds.margin_at(bounds.vertices), bounds.tau_at(bounds.vertices)
        assert float(bounds.margins(whole(1), "maps")) == pytest.approx(float(margin), abs=1e-9)
        assert float(bounds.distances(whole(1), "forward")) == pytest.approx(float(tau), abs=1e-9)


def test_where_the_layer_is_affine_the_largest_distance_is_a_vertex_s():
    """The bound at no cost: that of active units' pre-activations, and of what responds."""
    bounds = bounds_of(4, 5)
    assert bounds.is_convex
    z = bounds.network.pre_activation(bounds.vertices)
    own = z[:1].clamp(min=0)
    gaps = torch.where(own > 0, (z - own).abs(), z.clamp(min=0))
    plain = (gaps.norm(dim=1) / own.norm()).max()
    found = float(bounds.distances(whole(5), "convexity"))
    assert float(bounds.tau_at(bounds.vertices).max()) <= found <= float(plain) * (1 + 1e-9)


def test_a_target_without_features_is_refused():
    network, vertices = random_network(4), random_hull(4, 2)
    with torch.no_grad():
        network.module.get_parameter("1.bias").fill_(-1e3)
    with pytest.raises(TargetError, match="No unit of layer '2' responds to the target"):
        HullBounds.of(network, vertices, target_of(network, vertices), rounding=False)


def test_rows_of_one_hidden_layer_are_those_of_the_paper_on_crown(generator):
    """Zhang et al., 2018, Section 3.2, in plain loops."""
    matrix, offset = torch.randn(5, 4, generator=generator), torch.randn(5, generator=generator)
    last = torch.randn(2, 5, generator=generator)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    with torch.no_grad():
        module.get_parameter("1.weight").copy_(matrix)
        module.get_parameter("1.bias").copy_(offset)
        module.get_parameter("3.weight").copy_(last)
    network = CollisionNetwork(
        module, name="net", layer="2", input_size=2, mean=(0.0,), scale=(1.0,)
    )
    program = read_program(network.in_float64())
    middle, radius = torch.rand(4, generator=generator), 0.2
    expected = []
    for row in (last.double()[0] - last.double()[1])[None]:
        slopes, constant = torch.zeros(4).double(), 0.0
        for unit in range(5):
            weights, shift = matrix[unit].double(), offset[unit].double()
            centre, reach = weights @ middle.double() + shift, radius * weights.abs().sum()
            low, high = float(centre - reach), float(centre + reach)
            slope, lift = (1.0, 0.0) if low >= 0 else (0.0, 0.0)
            if low < 0 < high:
                chord = high / (high - low)
                slope, lift = (float(high > -low), 0.0) if row[unit] > 0 else (chord, -chord * low)
            slopes += row[unit] * slope * weights
            constant += float(row[unit]) * (slope * float(shift) + lift)
        expected.append(float(slopes @ middle.double() - radius * slopes.abs().sum()) + constant)
    back = Backward(program, middle.double().reshape(1, 1, 1, 2, 2), radius)
    found = back.lowest(program.outputs[LOGITS], torch.tensor([[[1.0, -1.0]]]).double())
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-8)
