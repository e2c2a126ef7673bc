"""An attack on exact polytopes: small, degenerate and badly scaled ones against enumeration.

Polyhedra of small numbers are enumerated. Their rows and columns are then multiplied by numbers
from 1e-12 to 1e12, which moves every vertex to a known place and changes nothing else.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from patchcollide.errors import InfeasibleError, ProgramError, UnboundedError
from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.exact_polytope import ExactPolytope
from patchcollide.polyhedra.extents import find_chebyshev_centre, find_far_pair
from patchcollide.polyhedra.image_spaces import PixelBox
from patchcollide.polyhedra.proposition1 import examine
from tests.helpers.polyhedra import all_vertices, half_spaces, polyhedron
from tests.helpers.presence import present

NUM_SEEDS = 12


@dataclass(frozen=True)
class Box(PixelBox):
    """A box of any ends, such as of pixels in different units."""

    ends: tuple[Any, ...] = ()

    @property
    def lower(self):
        return np.array(self.ends[0])

    @property
    def upper(self):
        return np.array(self.ends[1])


def draw(rng, low=0.0, high=1.0):
    """A polyhedron of small numbers around a point or none, and what makes it degenerate."""
    size, num_rows = int(rng.integers(1, 4)), int(rng.integers(0, 5))
    matrix = rng.integers(-2, 3, (num_rows, size)).astype(float)
    if num_rows > 1 and rng.random() < 0.4:
        # Redundant rows, and such that hide equations.
        copied = rng.integers(0, num_rows, 2)
        matrix[copied[0]] = rng.choice([-3.0, -1.0, 2.0]) * matrix[copied[1]]
    if num_rows and rng.random() < 0.3:
        matrix[rng.integers(num_rows)] = 0
    inside = rng.integers(0, 3, size) / 2
    values = matrix @ inside
    if rng.random() < 0.3:
        values = values + rng.integers(-1, 2, num_rows)
    kinds = rng.choice(["equation", "touching", "from above", "range"], num_rows)
    lower = np.where(kinds == "equation", values, -np.inf)
    lower = np.where(kinds == "from above", values - 0.5, lower)
    lower = np.where(kinds == "range", values - 1, lower)
    upper = np.where(kinds == "from above", np.inf, values)
    upper = np.where(kinds == "range", values + 0.5, upper)
    lows, highs = np.full(size, low), np.full(size, high)
    if np.isfinite([low, high]).all():
        fixed = rng.random(size) < 0.2
        lows, highs = np.where(fixed, inside, lows), np.where(fixed, inside, highs)
    return polyhedron(matrix, lower, upper, lows, highs, np.zeros(num_rows)), inside


def multiplied(base, rows, columns, shift=0.0):
    """The polytope whose point ``x / columns`` is the base's ``x``, its rows multiplied."""
    bounds = base.variable_lower / columns, base.variable_upper / columns
    with np.errstate(invalid="ignore"):
        lower, upper = base.lower * rows + shift, base.upper * rows + shift
    return ExactPolytope(
        base.matrix * rows[:, None] * columns,
        np.full(len(rows), shift),
        lower,
        upper,
        Box(len(columns), ends=bounds),
    )


def scales(rng, count):
    return 10.0 ** rng.integers(-12, 13, count) * rng.uniform(1, 9, count)


WAYS = ["as it is", "rows", "columns", "both", "far"]


def scaled(rng, base, way):
    rows, columns = np.ones(len(base.lower)), np.ones(len(base.variable_lower))
    if way in {"rows", "both"}:
        rows = scales(rng, len(rows))
    if way in {"columns", "both"}:
        columns = scales(rng, len(columns))
    if way == "far":
        return multiplied(base, rows, columns, shift=1e8), columns
    return multiplied(base, rows, columns), columns


@cache
def enumerated(seed):
    """A boxed polytope, its vertices and the radius of its largest ball; None if it is empty."""
    base, _ = draw(np.random.default_rng(seed))
    vertices = all_vertices(base)
    return base, vertices, largest_radius(base) if len(vertices) else None


