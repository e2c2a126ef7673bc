"""Linear programs against vertices found by brute force and another solver."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from patchcollide.errors import InfeasibleError, ProgramError, UnboundedError
from patchcollide.polyhedra.clashes import least_violation
from patchcollide.polyhedra.linear_programs import find_ray, minimise
from tests.helpers.polyhedra import all_vertices, clarabel_minimum, half_spaces, polyhedron
from tests.helpers.presence import present


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 3),
    num_rows=st.integers(0, 5),
    integers=st.booleans(),
    is_sparse=st.booleans(),
)
def test_the_smallest_value_is_that_of_the_best_vertex(seed, size, num_rows, integers, is_sparse):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(num_rows, size))
    matrix = matrix.round() if integers else matrix
    inside = rng.integers(0, 3, size) / 2
    values = matrix @ inside
    lower = np.where(rng.random(num_rows) < 0.5, -np.inf, values - rng.integers(0, 2, num_rows))
    upper = np.where(rng.random(num_rows) < 0.5, values, values + rng.random(num_rows))
    stored = sparse.csr_array(matrix) if is_sparse else matrix
    constraints = polyhedron(stored, lower, upper, 0, 1)
    direction = rng.normal(size=size)
    found = minimise(direction, constraints)
    vertices = all_vertices(constraints)
    assert found.value == pytest.approx((vertices @ direction).min(), abs=1e-9)
    assert found.value == pytest.approx(direction @ found.point, abs=1e-12)
    polished = constraints.polished(found.point)
    assert constraints.worst(polished)[0] <= 1e-13
    assert abs(vertices - polished).max(axis=1).min() < 1e-9
    assert constraints.tight_rank(polished) == size


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_another_solver_finds_the_same_value(rng, scale):
    matrix = rng.normal(size=(40, 70)) * scale ** rng.choice([0, 1], (40, 1))
    values = matrix @ rng.random(70)
    constraints = polyhedron(
        matrix, np.where(np.arange(40) < 15, values, -np.inf), values, 0, 1, offset=np.zeros(40)
    )
    direction = rng.normal(size=70)
    found = minimise(direction, constraints)
    plain = polyhedron(
        matrix / np.linalg.norm(matrix, axis=1, keepdims=True),
        constraints.lower / np.linalg.norm(matrix, axis=1),
        values / np.linalg.norm(matrix, axis=1),
        0,
        1,
    )
    assert found.value == pytest.approx(clarabel_minimum(direction, plain), abs=1e-6)
    assert constraints.worst(constraints.polished(found.point))[0] <= 1e-13 * max(scale, 1)


def test_duals_are_what_the_value_gains_when_a_bound_moves(rng):
    matrix = rng.normal(size=(4, 6))
    values = matrix @ np.full(6, 0.5)
    lower = np.where(np.arange(4) < 2, values, values - 0.3)
    direction = rng.normal(size=6)
    found = minimise(direction, polyhedron(matrix, lower, values, 0, 1))
    for row in range(4):
        step = 1e-6 * (np.arange(4) == row)
        up = minimise(direction, polyhedron(matrix, lower + step, values + step, 0, 1)).value
        assert (up - found.value) / 1e-6 == pytest.approx(found.row_duals[row], abs=1e-4)


def test_a_clash_is_named_and_measured():
    matrix = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    constraints = polyhedron(
        matrix, [0.2, -np.inf, 0.5], [0.2, 0.1, 0.5], 0, 1, name_row="unit {}".format
    )
    with pytest.raises(InfeasibleError, match=r"2 of them clash: unit 0 = 0.2, unit 1 <= 0.1\. U"):
        minimise(np.ones(2), constraints)
    clash = least_violation(constraints)
    assert clash.violation == pytest.approx(0.05)
    assert set(clash.members) == {"unit 0 = 0.2", "unit 1 <= 0.1"}
    assert constraints.worst(clash.point)[0] == pytest.approx(0.05)


def test_pixels_clash_too_and_do_not_give_way():
    constraints = polyhedron(
        np.array([[1.0, -1.0]]), 2.5, 2.5, 0, 1, name_variable="pixel {}".format
    )
    clash = least_violation(constraints)
    assert set(clash.members) == {"row 0 = 2.5", "pixel 0 <= 1", "pixel 1 >= 0"}
    assert clash.violation == pytest.approx(1.5)
    with pytest.raises(InfeasibleError, match=r"miss their bounds by 1\.5: ") as caught:
        minimise(np.zeros(2), constraints)
    assert caught.value.violation == pytest.approx(1.5)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(again), again.clash) == (str(caught.value), caught.value.clash)


def test_many_members_are_counted():
    constraints = polyhedron(np.ones((1, 30)), 31.0, np.inf, 0, 1)
    with pytest.raises(InfeasibleError, match=r"31 of them clash: row 0 >= 31, .* and 25 more\."):
        minimise(np.zeros(30), constraints)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 3), num_rows=st.integers(2, 7))
def test_no_member_of_a_clash_could_be_left_out(seed, size, num_rows):
    rng = np.random.default_rng(seed)
    matrix, values = rng.normal(size=(num_rows, size)), 2 * rng.normal(size=num_rows)
    lower = np.where(rng.random(num_rows) < 0.4, values, -np.inf)
    constraints = polyhedron(matrix, lower, values, 0, 1)
    clash = least_violation(constraints)
    is_empty = not len(all_vertices(constraints))
    assert is_empty == (clash.violation > 1e-9)
    if not is_empty:
        return
    assert clash.violation == pytest.approx(constraints.worst(clash.point)[0])
    sides = dict(zip(_names(constraints), zip(*half_spaces(constraints), strict=True), strict=True))
    members = [side for side in sides if side[1] in clash.members]
    for left_out in (None, *clash.members):
        kept = [sides[side] for side in members if side[1] != left_out]
        normals, ends = np.array([row for row, _ in kept]), np.array([end for _, end in kept])
        rest = polyhedron(normals.reshape(-1, size), -np.inf, ends, -1e6, 1e6)
        assert bool(len(all_vertices(rest))) == (left_out is not None)


def _names(constraints):
    """Of the half spaces: the place makes those of the two sides of an equation different."""
    rows, columns = constraints.matrix.shape
    upper = [constraints.describe_row(i, True) for i in range(rows)]
    lower = [
        constraints.describe_row(i, False) for i in range(rows) if constraints.lower[i] > -np.inf
    ]
    bounds = [constraints.describe_bound(i, side) for side in (True, False) for i in range(columns)]
    return list(enumerate([*upper, *lower, *bounds]))


def test_equations_that_miss_each_other_by_rounding_are_met():
    matrix = np.array([[0.1, 0.2], [0.3, 0.6], [0.7, 1.4]])
    ends = matrix @ np.array([0.3, 0.1]) + np.array([0, 1e-15, -1e-15])
    found = minimise(np.array([1.0, 0.0]), polyhedron(matrix, ends, ends, 0, 1))
    assert found.point == pytest.approx([0, 0.25])


@pytest.mark.parametrize("has_ray", [True, False])
def test_a_ray_is_given_where_there_is_no_smallest_value(has_ray, rng):
    matrix = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]])
    constraints = polyhedron(matrix, [1.0, -np.inf], [1.0, 0.0], [-np.inf] * 3, [np.inf, np.inf, 5])
    direction = np.array([1.0, 0.0, 0.0]) if not has_ray else np.array([-1.0, 0.0, 0.0])
    ray = find_ray(direction, constraints)
    if not has_ray:
        assert ray is None
        assert minimise(direction, constraints).value == pytest.approx(-4)
        return
    ray = present(ray)
    assert direction @ ray < -1e-3
    assert ray[0] + ray[1] == pytest.approx(0)
    assert ray[1] - ray[2] <= 1e-12
    assert ray[2] <= 0
    with pytest.raises(UnboundedError, match="along a ray that moves variable 0 by 1, ") as caught:
        minimise(direction, constraints)
    assert caught.value.ray == pytest.approx(ray)


def test_a_program_that_does_not_fit_is_refused():
    constraints = polyhedron(np.ones((100, 1000)), 0, 1, 0, 1)
    with pytest.raises(ProgramError, match=r"100 constraints on 1000 .* 20\.0MB .* take 1\.00MB"):
        minimise(np.ones(1000), constraints, memory_bytes=10**6)
    empty = polyhedron(np.ones((100, 100)), np.arange(100.0), np.arange(100.0), 0, 1)
    with pytest.raises(InfeasibleError, match="Which of them clash is not known"):
        minimise(np.ones(100), empty, memory_bytes=2_100_000)


def test_bounds_that_exclude_each_other_are_named():
    with pytest.raises(InfeasibleError, match=r"No point meets row 0 >= 2 and row 0 <= 1: "):
        minimise(np.ones(1), polyhedron(np.ones((1, 1)), 2, 1, 0, 1))
    with pytest.raises(InfeasibleError, match=r"variable 0 >= 3 and variable 0 <= 1"):
        minimise(np.ones(1), polyhedron(np.ones((1, 1)), 0, 1, 3, 1))


def test_hard_rows_that_clash_by_themselves_are_named():
    rows = np.array([[1.0], [1.0], [1.0]])
    hard = np.array([True, True, False])
    constraints = polyhedron(rows, [0.2, 0.4, 0.1], [0.2, 0.4, 0.9], 0, 1, hard=hard)
    with pytest.raises(InfeasibleError, match=r"2 of them clash: .*row 0 = 0.2|row 1 = 0.4"):
        minimise(np.ones(1), constraints)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ProgramError, match="NaN or an infinite weight"):
        polyhedron(np.array([[np.nan]]), 0, 1)
    with pytest.raises(ProgramError, match=r"NaN or infinite\. Correct it"):
        minimise(np.array([np.nan]), polyhedron(np.ones((1, 1)), 0, 1))
    with pytest.raises(ProgramError, match="2 rows and 1 variables, but the matrix has 1 rows"):
        polyhedron(np.ones((1, 1)), 0, 1).__class__(
            np.ones((1, 1)), *np.zeros((3, 2)), *np.zeros((2, 1)), np.zeros(2, dtype=bool)
        )
