"""Simplices are cut without gaps, and the lowest bound rises to the smallest value."""

import time

import pytest
import torch

from patchcollide.evaluation.simplex import uniform_weights
from patchcollide.proofs.attack import find_worst, find_worst_rounded
from patchcollide.proofs.search import ABOVE_ZERO, Budget, Cells, refine
from patchcollide.proofs.simplices import around_centre, combined, halved, projected, whole


@pytest.mark.parametrize("num_vertices", [2, 3, 5])
def test_halves_cover_the_whole_once(num_vertices, generator):
    products = torch.randn(num_vertices, 7, generator=generator).double()
    products = products @ products.T
    cells = whole(num_vertices)
    for _ in range(6):
        cells = halved(cells, products)
    assert len(cells) == 64
    assert torch.linalg.det(cells).abs().sum() == 1
    points = uniform_weights(200, num_vertices, generator)
    inside = torch.stack([torch.linalg.solve(cell.T, points.T).min(dim=0).values for cell in cells])
    assert ((inside >= -1e-12).sum(dim=0) == 1).all()


def test_the_longest_edge_is_cut_as_images_see_it():
    products = torch.diag(torch.tensor([1.0, 1.0, 100.0])).double()
    found = halved(whole(3), products)
    assert (found == 0.5).any(dim=2).any(dim=1).all()
    assert (found[:, :, 2] == 0.5).any(dim=1).all()


def test_an_edge_from_the_weakest_corner_counts_twice():
    products = torch.diag(torch.tensor([1.0, 1.0, 3.0])).double()
    cut = [halved(whole(3), products, torch.tensor([corner])) for corner in (-1, 0)]
    assert [(found[:, :, 2] == 0.5).any(dim=1).all() for found in cut] == [True, True]
    assert (cut[1][:, :, 0] == 0.5).any(dim=1).all()
    far = torch.diag(torch.tensor([1.0, 1.0, 100.0, 100.0])).double()
    found = halved(whole(4), far, torch.tensor([0]))
    assert (found[:, :, 0] == 0.5).any(dim=1).all()
    narrow = whole(4)
    narrow[0, 1:3] = narrow[0, 0] + 0.01 * (narrow[0, 1:3] - narrow[0, 0])
    assert (halved(narrow, far, torch.tensor([1]))[:, :, 3] == 0.5).any(dim=1).all()


def test_vertices_that_are_equal_are_cut_too():
    found = halved(halved(whole(3), torch.ones(3, 3).double()), torch.ones(3, 3).double())
    assert torch.linalg.det(found).abs().tolist() == [0.25] * 4


def test_the_part_around_the_centre_is_of_the_size_that_is_asked_for():
    assert torch.equal(around_centre(4, 1.0), whole(4))
    assert torch.linalg.det(around_centre(4, 0.5))[0] == pytest.approx(0.5**3)


def test_the_nearest_weights_are_those_of_a_quadratic_program(generator):
    points = torch.randn(50, 4, generator=generator).double()
    found = projected(points)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(50).double())
    # No other weights are nearer: the way there leads away from the point.
    others = uniform_weights(200, 4, generator)
    products = torch.einsum("pv,pov->po", points - found, others[None] - found[:, None])
    assert products.max() <= 1e-12


def quadratic(weights: torch.Tensor) -> torch.Tensor:
    gaps = weights - torch.tensor([0.2, 0.3, 0.5]).double()
    found: torch.Tensor = gaps.square().sum(dim=-1)
    return found


def lower(simplices: torch.Tensor) -> torch.Tensor:
    """The value at the middle less what a step to a corner may change."""
    middles = simplices.mean(dim=1)
    reach = (simplices - middles[:, None]).norm(dim=2).amax(dim=1)
    found: torch.Tensor = quadratic(middles) - 3 * reach
    return found


def test_bounds_rise_to_the_smallest_value_and_no_further():
    cells = Cells.first(whole(3), lower)
    first = cells.lowest
    refine(cells, lower, lambda: -0.05, torch.eye(3).double(), Budget(20, at_once=8))
    assert first < -0.05 <= cells.lowest <= 0
    assert torch.linalg.det(cells.weights).abs().sum() == pytest.approx(1)
    assert cells.share_above(-1) == 1
    assert cells.share_above(cells.lowest) < 1
    volumes = torch.linalg.det(cells.weights).abs()
    torch.testing.assert_close(volumes, 0.5 ** cells.depths.double())


