"""Boundedness by the shortest sum of normals against a linear program."""

import numpy as np
import pytest

from patchcollide.errors import ProgramError
from patchcollide.polyhedra import boundedness
from patchcollide.polyhedra.boundedness import falls_nowhere, is_bounded
from patchcollide.polyhedra.matrices import kernel, rank
from patchcollide.polyhedra.solver import MEMORY_BYTES, shortest_sum
from tests.helpers.polyhedra import polyhedron

TOLERANCE = 1e-9


def cone(rng, num_equal, num_sides, num_inputs, low=-np.inf):
    matrix = rng.normal(size=(num_equal + num_sides, num_inputs))
    lower = np.r_[np.zeros(num_equal), np.full(num_sides, -np.inf)]
    return polyhedron(matrix, lower, np.zeros(len(lower)), low)


@pytest.mark.parametrize("low", [-np.inf, 0.0])
@pytest.mark.parametrize("num_inputs", [1, 2, 5, 20])
@pytest.mark.parametrize("share", [1.2, 1.7, 2.0, 2.3, 3.0])
def test_the_shortest_sum_agrees_with_the_linear_program(low, num_inputs, share):
    answers = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        num_equal = num_inputs // 4
        num_sides = round(share * (num_inputs - num_equal))
        polytope = cone(rng, num_equal, num_sides, num_inputs, low)
        equations = polytope.matrix[:num_equal]
        sides = polytope.matrix[num_equal:]
        outwards = np.vstack([sides, -np.eye(num_inputs)]) if low == 0 else sides
        found = is_bounded(polytope, TOLERANCE, MEMORY_BYTES)
        full = rank(polytope.matrix) == num_inputs or low == 0
        assert found == (full and falls_nowhere(equations, outwards, MEMORY_BYTES))
        answers.add(found)
    assert answers


def test_both_answers_occur(rng):
    assert is_bounded(cone(rng, 0, 60, 20), TOLERANCE, MEMORY_BYTES)
    assert not is_bounded(cone(rng, 0, 25, 20), TOLERANCE, MEMORY_BYTES)


def test_normals_that_differ_by_rounding_leave_a_line(rng):
    row = rng.normal(size=(1, 3))
    matrix = np.vstack([row, -row * (1 + 1e-15), rng.normal(size=(1, 3))])
    polytope = polyhedron(matrix, -np.inf, 0.0)
    assert not is_bounded(polytope, TOLERANCE, MEMORY_BYTES)


def test_where_the_solver_gives_up_a_linear_program_answers(rng, monkeypatch):
    def give_up(_):
        raise ProgramError("gives up")

    monkeypatch.setattr(boundedness, "shortest_sum", give_up)
    assert is_bounded(cone(rng, 0, 60, 20), TOLERANCE, MEMORY_BYTES)
    assert not is_bounded(cone(rng, 0, 25, 20), TOLERANCE, MEMORY_BYTES)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 9), (40, 7)])
def test_a_shortest_sum_has_weights_of_at_least_one_and_points_away_from_no_row(shape, rng):
    rows = rng.normal(size=shape)
    weights, total = shortest_sum(rows)
    assert weights.min() >= 1
    np.testing.assert_allclose(weights @ rows, total, atol=1e-9)
    assert (rows @ total).min() > -1e-9
    for _ in range(50):
        other = weights + rng.exponential(size=len(rows))
        assert np.linalg.norm(other @ rows) >= np.linalg.norm(total) - 1e-9


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (2, 5), (5, 2), (4, 4)])
def test_a_kernel_is_orthonormal_and_as_large_as_the_rank_leaves(shape, rng):
    matrix = rng.normal(size=shape)
    if shape == (4, 4):
        matrix[3] = 1e6 * matrix[0]
    found = kernel(matrix)
    assert found.shape == (shape[1], shape[1] - rank(matrix))
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-12)
    np.testing.assert_allclose(matrix @ found, 0, atol=1e-8)
