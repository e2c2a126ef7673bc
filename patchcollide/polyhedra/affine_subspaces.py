"""Affine subspaces: what the equations of a polyhedron leave free."""

from dataclasses import dataclass

import numpy as np

from patchcollide.polyhedra.matrices import (
    Matrix,
    dense,
    num_independent,
    rank,
    row_norms,
    unit_rows,
)
from patchcollide.polyhedra.tolerances import RANK, resolution
from patchcollide.shapes import Float64, ndarray

_SMALL = 1e-3


@dataclass(frozen=True, eq=False)
class Subspace:
    """All points that differ from one along directions at right angles to some rows.

    Attributes:
        normals: An orthonormal basis of what the rows span.
        origin: A point of the subspace.
        resolution: Below this share of its length a row does not vary along the subspace, but for
            the rounding of the basis.
    """

    normals: Float64[ndarray, "rank variables"]
    origin: Float64[ndarray, "variables"]
    resolution: float = RANK

    @classmethod
    def of(
        cls,
        rows: Matrix,
        origin: Float64[ndarray, "variables"],
        sizes: Float64[ndarray, "variables"] | None = None,
    ) -> "Subspace":
        """Returns the subspace through ``origin`` on which no row's product changes.

        Args:
            rows: At right angles to it.
            origin: A point of it.
            sizes: Of the variables, which decide how many rows are independent; see
                :func:`patchcollide.polyhedra.matrices.rank`.
        """
        normals, smallest = _spanned(dense(rows), sizes)
        return cls(normals, origin, resolution(smallest))

    @property
    def dimension(self) -> int:
        """How many directions are free."""
        return len(self.origin) - len(self.normals)

    def along(
        self, directions: Float64[ndarray, "directions variables"]
    ) -> Float64[ndarray, "directions variables"]:
        """Returns the parts of directions along the subspace."""
        return np.asarray(directions - (directions @ self.normals.T) @ self.normals)

    def nearest(
        self, points: Float64[ndarray, "points variables"]
    ) -> Float64[ndarray, "points variables"]:
        """Returns the nearest points of the subspace."""
        return np.asarray(self.origin + self.along(points - self.origin))

    def distances(self, points: Float64[ndarray, "points variables"]) -> Float64[ndarray, "points"]:
        """Returns how far points are from the subspace."""
        return np.asarray(np.linalg.norm((points - self.origin) @ self.normals.T, axis=1))

    def reach_of_rows(self, rows: Matrix) -> Float64[ndarray, "rows"]:
        """Returns how fast the products of rows can change along the subspace."""
        full = dense(rows)
        norms = row_norms(full)
        shares = np.linalg.norm(self.along(unit_rows(full)), axis=1)
        return np.where(shares > self.resolution, shares * norms, 0.0)

    @property
    def reach_of_variables(self) -> Float64[ndarray, "variables"]:
        """How fast single variables can change along the subspace: 1 for free ones."""
        lengths = np.sqrt(np.maximum(1 - np.square(self.normals).sum(axis=0), 0.0))
        # Of small ones the difference holds no digit.
        small = np.flatnonzero(lengths < _SMALL)
        picked = np.zeros((len(small), len(self.origin)))
        picked[np.arange(len(small)), small] = 1.0
        lengths[small] = np.linalg.norm(self.along(picked), axis=1)
        return np.where(lengths > self.resolution, lengths, 0.0)

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> Float64[ndarray, "directions variables"]:
        """Draws directions of length 1 along the subspace, uniformly; of zeros in a point."""
        # Twice, because of rounding where little is left.
        directions = self.along(rng.standard_normal((count, len(self.origin))))
        directions = self.along(directions) * bool(self.dimension)
        return np.asarray(directions / row_norms(directions)[:, None])


def _spanned(
    rows: Float64[ndarray, "equations variables"], sizes: ndarray | None = None
) -> tuple[Float64[ndarray, "rank variables"], float]:
    """Returns a basis, and the smallest singular value of what spans it as a share of the most."""
    if not rows.size:
        return np.zeros((0, rows.shape[1])), 1.0
    _, values, basis = np.linalg.svd(unit_rows(rows), full_matrices=False)
    found = num_independent(values)
    if sizes is not None and (sizes != sizes[0]).any():
        found = rank(rows, sizes=sizes)
    if not found:
        return basis[:0], 1.0
    return np.asarray(basis[:found]), max(float(values[found - 1] / values[0]), RANK)
