"""Ranks and volumes of simplices that are known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.evaluation.degeneracy import measure_degeneracy
from tests.helpers.presence import present


def regular(num, edge=1.0, dimension=None):
    """Vertices of a regular simplex: unit vectors are root two apart."""
    return edge / math.sqrt(2) * np.eye(num, dimension or num + 3)


@pytest.mark.parametrize("num", [2, 3, 5, 16])
def test_a_regular_simplex_has_relative_volume_one(num):
    found = measure_degeneracy(regular(num, edge=7000.0))
    assert found["affine_rank"] == found["full_rank"] == num - 1
    assert found["relative_volume"] == pytest.approx(1)
    assert len(found["singular_values"]) == num - 1
    assert found["singular_values"] == pytest.approx([7000 / math.sqrt(2)] * (num - 1))


def test_volumes_are_those_of_geometry():
    line = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert measure_degeneracy(line)["volume"] == pytest.approx(5)
    triangle = np.array([[1.0, 1.0, 5.0], [5.0, 1.0, 5.0], [1.0, 4.0, 5.0]])
    assert measure_degeneracy(triangle)["volume"] == pytest.approx(6)
    corner = np.vstack([np.zeros(3), np.eye(3)])
    assert measure_degeneracy(corner)["volume"] == pytest.approx(1 / 6)


def test_one_vertex_spans_nothing():
    found = measure_degeneracy(np.full((1, 2, 2, 3), 9.0))
    assert (found["affine_rank"], found["full_rank"], found["singular_values"]) == (0, 0, [])
    assert found["volume"] is None
    assert found["relative_volume"] is None


@pytest.mark.parametrize("num", [2, 3, 5])
def test_equal_vertices_span_nothing(num):
    found = measure_degeneracy(np.ones((num, 4, 4, 3)))
    assert (found["affine_rank"], found["full_rank"]) == (0, num - 1)
    assert found["volume"] == found["relative_volume"] == 0


def test_a_duplicate_costs_one_dimension(rng):
    vertices = rng.normal(size=(4, 30))
    found = measure_degeneracy(np.vstack([vertices, vertices[2:3]]))
    assert (found["affine_rank"], found["full_rank"]) == (3, 4)
    assert present(found["relative_volume"]) < 1e-6


def test_vertices_on_a_line_span_one_dimension():
    places = np.array([0.0, 1.0, 4.0, 9.0])[:, None]
    found = measure_degeneracy(places * np.ones(12))
    assert (found["affine_rank"], found["full_rank"]) == (1, 3)


def test_more_vertices_than_dimensions_are_flat(rng):
    found = measure_degeneracy(rng.normal(size=(5, 2)))
    assert (found["affine_rank"], found["full_rank"]) == (2, 4)
    assert found["volume"] == found["relative_volume"] == 0
    assert len(found["singular_values"]) == 4


@pytest.mark.parametrize(("height", "rank"), [(0.1, 2), (0.001, 1)])
def test_an_extent_below_the_tolerance_does_not_count(height, rank):
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, height]])
    assert measure_degeneracy(triangle)["affine_rank"] == rank
    assert measure_degeneracy(triangle, tolerance=1e-9)["affine_rank"] == 2


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), num=st.integers(2, 6), scale=st.sampled_from([1e-3, 1.0, 1e4])
)
def test_the_volume_is_that_of_cayley_and_menger(seed, num, scale):
    vertices = scale * np.random.default_rng(seed).normal(size=(num, 8))
    found = measure_degeneracy(vertices)
    squares = np.zeros((num + 1, num + 1))
    squares[0, 1:] = squares[1:, 0] = 1
    for a, b in itertools.permutations(range(num), 2):
        squares[a + 1, b + 1] = ((vertices[a] - vertices[b]) ** 2).sum() / scale**2
    n = num - 1
    determinant = (-1) ** num * np.linalg.det(squares) / (2**n * math.factorial(n) ** 2)
    assert found["volume"] == pytest.approx(scale**n * math.sqrt(determinant), rel=1e-6)
    assert 0 < present(found["relative_volume"]) <= 1
    # Order, place and scale change nothing of the shape.
    moved = measure_degeneracy(2 * vertices[::-1] + 5 * scale)
    assert moved["relative_volume"] == pytest.approx(found["relative_volume"], rel=1e-6)
