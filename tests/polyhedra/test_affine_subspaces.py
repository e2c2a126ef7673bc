import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.polyhedra.matrices import selection


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
