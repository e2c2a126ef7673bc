"""Constraints and the polishing of points that a solver left near them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from patchcollide.polyhedra.matrices import rank
from tests.helpers.polyhedra import all_vertices, half_spaces, polyhedron


def some(rng, size, num_rows, is_sparse=False):
    matrix = rng.normal(size=(num_rows, size))
    values = matrix @ rng.random(size)
    lower = np.where(np.arange(num_rows) % 3 == 0, values, -np.inf)
    return polyhedron(sparse.csr_array(matrix) if is_sparse else matrix, lower, values, 0, 1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 3), num_rows=st.integers(0, 4))
def test_points_near_a_vertex_are_polished_to_it(seed, size, num_rows):
    rng = np.random.default_rng(seed)
    constraints = some(rng, size, num_rows, is_sparse=bool(seed % 2))
    for vertex in all_vertices(constraints)[:3]:
        near = constraints.polished(vertex + 1e-10 * rng.normal(size=size))
        assert near == pytest.approx(vertex, abs=1e-7)
        assert constraints.worst(near)[0] <= 1e-13


def test_polishing_survives_more_tight_constraints_than_dimensions(rng):
    matrix = np.vstack([np.eye(3), [[1, 1, 1], [1, 2, 3], [0, 0, 0]]])
    corner = np.array([0.3, 0.4, 0.5])
    constraints = polyhedron(matrix, -np.inf, matrix @ corner)
    found = constraints.polished(corner + 1e-9 * rng.normal(size=3))
    assert found == pytest.approx(corner, abs=1e-14)
    assert constraints.tight_rank(found) == 3


def test_polishing_keeps_a_point_off_a_constraint_that_is_only_near():
    # Both are within the widest tolerance, but no point is on both.
    constraints = polyhedron(np.array([[1.0], [1.0]]), [0.5, -np.inf], [0.5, 0.5 + 5e-8], 0, 1)
    found = constraints.polished(np.array([0.5 + 1e-10]))
    assert constraints.worst(found)[0] <= 1e-15


def test_the_largest_violation_is_that_of_all_half_spaces(rng):
    constraints = some(rng, 5, 6)
    normals, ends = half_spaces(constraints)
    for point in rng.normal(size=(20, 5)):
        violation, name = constraints.worst(point)
        assert violation == pytest.approx((normals @ point - ends).max())
        assert name is not None


@pytest.mark.parametrize(
    ("point", "name"),
    [
        ([0.5, 0.5], "row 0 = 1.5"),
        ([-1.2, 2.0], "variable 0 >= 0"),
        ([1.0, 0.7], "row 1 >= 0.9"),
        ([-3.0, 4.5], "variable 1 <= 1"),
        ([1.0, 0.5], "row 1 >= 0.9"),
        ([0.5, 1.0], None),
    ],
)
def test_what_is_violated_is_named(point, name):
    matrix = np.array([[1.0, 1.0], [0.0, 1.0]])
    constraints = polyhedron(matrix, [1.5, 0.9], [1.5, 2.0], 0, 1)
    assert constraints.worst(np.array(point))[1] == name


@pytest.mark.parametrize(("size", "num_rows"), [(1, 1), (4, 2), (4, 7)])
def test_rank_counts_independent_rows_of_any_length(size, num_rows, rng):
    full = rng.normal(size=(num_rows, size)) * 10.0 ** rng.integers(-6, 6, (num_rows, 1))
    assert rank(full) == min(size, num_rows)
    assert rank(np.vstack([full, 3 * full, 0 * full])) == min(size, num_rows)
    assert rank(full[:0]) == 0
    assert rank(sparse.csr_array(full)) == min(size, num_rows)