@pytest.mark.parametrize("way", WAYS)
def test_vertices_and_extents_of_boxed_polytopes_are_those_of_enumeration(way):
    # Of biases of 1e8 rounding leaves seven digits of what is added to them.
    near = 1e-6 if way == "far" else 1e-8
    for seed in range(NUM_SEEDS):
        base, vertices, _ = enumerated(seed)
        rng = np.random.default_rng(seed + 500)
        polytope, columns = scaled(rng, base, way)
        direction = rng.normal(size=len(columns))
        if not len(vertices):
            with pytest.raises(InfeasibleError):
                polytope.minimise(direction * columns)
            continue
        found = polytope.minimise(direction * columns)
        place = found.image * columns
        assert found.value == pytest.approx((vertices @ direction).min(), abs=near), seed
        assert abs(vertices - place).max(axis=1).min() < near, seed
        assert found.is_vertex, seed
        assert polytope.contains(found.image).inside, seed
        ranges = polytope.pixel_ranges(np.arange(len(columns))) * columns[:, None]
        assert ranges[:, 0] == pytest.approx(vertices.min(axis=0), abs=near), seed
        assert ranges[:, 1] == pytest.approx(vertices.max(axis=0), abs=near), seed
        outside = place + np.where(place < 0.5, -1.5, 1.5)
        assert not polytope.contains(outside / columns).inside, seed


@pytest.mark.parametrize("way", ["as it is", "rows", "all", "far"])
def test_the_largest_ball_is_that_of_enumeration(way):
    for seed in range(NUM_SEEDS):
        base, vertices, radius = enumerated(seed + 1000)
        rng = np.random.default_rng(seed + 1500)
        # Balls stay balls only where all columns are multiplied alike.
        unit = float(scales(rng, 1)[0]) if way == "all" else 1.0
        rows = scales(rng, len(base.lower)) if way in {"rows", "all"} else np.ones(len(base.lower))
        columns = np.full(len(base.variable_lower), unit)
        polytope = multiplied(base, rows, columns, shift=1e8 if way == "far" else 0.0)
        if not len(vertices):
            with pytest.raises(InfeasibleError):
                find_chebyshev_centre(polytope)
            continue
        ball = find_chebyshev_centre(polytope)
        assert ball.radius * unit == pytest.approx(radius, abs=1e-6), seed
        assert polytope.contains(ball.centre).inside, seed
        distance = find_far_pair(polytope, rng, num_starts=2).distance * unit
        farthest = max(np.linalg.norm(vertices - vertex, axis=1).max() for vertex in vertices)
        assert 0.5 * farthest - 1e-6 <= distance <= farthest + 1e-6, seed


def largest_radius(base):
    """The largest ball by enumeration: the highest vertex of the cone of balls."""
    size = len(base.variable_lower)
    equal, fixed = base.lower == base.upper, base.variable_lower == base.variable_upper
    rows = np.vstack([base.matrix[equal], np.eye(size)[fixed]])
    kernel = np.eye(size) - np.linalg.pinv(rows) @ rows if len(rows) else np.eye(size)
    if len(rows) and np.linalg.matrix_rank(rows) == size:
        return 0.0
    normals, ends = half_spaces(base)
    reach = np.linalg.norm(normals @ kernel, axis=1).round(9)
    lifted = np.column_stack([normals, reach])
    balls = polyhedron(lifted, -np.inf, ends, [*[-np.inf] * size, 0.0], np.inf)
    return all_vertices(balls)[:, -1].max()


@pytest.mark.parametrize("span", [(-np.inf, np.inf), (0.0, np.inf), (0.0, 1.0)], ids=str)
@pytest.mark.parametrize("way", ["as it is", "rows", "both"])
def test_dimension_and_boundedness_are_those_of_enumeration(span, way):
    for seed in range(NUM_SEEDS):
        compare_with_enumeration(span, way, seed)