def test_a_budget_of_cells_is_kept():
    cells = Cells.first(whole(3), lower)
    refine(cells, lower, lambda: 0.0, torch.eye(3).double(), Budget(20, cells=10, at_once=2))
    assert cells.bounded == 11
    assert len(cells.bounds) == 6


@pytest.mark.parametrize("at_once", [2, 8])
def test_what_would_end_after_the_time_is_not_begun(at_once):
    """Each simplex takes a second, of a clock that says so."""
    now = 0.0

    def bound(simplices: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += len(simplices)
        return lower(simplices)

    cells = Cells.first(whole(3), bound, clock=lambda: now)
    budget = Budget(20, at_once=at_once, clock=lambda: now)
    refine(cells, bound, lambda: 0.0, torch.eye(3).double(), budget)
    assert (cells.seconds, cells.bounded) == (now, now)
    assert 20 - 2 * at_once < now - 1 <= 20


def test_the_share_grows_from_the_highest_bounds_where_all_cannot_be_had():
    """Bounds as of deep networks, which rise late: breadth first, nothing would be proved."""

    def bound(simplices: torch.Tensor) -> torch.Tensor:
        reach = (simplices[:, 0] - simplices[:, 1]).norm(dim=1)
        found: torch.Tensor = 1 - 400 * reach
        return found

    shares = {}
    for highest in (False, True):
        cells = Cells.first(whole(2), bound)
        budget = Budget(20, cells=60, at_once=2, highest=highest)
        refine(cells, bound, lambda: ABOVE_ZERO, torch.eye(2).double(), budget)
        shares[highest] = cells.share_above(0.0)
        assert cells.bounded == 61
    assert shares[False] == 0
    assert shares[True] > 0.02


def test_an_attack_on_a_slow_network_is_shorter():
    asked = []

    def measure(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        time.sleep(0.002 * len(images))
        found: torch.Tensor = images.sum(dim=(1, 2, 3))
        return found

    vertices = torch.eye(4).double().reshape(4, 1, 2, 2)
    find_worst(measure, vertices, torch.Generator(), seconds=0.05)
    assert sum(asked) < 60


def test_the_attack_finds_what_random_points_do_not(generator):
    """The smallest value lies at one place of a face."""
    vertices = torch.eye(6).double().reshape(6, 1, 2, 3)
    place = torch.tensor([0.7, 0.3, 0, 0, 0, 0]).double()

    def measure(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = (images.flatten(1) - place).square().sum(dim=1)
        return found

    found = find_worst(measure, vertices, generator)
    random = measure(uniform_weights(2000, 6, generator).reshape(-1, 1, 2, 3)).min()
    assert found.value < 1e-3 < float(random)
    torch.testing.assert_close(found.weights, place, atol=0.03, rtol=0)


def test_the_attack_of_one_vertex_is_that_vertex(generator):
    found = find_worst(lambda images: images.sum(dim=(1, 2, 3)), torch.ones(1, 1, 2, 2), generator)
    assert (found.value, found.weights.tolist()) == (4, [1])


def test_the_worst_of_rounded_images_is_looked_for_among_these(generator):
    """A measure that only some roundings make small: gradients see nothing of it."""

    def measure(images: torch.Tensor) -> torch.Tensor:
        levels = 255 * images.double().flatten(1)
        return 1 - ((levels - levels.round()).abs() < 1e-3).all(dim=1) * (levels[:, 0].round() % 2)

    vertices = (torch.tensor([10.0, 60.0]) / 255).reshape(2, 1, 1, 1)
    middle = torch.tensor([[0.505, 0.495]], dtype=torch.float64)
    assert float(measure(combined(middle.float(), vertices))) == 1
    found = find_worst_rounded(measure, vertices, middle, generator)
    assert found.value == 0
    level = 255 * float(combined(found.weights.float(), vertices))
    assert round(level) % 2 == 1
    assert (
        find_worst_rounded(measure, vertices[:1], torch.ones(1, 1).double(), generator).value == 1
    )
