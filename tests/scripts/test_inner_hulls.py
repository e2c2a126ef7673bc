"""Hulls of a few points, and how much of an exact polytope they fill."""

import itertools

import numpy as np
import pytest
from against_exact import measure_against_exact
from hypothesis import given, settings
from hypothesis import strategies as st
from inner_hulls import leave_hull, mean_distance, spread
from references import depths, exact_widths, measure_reference

from patchcollide.errors import ProgramError, TargetError, UnboundedError
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.image_spaces import PatchSimplex, PixelBox, WholeSpace
from patchcollide.polyhedra.matrices import selection
from tests.helpers.polyhedra import all_vertices, half_spaces
from tests.polyhedra.test_exact_polytope import random_polytope

CORNERS = np.array(list(itertools.product([0.0, 1.0], repeat=2)))
NOTHING = np.empty(0, dtype=np.int64)


def box(pixels, row=None, lower=-np.inf, upper=np.inf, space=None):
    """All images of the box in which one unit, a sum by default, is within bounds."""
    matrix = np.ones((1, pixels)) if row is None else np.array([row], dtype=float)
    ends = np.array([float(lower)]), np.array([float(upper)])
    return ExactPolytope(matrix, np.zeros(1), *ends, space or PixelBox(pixels))


def compare(polytope, target, vertices, seed=0, units=NOTHING, **others):
    rng = np.random.default_rng([seed, 1])
    reference = measure_reference(
        polytope, np.asarray(target), units, rng, num_directions=6, num_starts=2
    )
    return measure_against_exact(reference, np.asarray(vertices), rng, num_samples=50, **others)


def test_the_corners_of_a_square_fill_it():
    found = compare(box(2), [0.5, 0.5], CORNERS)
    for reach in (found.subspace, found.span):
        assert reach.dimension == 2
        assert reach.width_ratio == pytest.approx(1)
        assert reach.boundary_ratio == pytest.approx(1, abs=1e-5)
        assert 1 <= reach.hull_width <= np.sqrt(2)
        assert 0.5 <= reach.hull_boundary <= np.sqrt(0.5)
    assert found.far_distance == pytest.approx(np.sqrt(2))
    assert found.vertex_distance == pytest.approx((4 + 2 * np.sqrt(2)) / 6)
    assert found.depths == (0, 0, 0, 0)
    assert found.centre_depth == pytest.approx(0.5)
    assert found.vertices_inside == found.samples_inside == (1, 1, 1, 1)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_smaller_square_fills_its_share(share):
    found = compare(box(2), [0.5, 0.5], 0.5 + share * (CORNERS - 0.5))
    for reach in (found.subspace, found.span):
        assert reach.width_ratio == pytest.approx(share)
        assert reach.boundary_ratio == pytest.approx(share, abs=1e-5)
    assert found.depths == pytest.approx([(1 - share) / 2] * 4)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_point_has_no_width(copies):
    found = compare(box(3), [0.5] * 3, [[0.2, 0.5, 0.5]] * copies)
    assert found.span is None
    assert found.subspace.hull_width == found.subspace.width_ratio == 0
    assert found.subspace.hull_boundary == found.subspace.boundary_ratio == 0
    assert found.vertex_distance == 0
    assert found.centre_depth == pytest.approx(0.2)


def test_two_vertices_have_the_width_of_their_line():
    found = compare(box(2), [0.5, 0.5], [[0.25, 0.5], [0.5, 0.5]])
    assert found.span.dimension == 1
    assert found.span.hull_width == pytest.approx(0.25)
    assert found.span.width_ratio == pytest.approx(0.25)
    # Half the line, beside what is left from its middle to the side that is drawn.
    assert found.span.hull_boundary == pytest.approx(0.125)
    assert 0.375 - 1e-5 <= found.span.exact_boundary <= 0.625 + 1e-5
    assert found.subspace.hull_boundary == 0


def test_the_hexagon_across_a_cube_is_measured_in_its_plane():
    polytope = box(3, lower=1.5, upper=1.5)
    hexagon = np.array(list(itertools.permutations([0.0, 0.5, 1.0])))
    found = compare(polytope, [0.5] * 3, hexagon)
    assert found.subspace.dimension == found.span.dimension == 2
    assert found.span.width_ratio == pytest.approx(1)
    assert found.subspace.boundary_ratio == pytest.approx(1, abs=1e-5)
    # From the centre to a side: half of it one way, and along the plane only.
    assert found.centre_depth == pytest.approx(0.5 / np.sqrt(2 / 3))
    assert max(found.off_subspace) < 1e-12
    moved = compare(polytope, [0.5] * 3, hexagon + 0.2 / np.sqrt(3))
    assert moved.off_subspace == pytest.approx([0.2] * 6)
    assert moved.depths == pytest.approx(found.depths, abs=1e-12)
    assert moved.span.width_ratio == pytest.approx(1)
    assert moved.vertices_inside == (0, 0, 1, 1)


def test_what_is_outside_counts_within_the_tolerance_and_has_a_boundary():
    found = compare(
        box(2), [0.5, 0.5], [[-0.05, 0.5], [0.5, 0.5], [2.0, 0.5]], tolerances=(0.1, 1.1)
    )
    assert found.depths == pytest.approx([-0.05, 0.5, -1])
    assert found.vertices_inside == pytest.approx((2 / 3, 1))
    assert 0.3 < found.samples_inside[0] < 1
    assert found.samples_inside[1] == 1
    assert found.eased_by == pytest.approx(1)
    assert found.span.width_ratio == pytest.approx(2.05)
    assert found.span.boundary_ratio <= 1


