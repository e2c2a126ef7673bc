"""Polygons of half-planes against plain membership on a grid, and against linear programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.errors import ProgramError, UnboundedError
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.image_spaces import PixelBox, WholeSpace
from patchcollide.polyhedra.polygons import HalfPlanes, box, find_corners, find_edges, nearest_point
from patchcollide.reproduction.figure1 import half_planes, lower_unit
from tests.helpers.presence import present


def random_planes(count, seed):
    rng = np.random.default_rng(seed)
    return HalfPlanes(rng.normal(size=(count, 2)), -rng.uniform(0.1, 1, size=count))


def shoelace(corners):
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@given(st.integers(1, 7), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_polygon_has_the_area_of_the_points_inside(count, seed):
    planes = random_planes(count, seed).joined(box(-2 * np.ones(2), 2 * np.ones(2)))
    corners = find_corners(planes)
    steps = (np.arange(400) + 0.5) / 100 - 2
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    inside = (grid @ planes.normals.T + planes.offsets <= 0).all(axis=1)
    assert shoelace(corners) == pytest.approx(inside.mean() * 16, abs=0.15)
    assert planes.contain(corners).all()
    np.testing.assert_array_equal(planes.contain(grid), inside)
    # Nothing that was left out as redundant was needed.
    needed = find_edges(planes)
    kept = HalfPlanes(planes.normals[needed], planes.offsets[needed])
    np.testing.assert_allclose(find_corners(kept), corners, atol=1e-9)


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_nearest_point_is_no_farther_than_any_on_a_grid(count, seed):
    planes = random_planes(count, seed)
    point = np.random.default_rng(seed + 1).normal(size=2) * 3
    nearest = present(nearest_point(planes, point))
    assert planes.contain(nearest[None]).all()
    steps = np.linspace(-3, 3, 121)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    inside = grid[(grid @ planes.normals.T + planes.offsets <= 0).all(axis=1)]
    least = np.linalg.norm(inside - point, axis=1).min(initial=np.inf)
    assert np.linalg.norm(nearest - point) <= least + 1e-9


SQUARE = box(np.zeros(2), np.ones(2))


@pytest.mark.parametrize(
    ("planes", "corners"),
    [
        (SQUARE, 4),
        (SQUARE.joined(SQUARE), 4),
        (SQUARE.joined(HalfPlanes(np.array([[1.0, 1.0]]), np.array([-5.0]))), 4),
        (SQUARE.joined(HalfPlanes(np.array([[1.0, 1.0]]), np.array([-0.5]))), 3),
        (SQUARE.joined(HalfPlanes(np.array([[1.0, 0.0]]), np.array([0.0]))), 2),
        (SQUARE.joined(HalfPlanes(np.array([[1.0, 1.0]]), np.array([0.0]))), 1),
        (SQUARE.joined(HalfPlanes(np.array([[1.0, 1.0]]), np.array([0.1]))), 0),
        (HalfPlanes(np.array([[1.0, 0.0]]), np.array([0.0])), 0),
        (HalfPlanes(np.eye(2), np.zeros(2)), 1),
    ],
)
def test_degenerate_intersections_have_the_corners_left(planes, corners):
    assert len(find_corners(planes)) == corners


def test_an_empty_intersection_has_no_nearest_point():
    apart = HalfPlanes(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.0, 1.0]))
    assert nearest_point(apart, np.zeros(2)) is None


def polytope(matrix, offset, space=None):
    units = len(offset)
    return ExactPolytope(
        np.array(matrix, float),
        np.array(offset, float),
        np.full(units, -np.inf),
        np.zeros(units),
        space or WholeSpace(2),
    )


@given(st.integers(3, 8), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_unit_goes_down_to_where_the_linear_program_says(count, seed):
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.5, count)) / count
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = polytope(normals, -rng.uniform(0.5, 1.5, count))
    unit = int(rng.integers(count))
    descent = lower_unit(found, unit, np.zeros(2), steps=23)
    z = descent.points @ found.matrix.T + found.offset
    assert (z <= 1e-9).all()
    assert (z[:, unit] <= descent.bounds + 1e-9).all()
    np.testing.assert_allclose(descent.points[0], 0, atol=1e-12)
    np.testing.assert_allclose(descent.points[-1], descent.vertex.point)
    assert descent.bounds[-1] == pytest.approx(z[:, unit].min())
    corners = find_corners(half_planes(found))
    lowest = (corners @ found.matrix[unit] + found.offset[unit]).min()
    assert descent.bounds[-1] == pytest.approx(lowest, abs=1e-9)
    # Nearer to the start nothing in the polytope meets the bound.
    for point, bound in zip(descent.points, descent.bounds, strict=True):
        steps = point * rng.uniform(0, 0.999, (50, 1))
        assert (steps @ found.matrix[unit] + found.offset[unit] > bound - 1e-9).all()


def test_starts_outside_and_units_that_are_not_there_are_refused():
    found = polytope([[1, 0], [0, 1]], [-1, -1], PixelBox(2))
    with pytest.raises(ProgramError, match="no unit 2"):
        lower_unit(found, 2, np.zeros(2))
    with pytest.raises(ProgramError, match="should lie in the polytope"):
        lower_unit(found, 0, np.array([3.0, 0.0]))
    with pytest.raises(UnboundedError):
        lower_unit(polytope([[1, 0]], [-1]), 0, np.zeros(2))
    flat = ExactPolytope(np.ones((1, 3)), np.zeros(1), np.zeros(1), np.zeros(1), WholeSpace(3))
    with pytest.raises(ProgramError, match="two free variables, but found 3"):
        half_planes(flat)
