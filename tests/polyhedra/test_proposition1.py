"""Proposition 1 against all vertices of small polyhedra, degenerate ones among them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.errors import TargetError
from patchcollide.polyhedra.proposition1 import examine
from tests.helpers.polyhedra import all_vertices, polyhedron
from tests.helpers.presence import present

RANGES = {"pixels": (0.0, 1.0), "after a ReLU": (0.0, np.inf), "the paper": (-np.inf, np.inf)}


def relu_bounds(z):
    """What a target's pre-activations ask of an image."""
    return np.where(z > 0, z, -np.inf), np.where(z > 0, z, 0.0)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 3),
    num_units=st.integers(0, 5),
    where=st.sampled_from(sorted(RANGES)),
    kind=st.sampled_from(["integers", "floats", "repeated", "zero rows", "two-sided"]),
)
def test_dimension_and_boundedness_are_those_of_all_vertices(seed, size, num_units, where, kind):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (num_units, size)).astype(float)
    if kind == "floats":
        matrix = rng.normal(size=(num_units, size))
    if kind == "repeated" and num_units:
        matrix[rng.integers(0, num_units, num_units)] = -2 * matrix[0]
    if kind == "zero rows":
        matrix[rng.random(num_units) < 0.5] = 0
    low, high = RANGES[where]
    target = rng.integers(0, 3, size) / 2
    # Targets on the boundary of many units: z is 0 there.
    offset = rng.choice([-1.0, 0.0, 1.0], num_units) * (rng.random(num_units) < 0.6)
    offset -= matrix @ target
    lower, upper = relu_bounds((matrix @ target + offset).round(12))
    if kind == "two-sided":
        lower = np.where(np.isinf(lower), -1.0 * rng.integers(1, 3, num_units), lower)
    found = examine(matrix, offset, lower, upper, target, input_range=(low, high))

    # The target is inside, so the polyhedron has the dimension of what is near the target.
    near = polyhedron(
        matrix, lower, upper, np.maximum(low, target - 1), np.minimum(high, target + 1), offset
    )
    vertices = all_vertices(near)
    assert found.dimension == np.linalg.matrix_rank(vertices - target, tol=1e-7)
    cone = polyhedron(
        matrix,
        np.where(np.isfinite(lower), 0.0, -np.inf),
        np.where(np.isfinite(upper), 0.0, np.inf),
        0.0 if np.isfinite(low) else -1.0,
        0.0 if np.isfinite(high) else 1.0,
    )
    assert found.bounded == (abs(all_vertices(cone)).max() < 1e-7)
    equal = lower == upper
    assert (found.num_matched, found.bound) == (equal.sum(), size - equal.sum())
    assert found.rank_matched == np.linalg.matrix_rank(matrix[equal]) if equal.any() else True
    if found.target_is_strict:
        assert found.dimension == size - found.rank_matched
        assert present(found.dimension) >= found.bound
        assert found.num_implicit == 0
    kernel = polyhedron(matrix[equal], 0, 0, -1, 1)
    values = all_vertices(kernel) @ matrix[~equal].T
    assert found.kernel_within == (abs(values).max(initial=0.0) < 1e-7)


def test_a_general_layer_meets_the_bound_of_the_paper(rng):
    matrix, offset, target = rng.normal(size=(12, 30)), rng.normal(size=12), rng.random(30)
    z = matrix @ target + offset
    lower, upper = relu_bounds(z)
    found = examine(matrix, offset, lower, upper, target, input_range=(0.0, 1.0))
    assert found.dimension == found.bound == 30 - (z > 0).sum()
    assert found.target_is_strict
    assert found.bounded
    assert not found.kernel_within
    assert not examine(matrix, offset, lower, upper, target).bounded


def test_inequalities_may_hide_an_equation():
    matrix = np.array([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]])
    lower, upper = relu_bounds(np.zeros(2))
    found = examine(matrix, np.zeros(2), lower, upper, np.zeros(3))
    assert (found.bound, found.num_implicit, found.dimension) == (3, 2, 2)
    assert not found.target_is_strict


def test_more_matched_units_than_inputs_leave_a_point(rng):
    matrix = abs(rng.normal(size=(6, 3)))
    z = matrix @ np.ones(3)
    found = examine(matrix, np.zeros(6), z, z, np.ones(3))
    assert (found.bound, found.rank_matched, found.dimension) == (-3, 3, 0)
    assert found.bounded
    assert found.kernel_within


def test_small_weights_count_like_large_ones(rng):
    matrix = rng.normal(size=(4, 8)) * np.array([[1e-8], [1.0], [1e8], [1.0]])
    matrix[3] = matrix[1]
    z = matrix @ np.ones(8)
    found = examine(matrix, np.zeros(4), z, z, np.ones(8))
    assert (found.num_matched, found.rank_matched, found.dimension) == (4, 3, 5)


def test_what_does_not_fit_is_left_open(rng):
    matrix = rng.normal(size=(3, 50))
    z = matrix @ np.ones(50)
    lower, upper = relu_bounds(z)
    found = examine(matrix, np.zeros(3), lower, upper, np.ones(50), memory_bytes=10_000)
    assert found.bound == 50 - (z > 0).sum()
    assert found.rank_matched is found.dimension is found.bounded is found.kernel_within is None
    assert found.not_computed == "needs about 166kB, may take 10.0kB"


def test_a_target_outside_its_own_bounds_is_refused():
    with pytest.raises(TargetError, match=r"misses unit 0 = 2 by 1\. Compute its features"):
        examine(np.ones((1, 1)), np.zeros(1), np.full(1, 2.0), np.full(1, 2.0), np.ones(1))