def test_a_polytope_of_one_image_has_no_directions():
    found = compare(box(1, lower=0.25, upper=0.25), [0.25], [[0.25], [0.75]])
    assert found.subspace is None
    assert found.far_distance == 0
    assert found.off_subspace == pytest.approx([0, 0.5])
    assert found.span is None  # both are nearest to the one image


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pixels=st.integers(1, 4),
    units=st.integers(1, 3),
    tolerance=st.sampled_from([0.0, 0.1]),
)
def test_all_vertices_together_are_the_polytope(seed, pixels, units, tolerance):
    rng = np.random.default_rng(seed)
    polytope, target = random_polytope(rng, units, pixels, tolerance)
    vertices = all_vertices(polytope.constraints)
    directions = rng.normal(size=(3, pixels))
    np.testing.assert_allclose(
        exact_widths(polytope, directions), np.ptp(vertices @ directions.T, axis=0), atol=1e-8
    )
    found = compare(polytope, target, vertices, seed, np.arange(units))
    for reach in (found.subspace, found.span):
        if reach is not None and reach.exact_width > 1e-3:
            assert reach.width_ratio == pytest.approx(1, abs=1e-6)
    assert found.samples_inside == (1, 1, 1, 1)
    assert found.far_distance >= found.vertex_distance - 1e-9
    if found.subspace is not None:  # Of one image there is no boundary to be on.
        assert max(map(abs, found.depths)) < 1e-7


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixels=st.integers(2, 5))
def test_depths_are_distances_to_the_nearest_boundary_by_least_squares(seed, pixels):
    rng = np.random.default_rng(seed)
    polytope, target = random_polytope(rng, 3, pixels)
    reference = measure_reference(polytope, target, NOTHING, rng, num_directions=1, num_starts=1)
    equal = polytope.constraints.equations
    if equal.sum() >= pixels:
        return
    equations = polytope.matrix[equal]
    normals, ends = half_spaces(polytope.constraints)
    is_equation = [
        any(abs(abs(row) - abs(own)).max() < 1e-12 for own in equations) for row in normals
    ]
    points = reference.subspace.nearest(rng.random((4, pixels)))
    for point, depth in zip(points, depths(reference, points), strict=True):
        slacks = []
        for row, end in zip(
            normals[~np.array(is_equation)], ends[~np.array(is_equation)], strict=True
        ):
            slack = end - row @ point
            rows = np.vstack([equations, row])
            step = np.linalg.lstsq(rows, np.append(np.zeros(len(equations)), slack), rcond=None)[0]
            slacks.append(np.sign(slack) * np.linalg.norm(step))
        assert depth == pytest.approx(min(slacks), rel=1e-6, abs=1e-9)


def test_polytopes_that_cannot_be_measured_are_refused():
    with pytest.raises(TargetError, match="misses unit 0 <= 1 by 1"):
        compare(box(2, upper=1.0), [1.0, 1.0], CORNERS)
    with pytest.raises(UnboundedError, match="no smallest value"):
        compare(box(2, space=WholeSpace(2)), [0.5, 0.5], CORNERS)
    ones = selection(np.arange(2), 2)
    mixtures = box(2, space=PatchSimplex(ones, np.zeros(2, dtype=np.int64), (2,)))
    with pytest.raises(ProgramError, match=r"of 2 coefficients\. Leave the neighbours out"):
        compare(mixtures, [0.5, 0.5], CORNERS)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 5))
def test_a_simplex_ends_where_a_weight_becomes_zero(seed, count):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(count, 7))
    weights = rng.normal(size=count)
    weights -= weights.mean()
    expected = (1 / count / -weights[weights < 0]).min()
    assert leave_hull(vertices, weights @ vertices) == pytest.approx(expected, rel=1e-6)


def test_the_end_of_a_square_is_known():
    more = np.vstack([CORNERS, [[0.5, 0.5]], CORNERS[:1], CORNERS[3:]])
    for vertices in (CORNERS, more):
        assert leave_hull(vertices, np.array([1.0, 0.0])) == pytest.approx(0.5)
        assert leave_hull(vertices, np.array([0.0, -2.0])) == pytest.approx(0.25)
        assert leave_hull(vertices, np.array([1.0, 1.0])) == pytest.approx(0.5)
        assert leave_hull(vertices * 1e-4, np.array([1.0, 0.0])) == pytest.approx(5e-5)


def test_a_flat_hull_ends_at_once_off_what_it_spans():
    edge = CORNERS[:2]
    assert leave_hull(edge, np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert leave_hull(edge, np.array([1e-3, 1.0])) == 0
    assert leave_hull(CORNERS[:1], np.array([0.0, 1.0])) == 0
    assert leave_hull(CORNERS[[1, 1, 1]], np.array([0.0, 1.0])) == 0
    assert len(spread(CORNERS[[1, 1, 1]])) == 0


def test_distances_are_means_over_pairs():
    assert mean_distance(CORNERS) == pytest.approx((4 + 2 * np.sqrt(2)) / 6)
    assert mean_distance(CORNERS[1:3]) == pytest.approx(np.sqrt(2))
    assert mean_distance(CORNERS[:1]) == mean_distance(CORNERS[:0]) == 0
