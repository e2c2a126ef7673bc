"""What is left of a network over a hull is the same network there, and bounds its parts better."""

import pytest
import torch

from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.proofs import bounds as bounds_module
from patchcollide.proofs.backward import Backward
from patchcollide.proofs.bands import Band, run_forward
from patchcollide.proofs.bends import Cap, Floor
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.nested import holds
from patchcollide.proofs.reduction import Reducer, Reduction
from patchcollide.proofs.simplices import at_corners, combined, halved, whole
from patchcollide.proofs.tracing import LOGITS
from tests.proofs.test_bounds import bounds_of


def reduction_of(bounds: HullBounds) -> Reduction:
    corners = at_corners(whole(len(bounds.vertices)), bounds.vertices)[0]
    back = Backward(bounds.program, corners, bounds.radius)
    outputs = {LOGITS: bounds.program.outputs[LOGITS]}
    back.band(outputs[LOGITS])
    found = Reducer(back, bounds.vertices, bounds.radius).reduced(outputs, 1 << 30)
    assert found is not None
    return found


def smaller(simplices: torch.Tensor, bounds: HullBounds) -> torch.Tensor:
    flat = bounds.vertices.flatten(1)
    return halved(simplices, flat @ flat.T)


def least_within(bounds: HullBounds, simplices: torch.Tensor) -> torch.Tensor:
    """Returns the smallest margins of dense samples, moved as far as rounding may move them."""
    generator = torch.Generator().manual_seed(0)
    count = len(bounds.vertices)
    weights = torch.cat([whole(count)[0], uniform_weights(60, count, generator)])
    images = combined(torch.einsum("sk,ckv->csv", weights, simplices), bounds.vertices)
    shifts = torch.rand(images.shape, generator=generator, dtype=torch.float64) - 0.5
    margins = bounds.margin_at((images + bounds.radius * shifts.sign()).flatten(0, 1))
    return margins.reshape(len(simplices), -1).amin(dim=1)


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_reduction_gives_the_networks_logits_between_the_vertices(seed, rounding, generator):
    bounds = bounds_of(seed, 3, rounding=rounding)
    reduction = reduction_of(bounds)
    weights = uniform_weights(20, 3, generator)
    images = combined(weights, bounds.vertices)
    moved = reduction.corners(weights)
    if rounding:
        shifts = bounds.radius * (2 * torch.rand(images.shape, generator=generator).double() - 1)
        images = images + shifts
        varies = (bounds.vertices != bounds.vertices[0]).any(dim=0).flatten()
        moved = moved + shifts.flatten(1)[:, None, varies]
    number = reduction.program.outputs[LOGITS]
    found = run_forward(reduction.program, Band.around(moved[:, None]), number)[number]
    assert found.middle[:, 0, 0] == pytest.approx(bounds.network(images).logits, abs=1e-9)
    assert sum(s.size for s in reduction.program.steps) < sum(s.size for s in bounds.program.steps)


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_parts_of_a_hull_are_never_beyond_their_bounds(seed, rounding):
    """Of the reductions that parts have of their own as well."""
    bounds, simplices = bounds_of(seed, 4, rounding=rounding), whole(4)
    bounds.margins(simplices, "maps")
    for _ in range(5):
        simplices = smaller(simplices, bounds)[-2:]
        for way in ("maps", "rows"):
            assert (bounds.margins(simplices, way) <= least_within(bounds, simplices)).all()
    assert any(part.reduction for part in bounds._nested._parts)


def test_a_reduction_bounds_parts_at_least_as_well(monkeypatch):
    lowest = []
    for max_bytes in (1 << 30, 0):
        monkeypatch.setattr(bounds_module, "_NESTED_BYTES", max_bytes)
        found = 0.0
        for seed in (1, 3):
            bounds = bounds_of(seed, 3, rounding=True)
            simplices = whole(3)
            bounds.margins(simplices, "maps")
            for _ in range(3):
                simplices = smaller(simplices, bounds)
            found += float(bounds.margins(simplices, "maps").sum())
            assert (bounds._nested.over(simplices[0]) is None) == (max_bytes == 0)
        lowest.append(found)
    assert lowest[0] > lowest[1]


def test_a_simplex_holds_its_halves_and_not_its_neighbours():
    parts = whole(4)
    for _ in range(4):
        outer, parts = parts, halved(parts, torch.eye(4, dtype=torch.float64))
        count = len(outer)
        for number, each in enumerate(parts):
            held = [holds(simplex, each) for simplex in outer]
            assert held == [number % count == other for other in range(count)]
    assert holds(parts[0], parts[0][:2])
    assert not holds(parts[0], parts[0] + 1e-12)


@pytest.mark.parametrize("kind", [Floor, Cap])
def test_bends_of_some_units_are_theirs(kind, generator):
    at = torch.randn(2, 3, 1, generator=generator).double()
    x = torch.randn(1, 2, 3, 4, generator=generator).double()
    units = torch.tensor([0, 5, 23])
    found = kind(at).of_units(x.shape, units).run(x.flatten()[units][None])
    assert torch.equal(found[0], kind(at).run(x).flatten()[units])
    assert kind(0.5).of_units(x.shape, units).at == 0.5
