"""Affine subspaces: what the equations of a polyhedron leave free."""

from dataclasses import dataclass

import numpy as np

from patchcollide.matrices import Matrix, dense, row_norms
from patchcollide.shapes import Float64, ndarray

PARALLEL = 1e-6
"""Below this share of its length a row does not vary along a subspace, but for rounding."""


@dataclass(frozen=True, eq=False)
class Subspace:
    """All points that differ from one along directions at right angles to some rows.

    Attributes:
        normals: An orthonormal basis of what the rows span.
        origin: A point of the subspace.
    """

    normals: Float64[ndarray, "rank variables"]
    origin: Float64[ndarray, "variables"]

    @classmethod
    def of(cls, rows: Matrix, origin: Float64[ndarray, "variables"]) -> "Subspace":
        """Returns the subspace through ``origin`` on which no row's product changes."""
        return cls(row_space(dense(rows)), origin)

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
        lengths = np.linalg.norm(self.along(full), axis=1)
        return np.where(lengths > PARALLEL * row_norms(full), lengths, 0.0)

    @property
    def reach_of_variables(self) -> Float64[ndarray, "variables"]:
        """How fast single variables can change along the subspace: 1 for free ones."""
        lengths = np.sqrt(np.maximum(1 - np.square(self.normals).sum(axis=0), 0.0))
        return np.where(lengths > PARALLEL, lengths, 0.0)

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> Float64[ndarray, "directions variables"]:
        """Draws directions of length 1 along the subspace, uniformly; of zeros in a point."""
        # Twice, because of rounding where little is left.
        directions = self.along(rng.standard_normal((count, len(self.origin))))
        directions = self.along(directions) * bool(self.dimension)
        return np.asarray(directions / row_norms(directions)[:, None])


def row_space(
    rows: Float64[ndarray, "equations variables"],
) -> Float64[ndarray, "rank variables"]:
    """Returns an orthonormal basis of what rows span, each first scaled to length 1."""
    if not len(rows):
        return rows
    scaled = rows / row_norms(rows)[:, None]
    _, values, basis = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(basis[values > PARALLEL * values[0]])