def compare_with_enumeration(span, way, seed):
    rng = np.random.default_rng(seed + 2000)
    base, inside = draw(rng, *span)
    if base.worst(inside)[0] > 0 or base.fixed.any():
        return
    columns = np.ones(len(inside))
    rows = np.ones(len(base.lower)) if way == "as it is" else scales(rng, len(base.lower))
    if way == "both" and span[1] == np.inf:
        # What a variable without bounds is measured in is told from its weights alone.
        columns = scales(rng, len(inside))
    # Ends as a target's are: computed from the matrix that is there.
    matrix = base.matrix * rows[:, None] * columns
    values, offset = matrix @ (inside / columns), np.zeros(len(rows))
    gaps = base.matrix @ inside
    lower = values + rows * (base.lower - gaps)
    upper = values + rows * (base.upper - gaps)
    found = examine(matrix, offset, lower, upper, inside / columns, input_range=span)
    near = polyhedron(
        base.matrix,
        base.lower,
        base.upper,
        np.maximum(span[0], inside - 1),
        np.minimum(span[1], inside + 1),
    )
    around = all_vertices(near) - inside
    assert found.dimension == np.linalg.matrix_rank(around, tol=1e-7), seed
    cone = polyhedron(
        base.matrix,
        np.where(np.isfinite(base.lower), 0.0, -np.inf),
        np.where(np.isfinite(base.upper), 0.0, np.inf),
        0.0 if np.isfinite(span[0]) else -1.0,
        0.0 if np.isfinite(span[1]) else 1.0,
    )
    rays = all_vertices(cone)
    assert found.bounded == (abs(rays).max() < 1e-7), seed
    equations = base.matrix[base.equations]
    assert found.rank_matched == (np.linalg.matrix_rank(equations) if len(equations) else 0)
    direction = rng.normal(size=len(inside))
    ends = np.full(len(inside), span[0]), np.full(len(inside), span[1])
    polytope = ExactPolytope(matrix, offset, lower, upper, Box(len(inside), ends=ends))
    if (rays @ direction).min() < -1e-7:
        with pytest.raises(UnboundedError):
            polytope.minimise(direction * columns)
    else:
        polytope.minimise(direction * columns)


@pytest.mark.parametrize("seed", [37, 44, 77, 111, 125, 135, 161, 174, 187, 231, 257, 283])
def test_variables_without_bounds_may_be_of_any_size(seed):
    # Seeds at which sizes were once told wrongly: from boundaries that are zero but for rounding,
    # from other parts of the matrix, or from the largest entries alone.
    compare_with_enumeration((0.0, np.inf), "both", seed)
    compare_with_enumeration((-np.inf, np.inf), "both", seed)


def wild(seed):
    """A polytope around a known point, whose weights are of any size, and a direction."""
    rng = np.random.default_rng(seed)
    num_rows, size = rng.integers(1, 5, 2).tolist()
    matrix = rng.normal(size=(num_rows, size)) * 10.0 ** rng.uniform(-12, 12, (num_rows, size))
    point = abs(rng.normal(size=size)) * 10.0 ** rng.uniform(-12, 12, size)
    values, kinds = matrix @ point, rng.choice(3, num_rows)
    lower, upper = np.where(kinds, values, -np.inf), np.where(kinds < 2, values, np.inf)
    ends = np.zeros(size), np.full(size, np.inf)
    polytope = ExactPolytope(matrix, np.zeros(num_rows), lower, upper, Box(size, ends=ends))
    return polytope, rng.normal(size=size) / point


def test_what_has_a_point_is_never_said_to_have_none():
    ends: Counter[Any] = Counter()
    for seed in range(60):
        polytope, direction = wild(seed)
        try:
            polytope.minimise(direction)
            ends["found"] += 1
        except ProgramError as error:
            ends[type(error)] += 1
    assert not ends[InfeasibleError]
    assert ends["found"] + ends[UnboundedError] >= 57


def test_a_ray_along_a_variable_in_no_row_is_found_however_little_it_weighs():
    ends = np.zeros(2), np.full(2, np.inf)
    polytope = ExactPolytope(
        np.array([[1.0, 0.0]]), np.zeros(1), np.ones(1), np.full(1, 2.0), Box(2, ends=ends)
    )
    with pytest.raises(UnboundedError, match="moves pixel 1 by 1") as caught:
        polytope.minimise(np.array([1.0, -1e-15]))
    assert caught.value.ray.tolist() == [0, 1]
    assert polytope.minimise(np.array([1.0, 1e-15])).image.tolist() == [1, 0]


