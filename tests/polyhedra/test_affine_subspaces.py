import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.inner_hulls import leave_hull, mean_distance, spread
from patchcollide.polyhedra.matrices import selection

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 3), variables=st.integers(1, 5))
def test_nearest_points_are_those_of_least_squares(seed, rows, variables):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, variables))
    matrix = np.vstack([matrix, 2 * matrix[:1]])  # a row twice changes nothing
    origin, points = rng.normal(size=variables), rng.normal(size=(3, variables))
    subspace = Subspace.of(matrix, origin)
    assert subspace.dimension == max(variables - rows, 0)
    for point, nearest, distance in zip(
        points, subspace.nearest(points), subspace.distances(points), strict=True
    ):
        step = np.linalg.lstsq(matrix, matrix @ (origin - point), rcond=None)[0]
        np.testing.assert_allclose(nearest, point + step, atol=1e-9)
        assert distance == pytest.approx(np.linalg.norm(step), abs=1e-9)
    drawn = subspace.draw(4, rng)
    np.testing.assert_allclose(drawn @ matrix.T, 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), float(subspace.dimension > 0))
    # What a variable reaches is what the row that picks it does.
    picked = subspace.reach_of_rows(selection(np.arange(variables), variables))
    np.testing.assert_allclose(subspace.reach_of_variables, picked, atol=1e-7)


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
    more = np.vstack([SQUARE, [[0.5, 0.5]], SQUARE[:1], SQUARE[3:]])
    for vertices in (SQUARE, more):
        assert leave_hull(vertices, np.array([1.0, 0.0])) == pytest.approx(0.5)
        assert leave_hull(vertices, np.array([0.0, -2.0])) == pytest.approx(0.25)
        assert leave_hull(vertices, np.array([1.0, 1.0])) == pytest.approx(0.5)
        assert leave_hull(vertices * 1e-4, np.array([1.0, 0.0])) == pytest.approx(5e-5)


def test_a_flat_hull_ends_at_once_off_what_it_spans():
    edge = SQUARE[:2]
    assert leave_hull(edge, np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert leave_hull(edge, np.array([1e-3, 1.0])) == 0
    assert leave_hull(SQUARE[:1], np.array([0.0, 1.0])) == 0
    assert leave_hull(SQUARE[[1, 1, 1]], np.array([0.0, 1.0])) == 0
    assert len(spread(SQUARE[[1, 1, 1]])) == 0


def test_distances_are_means_over_pairs():
    assert mean_distance(SQUARE) == pytest.approx((4 + 2 * np.sqrt(2)) / 6)
    assert mean_distance(SQUARE[1:3]) == pytest.approx(np.sqrt(2))
    assert mean_distance(SQUARE[:1]) == mean_distance(SQUARE[:0]) == 0
