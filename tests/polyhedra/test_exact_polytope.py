"""Exact polytopes against all their vertices, another solver and plain evaluation."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from patchcollide.errors import InfeasibleError, UnboundedError
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.extents import find_chebyshev_centre, find_far_pair, find_most_changed
from patchcollide.polyhedra.image_spaces import PatchSimplex, PixelBox, WholeSpace
from patchcollide.polyhedra.linear_programs import minimise
from tests.helpers.polyhedra import all_vertices, clarabel_minimum, half_spaces, polyhedron


def colliding(matrix, offset, target, space=None, tolerance=0.0):
    """The polytope of all images that a ReLU layer cannot tell from the target."""
    z = matrix @ target + offset
    lower = np.where(z > 0, z - tolerance, -np.inf)
    upper = np.where(z > 0, z + tolerance, 0.0)
    return ExactPolytope(matrix, offset, lower, upper, space or PixelBox(matrix.shape[1]))


def random_polytope(rng, units, pixels, tolerance=0.0):
    matrix = rng.normal(size=(units, pixels)) / np.sqrt(pixels)
    target = np.where(rng.random(pixels) < 0.5, 0.0, rng.random(pixels))
    return colliding(matrix, 0.1 * rng.normal(size=units), target, tolerance=tolerance), target


def is_blind(polytope):
    return polytope.lower < polytope.upper


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pixels=st.integers(1, 4),
    units=st.integers(1, 4),
    tolerance=st.sampled_from([0.0, 0.1]),
)
def test_small_polytopes_are_those_of_all_vertices(seed, pixels, units, tolerance):
    rng = np.random.default_rng(seed)
    polytope, target = random_polytope(rng, units, pixels, tolerance)
    vertices = all_vertices(polytope.constraints)
    for unit, vertex in enumerate(polytope.unit_vertices(np.arange(units))):
        values = vertices @ polytope.matrix[unit]
        assert vertex.value == pytest.approx(values.min(), abs=1e-9)
        assert vertex.pre_activation[unit] == pytest.approx(vertex.value + polytope.offset[unit])
        assert vertex.is_vertex
        assert polytope.contains(vertex.image, 1e-12).inside
    ranges = polytope.pixel_ranges(np.arange(pixels))
    assert ranges[:, 0] == pytest.approx(vertices.min(axis=0), abs=1e-9)
    assert ranges[:, 1] == pytest.approx(vertices.max(axis=0), abs=1e-9)
    assert polytope.pixel_widths(np.arange(pixels)) == pytest.approx(
        np.ptp(vertices, axis=0), abs=1e-9
    )
    pairs = itertools.product(vertices, repeat=2)
    farthest = max(np.linalg.norm(first - second) for first, second in pairs)
    far = find_far_pair(polytope, rng, num_starts=6)
    assert far.distance <= farthest + 1e-9
    assert far.distance >= 0.7 * farthest - 1e-9
    assert far.distance == np.linalg.norm(far.first.image - far.second.image)
    most = find_most_changed(polytope, target, rng)
    largest = np.linalg.norm(vertices - target, axis=1).max()
    assert 0.7 * largest <= most.distance + 1e-9 <= largest + 2e-9


def test_another_solver_finds_the_same_minima(rng):
    polytope, _ = random_polytope(rng, 30, 80)
    for vertex, direction in zip(
        polytope.random_vertices(3, np.random.default_rng(5)),
        np.random.default_rng(5).standard_normal((3, 80)),
        strict=True,
    ):
        other = clarabel_minimum(direction, polytope.constraints)
        assert vertex.value == pytest.approx(other, abs=1e-6)
        assert vertex.violation <= 1e-13


def test_five_vertices_of_a_layer_are_exact_corners(rng):
    polytope, target = random_polytope(rng, 40, 120)
    blind = np.flatnonzero(is_blind(polytope))[:5]
    vertices = polytope.unit_vertices(blind)
    assert len({vertex.image.tobytes() for vertex in vertices}) == 5
    for unit, vertex in zip(blind, vertices, strict=True):
        assert vertex.violation <= 1e-14
        assert vertex.tight_rank == 120
        assert vertex.is_vertex
        assert vertex.value < polytope.matrix[unit] @ target
    inner = np.mean([vertex.image for vertex in vertices], axis=0)
    assert polytope.contains(inner).inside
    assert polytope.constraints.tight_rank(inner) < 120


def test_a_unit_is_driven_into_its_own_blind_region():
    # ReLU6 of 8 x: at 6.8 it is blind from above, at -1.2 from below, at 3 active.
    matrix, offset = np.full((3, 1), 8.0), np.array([0.0, -8.0, -3.8])
    z = matrix[:, 0] * 0.85 + offset
    lower = np.where(z <= 0, -np.inf, np.minimum(z, 6.0))
    upper = np.where(z >= 6, np.inf, np.maximum(z, 0.0))
    polytope = ExactPolytope(matrix[:2], offset[:2], lower[:2], upper[:2], PixelBox(1))
    deepest = polytope.unit_vertices(np.arange(2))
    assert [vertex.pre_activation[unit] for unit, vertex in enumerate(deepest)] == [8, -2]
    assert polytope.inwards(np.arange(2)).tolist() == [[-8], [8]]
    wider = np.array([0.0, 0.0, 1.0])
    wide = ExactPolytope(matrix, offset, lower - wider, upper + wider, PixelBox(1))
    assert wide.inwards(np.array([2])).tolist() == [[8]]


def test_weights_of_units_are_directions(rng):
    polytope, _ = random_polytope(rng, 5, 9)
    weights = rng.normal(size=5)
    found = polytope.minimise(weights @ polytope.matrix)
    assert found.value == pytest.approx(weights @ (found.pre_activation - polytope.offset))


def test_membership_is_plain_evaluation(rng):
    polytope, target = random_polytope(rng, 12, 20)
    assert polytope.contains(target).inside
    for image in target + 0.3 * rng.normal(size=(20, 20)):
        z = polytope.matrix @ image + polytope.offset
        missed = np.where(is_blind(polytope), z, abs(z - polytope.lower))
        worst = max(missed.max(), (-image).max(), (image - 1).max())
        found = polytope.contains(image)
        assert not found.inside
        assert found.violation == pytest.approx(worst)
        assert polytope.contains(image, worst + 1e-9).inside


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tolerance=st.sampled_from([0.0, 0.2]))
def test_a_ray_leaves_where_a_linear_program_says(seed, tolerance):
    rng = np.random.default_rng(seed)
    polytope, target = random_polytope(rng, 6, 9, tolerance)
    direction = polytope.minimise(rng.normal(size=9)).image - target
    assume(np.linalg.norm(direction) > 1e-6)
    normals, ends = half_spaces(polytope.constraints)
    # Equations, which rounding would make a matter of luck, hold all along.
    across = abs(normals @ direction) > 1e-12
    line = polyhedron(
        normals[across] @ direction[:, None], -np.inf, (ends - normals @ target)[across], 0
    )
    found = polytope.leaving(target, direction)
    assert found.distance == pytest.approx(-minimise(-np.ones(1), line).value, abs=1e-9)
    assert polytope.contains(target + found.distance * direction).inside
    beyond = polytope.contains(target + (found.distance + 0.01) * direction, 1e-12)
    assert not beyond.inside


def test_a_ray_that_changes_a_matched_unit_leaves_at_once(rng):
    polytope = colliding(np.array([[1.0, 0.0, 0.0]]), np.zeros(1), np.array([0.5, 0.5, 0.25]))
    at_once = polytope.leaving(np.array([0.5, 0.5, 0.25]), np.array([1.0, 0.0, 0.0]))
    assert (at_once.distance, at_once.constraint) == (0, "unit 0 = 0.5")
    later = polytope.leaving(np.array([0.5, 0.5, 0.25]), np.array([0.0, 0.0, -1.0]))
    assert (later.distance, later.constraint) == (0.25, "pixel 2 >= 0")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_ray_may_never_leave(sign):
    polytope = colliding(np.array([[1.0, 1.0]]), np.zeros(1), np.array([-1.0, 0.0]), WholeSpace(2))
    found = polytope.leaving(np.array([-1.0, 0.0]), sign * np.array([1.0, 0.0]))
    assert found.distance == (1.0 if sign > 0 else np.inf)
    assert found.constraint == ("unit 0 <= 0" if sign > 0 else None)


def test_the_largest_ball_of_a_cube_and_of_a_simplex():
    nothing, none = np.zeros((0, 3)), np.zeros(0)
    cube = ExactPolytope(nothing, none, none, none, PixelBox(3))
    ball = find_chebyshev_centre(cube)
    assert ball.radius == pytest.approx(0.5)
    assert ball.centre == pytest.approx([0.5] * 3)
    # The inscribed circle of the triangle x + y + z = 1, x >= 0, within its plane.
    plane = ExactPolytope(np.ones((1, 3)), np.zeros(1), np.ones(1), np.ones(1), PixelBox(3))
    ball = find_chebyshev_centre(plane)
    assert ball.radius == pytest.approx(1 / np.sqrt(6))
    assert ball.centre == pytest.approx([1 / 3] * 3)


def test_the_largest_ball_touches_and_does_not_cross(rng):
    polytope, _ = random_polytope(rng, 10, 16)
    ball = find_chebyshev_centre(polytope)
    assert ball.radius > 0.01
    equal = ~is_blind(polytope)
    _, _, basis = np.linalg.svd(polytope.matrix[equal])
    steps = rng.normal(size=(500, 16 - equal.sum())) @ basis[equal.sum() :]
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    exits = [polytope.leaving(ball.centre, step).distance for step in steps]
    assert min(exits) >= ball.radius - 1e-9
    # It touches at least as many sides as there are dimensions, straight across each.
    normals, ends = half_spaces(polytope.constraints)
    kernel = basis[equal.sum() :]
    lengths = np.linalg.norm(normals @ kernel.T, axis=1)
    across = lengths > 1e-9
    slack = (ends - normals @ ball.centre)[across] / lengths[across]
    assert slack.min() == pytest.approx(ball.radius)
    assert (slack < ball.radius + 1e-9).sum() > len(kernel)


def test_a_flat_polytope_holds_a_ball_of_radius_zero():
    matrix = np.array([[1.0, 1.0], [-1.0, -1.0]])
    polytope = ExactPolytope(
        matrix, np.zeros(2), np.full(2, -np.inf), np.array([1.0, -1.0]), PixelBox(2)
    )
    assert find_chebyshev_centre(polytope).radius == pytest.approx(0, abs=1e-12)


HALF = np.full(2, 0.5)
FREE = np.full(2, -np.inf)


@pytest.mark.parametrize("space", [PixelBox(2), WholeSpace(2)])
def test_a_polytope_that_is_one_point_has_no_size(space, rng):
    for matrix, ends in ((np.eye(2), HALF), (np.array([[1, 1], [1, -1], [2, 1]]), [1, 0, 1.5])):
        ends = np.array(ends)
        polytope = ExactPolytope(matrix * 1.0, 0 * ends, ends, ends, space)
        ball = find_chebyshev_centre(polytope)
        assert ball.radius == 0
        assert ball.centre == pytest.approx(HALF)
        assert find_far_pair(polytope, rng).distance == pytest.approx(0, abs=1e-12)
        assert polytope.pixel_widths(np.arange(2)) == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("matrix", "lower", "upper", "space", "radius", "widths"),
    [
        # A segment, by an equation, and by a fixed pixel.
        (np.eye(2)[:1], HALF[:1], HALF[:1], PixelBox(2), 0.5, [0, 1]),
        (np.zeros((0, 2)), HALF[:0], HALF[:0], PixelBox(2, 0.5, 0.5), 0.0, [0, 0]),
        # A segment and a point by inequalities, which are flatter than their equations say.
        (np.eye(2)[:1], FREE[:1], 0 * HALF[:1], PixelBox(2), 0.0, [0, 1]),
        (np.eye(2), FREE, 0 * HALF, PixelBox(2), 0.0, [0, 0]),
        # A plane in a box, cut by a side.
        (np.array([[0, 1.0]]), FREE[:1], HALF[:1], PixelBox(2), 0.25, [1, 0.5]),
    ],
)
def test_flat_polytopes_are_measured(matrix, lower, upper, space, radius, widths, rng):
    polytope = ExactPolytope(matrix, np.zeros(len(lower)), lower, upper, space)
    assert find_chebyshev_centre(polytope).radius == pytest.approx(radius, abs=1e-12)
    assert polytope.pixel_widths(np.arange(2)) == pytest.approx(widths, abs=1e-12)
    far = find_far_pair(polytope, rng).distance
    assert far == pytest.approx(np.linalg.norm(widths), abs=1e-12)


def test_a_line_holds_balls_of_any_size_and_a_strip_does_not():
    line = ExactPolytope(np.eye(2)[:1], np.zeros(1), HALF[:1], HALF[:1], WholeSpace(2))
    with pytest.raises(UnboundedError, match="balls of any size"):
        find_chebyshev_centre(line)
    strip = ExactPolytope(np.eye(2)[:1], np.zeros(1), -HALF[:1], HALF[:1], WholeSpace(2))
    assert find_chebyshev_centre(strip).radius == pytest.approx(0.5)


def test_an_empty_polytope_says_which_units_and_pixels_clash():
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    ends = np.array([0.5, 0.25, 2.0])
    polytope = ExactPolytope(matrix, np.zeros(3), ends, ends, PixelBox(3))
    with pytest.raises(InfeasibleError, match=r"unit 1 = 0\.25") as caught:
        polytope.minimise(np.ones(3))
    assert set(caught.value.clash) == {"unit 1 = 0.25", "unit 2 = 2", "pixel 2 <= 1"}
    assert caught.value.violation == pytest.approx(0.375)
    with pytest.raises(InfeasibleError):
        find_chebyshev_centre(polytope)


def test_without_bounds_a_polytope_may_have_no_end(rng):
    polytope = colliding(rng.normal(size=(3, 8)), np.zeros(3), rng.random(8), WholeSpace(8))
    with pytest.raises(UnboundedError, match=r"ray that moves pixel \d by") as caught:
        polytope.minimise(rng.normal(size=8))
    ray = caught.value.ray
    slopes = polytope.matrix @ ray
    assert abs(slopes[~is_blind(polytope)]).max(initial=0) < 1e-12
    assert slopes[is_blind(polytope)].max(initial=0) < 1e-12
    none = np.zeros(0)
    flat = ExactPolytope(polytope.matrix[:0], none, none, none, WholeSpace(8))
    with pytest.raises(UnboundedError, match="balls of any size"):
        find_chebyshev_centre(flat)


def test_an_end_of_a_polytope_without_corners_is_no_vertex(rng):
    polytope = colliding(-np.ones((1, 4)), np.zeros(1), np.ones(4), WholeSpace(4))
    found = polytope.minimise(np.ones(4))
    assert found.value == pytest.approx(0)
    assert (found.tight_rank, found.is_vertex) == (1, False)


@pytest.mark.parametrize(("stride", "size"), [(4, 1), (4, 4), (2, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_polytopes_of_compositions_are_those_of_another_solver(stride, size, channels, rng):
    space = PatchSimplex.of(rng.random((3, channels, 2, 2, 4, 4)), stride, size)
    draws = rng.random(space.num_variables)
    target = space.image(draws / np.bincount(space.groups, draws)[space.groups])
    matrix = rng.normal(size=(4, space.num_pixels))
    polytope = colliding(matrix, 0.1 - matrix @ target * (np.arange(4) < 2), target, space)
    direction = rng.normal(size=space.num_pixels)
    vertex = polytope.minimise(direction)
    goal = space.pulled_back(direction[None])[0]
    other = clarabel_minimum(goal, polytope.constraints, 1e-10)
    assert vertex.value == pytest.approx(other, abs=1e-6)
    assert vertex.is_vertex
    assert vertex.violation <= 1e-12
    assert (vertex.image >= 0).all()
    assert (vertex.image <= 1).all()
    small = ExactPolytope(matrix, polytope.offset, polytope.lower, polytope.upper, space.reduced())
    assert small.minimise(direction).value == pytest.approx(vertex.value, abs=1e-9)


def test_a_composition_that_cannot_collide_names_what_it_mixes(rng):
    space = PatchSimplex.of(rng.random((2, 1, 1, 1, 2, 2)), 2, 1)
    nine = np.full(1, 9.0)
    polytope = ExactPolytope(np.ones((1, 4)), nine, nine, nine, space)
    with pytest.raises(InfeasibleError, match="sum of coefficients 0 = 1") as caught:
        polytope.minimise(np.zeros(4))
    assert "unit 0 = 9" in caught.value.clash


@pytest.mark.slow
def test_five_vertices_of_the_first_layer_of_an_mnist_network_take_seconds(rng):
    polytope, _ = random_polytope(rng, 256, 784)
    started = time.process_time()
    vertices = polytope.unit_vertices(np.flatnonzero(is_blind(polytope))[:5])
    assert time.process_time() - started < 10
    assert all(vertex.is_vertex and vertex.violation < 1e-13 for vertex in vertices)