@pytest.mark.parametrize("factor", [1e-300, 1e-160, 1e-12, 1.0, 1e12, 1e160, 1e300])
def test_a_layer_times_any_number_has_the_same_polytope(factor, rng):
    matrix, target = rng.normal(size=(6, 5)), rng.random(5)
    offset = 0.3 * rng.normal(size=6) - matrix @ target * (np.arange(6) > 2)
    matrix[5], offset[5] = -matrix[0], -offset[0]

    def measured(scale):
        z = scale * matrix @ target + scale * offset
        lower, upper = np.where(z > 0, z, -np.inf), np.where(z > 0, z, 0.0)
        polytope = ExactPolytope(scale * matrix, scale * offset, lower, upper, PixelBox(5))
        found = examine(
            scale * matrix, scale * offset, lower, upper, target, input_range=(0.0, 1.0)
        )
        vertex = polytope.minimise(np.arange(5.0))
        ball = find_chebyshev_centre(polytope)
        subspace = Subspace.of(polytope.constraints.matrix[lower == upper], target)
        assert subspace.dimension == 5 - present(found.rank_matched)
        inside = [polytope.contains(target + 0.1 * step).inside for step in np.eye(5)]
        return found, vertex.image, ball.radius, vertex.tight_rank, inside

    theory, image, radius, tight_rank, inside = measured(factor)
    expected = measured(1.0)
    assert theory == expected[0]
    assert image == pytest.approx(expected[1], abs=1e-9)
    assert radius == pytest.approx(expected[2], abs=1e-9)
    assert (tight_rank, inside) == expected[3:]


@pytest.mark.parametrize("apart", [1e-3, 1e-7, 1e-8, 1e-11])
def test_all_that_counts_dimensions_counts_the_same(apart):
    rows = np.array([[1.0, 0.0, 0.0], [1.0, apart, 0.0]])
    target = np.full(3, 0.5)
    z = rows @ target
    found = examine(rows, np.zeros(2), z, z, target, input_range=(0.0, 1.0))
    expected = 1 if apart > 1e-9 else 2
    assert found.dimension == expected
    assert Subspace.of(rows, target).dimension == expected
    polytope = ExactPolytope(rows, np.zeros(2), z, z, PixelBox(3))
    assert polytope.constraints.tight_rank(target) == 3 - expected


def test_a_weight_that_is_tiny_beside_a_fixed_column_counts(rng):
    for weight in (1e-20, 1e-200, 1e20):
        polytope = ExactPolytope(
            np.array([[1.0, weight]]),
            np.zeros(1),
            np.full(1, -np.inf),
            np.full(1, 0.5 * weight),
            Box(2, ends=([0.0, 0.0], [0.0, 1.0])),
        )
        assert polytope.pixel_widths(np.arange(2)) == pytest.approx([0, 0.5])
        assert find_chebyshev_centre(polytope).radius == pytest.approx(0.25)
        assert find_far_pair(polytope, rng).distance == pytest.approx(0.5)
        vertex = polytope.minimise(np.array([0.0, -1.0]))
        assert vertex.image == pytest.approx([0, 0.5])
        assert vertex.is_vertex
        assert not polytope.contains(np.array([0.0, 0.75])).inside


def test_rounding_of_large_biases_is_no_clash(rng):
    # Eight equations in five pixels agree only to the rounding of 1e8.
    matrix, target = rng.normal(size=(8, 5)), rng.random(5)
    z = matrix @ target + 1e8
    polytope = ExactPolytope(matrix, np.full(8, 1e8), z, z, PixelBox(5))
    found = polytope.minimise(np.ones(5))
    assert found.image == pytest.approx(target, abs=1e-7)
    assert found.is_vertex
    assert polytope.contains(target).inside
    other = z + 1e-3 * np.eye(8)[0]
    missed = ExactPolytope(matrix, np.full(8, 1e8), other, other, PixelBox(5))
    with pytest.raises(InfeasibleError):
        missed.minimise(np.ones(5))
