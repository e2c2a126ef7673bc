"""Matrices that may be sparse: stacks of rows, and what they weigh."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from patchcollide.polyhedra.tolerances import RANK
from patchcollide.shapes import Bool, Float64, Int64, ndarray

Matrix: TypeAlias = Any
"""A two-dimensional array, or one of SciPy's compressed sparse rows."""

_SAFE = 1e140
"""Between this and its inverse, squares and their sums neither overflow nor vanish."""
_MOST = 2.0**1010
_MOST_ROUNDS = 200
_STILL = 0.05
_LEFT_ALONE = 10
"""Columns within so many powers of two of the others are left as they are."""


def from_entries(
    values: Float64[ndarray, "entries"],
    rows: Int64[ndarray, "entries"],
    columns: Int64[ndarray, "entries"],
    shape: tuple[int, int],
) -> Matrix:
    """Returns a sparse matrix of these entries; those at the same place add up."""
    from scipy.sparse import csr_array

    return csr_array((values, (rows, columns)), shape=shape)


def entries_of(
    matrix: Matrix,
) -> tuple[Float64[ndarray, "entries"], Int64[ndarray, "entries"], Int64[ndarray, "entries"]]:
    """Returns the entries that are not zero, and their rows and columns."""
    if isinstance(matrix, np.ndarray):
        rows, columns = np.nonzero(matrix)
        return matrix[rows, columns], rows, columns
    found = matrix.tocoo()
    kept = found.data != 0
    return found.data[kept], *(place[kept].astype(np.int64) for place in (found.row, found.col))


def selection(columns: Int64[ndarray, "rows"], num_columns: int) -> Matrix:
    """Returns the sparse matrix whose rows each pick one variable."""
    ones = np.ones(len(columns))
    return from_entries(ones, np.arange(len(columns)), columns, (len(columns), num_columns))


def blocks(parts: Sequence[Sequence[Matrix | None]]) -> Matrix:
    """Joins matrices: dense where they are one dense matrix, else sparse; None is a zero block."""
    if len(parts) == 1 and len(parts[0]) == 1 and parts[0][0] is not None:
        return parts[0][0]
    from scipy.sparse import block_array, csr_array

    return block_array(
        [[None if part is None else csr_array(part) for part in row] for row in parts],
        format="csr",
    )


def dense(matrix: Matrix) -> Float64[ndarray, "rows columns"]:
    """Returns a matrix with all its zeros."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def num_entries(matrix: Matrix) -> int:
    """Returns how many entries are stored."""
    return int(matrix.size if isinstance(matrix, np.ndarray) else matrix.nnz)


def row_norms(matrix: Matrix) -> Float64[ndarray, "rows"]:
    """Returns the Euclidean length of each row, 1 for rows of zeros: what to divide them by."""
    found = lengths(matrix)
    return np.where(found > 0, found, 1.0)


def lengths(matrix: Matrix) -> Float64[ndarray, "rows"]:
    """Returns the Euclidean length of each row, of any size that float64 holds."""
    found = _root_of_squares(matrix)
    extreme = np.flatnonzero(~((found > 1 / _SAFE) & (found < _SAFE)))
    if len(extreme):
        rows = matrix[extreme]
        largest = largest_entries(rows)
        units = powers_of_two(np.where(largest > 0, largest, 1.0))
        found[extreme] = _root_of_squares(scaled_rows(rows, 1 / units)) * np.minimum(units, _MOST)
    return np.asarray(found)


def _root_of_squares(matrix: Matrix) -> Float64[ndarray, "rows"]:
    with np.errstate(over="ignore", under="ignore"):
        if isinstance(matrix, np.ndarray):
            return np.asarray(np.sqrt(np.einsum("ij,ij->i", matrix, matrix)))
        return np.asarray(np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1)))


def largest_entries(matrix: Matrix, axis: int = 1) -> Float64[ndarray, "rows"]:
    """Returns the largest absolute entry of each row, or with axis 0 of each column."""
    if not matrix.shape[axis]:
        return np.zeros(matrix.shape[1 - axis])
    found = abs(matrix).max(axis=axis)
    return np.asarray(found if isinstance(found, np.ndarray) else found.toarray()).reshape(-1)


def powers_of_two(values: Float64[ndarray, "values"]) -> Float64[ndarray, "values"]:
    """Returns the power of two nearest to each, by which scaling loses nothing."""
    # Not to the ends, so that inverses are numbers too.
    return np.asarray(np.exp2(np.clip(np.rint(np.log2(values)), -1020, 1020)))


def balanced_columns(
    matrix: Matrix, sizes: Float64[ndarray, "columns"], free: Bool[ndarray, "columns"]
) -> Float64[ndarray, "columns"]:
    """Returns sizes of columns by which all are about equally large, beside rows of length 1.

    Args:
        matrix: Any.
        sizes: Those that are known.
        free: Which are not, and are chosen; 1 where they are fit as they are.
    """
    found = np.where(free, 1.0, sizes)
    for _ in range(2):
        rows = row_norms(scaled_columns(matrix, found))
        largest = largest_entries(scaled_rows(matrix, 1 / rows)[:, np.flatnonzero(free)], axis=0)
        chosen = powers_of_two(1 / np.where(largest > 0, np.maximum(largest, 1e-300), 1.0))
        found[free] = fit_as_they_are(chosen)
    # Large entries may all be in a few rows: the others count as well.
    evened = _evening_factors(scaled_columns(matrix, found), free)
    found[free] *= fit_as_they_are(evened[free])
    return found


def _evening_factors(matrix: Matrix, free: Bool[ndarray, "columns"]) -> Float64[ndarray, "columns"]:
    """Returns factors of free columns by which entries are evenly large, beside factors of rows.

    Source:
        Curtis and Reid, "On the Automatic Scaling of Matrices for Gaussian Elimination", IMA
        Journal of Applied Mathematics 10 (1), 1972: sums of squared logarithms, here of base 2.
    """
    values, rows, columns = entries_of(matrix)
    logs = np.log2(abs(values))
    per_row, per_column = (
        np.maximum(np.bincount(places, minlength=count), 1)
        for places, count in zip((rows, columns), matrix.shape, strict=True)
    )
    shifts = np.zeros(matrix.shape[1])
    for _ in range(_MOST_ROUNDS):
        of_rows = np.bincount(rows, logs + shifts[columns], len(per_row)) / per_row
        left = np.bincount(columns, logs - of_rows[rows], len(per_column)) / per_column
        moved = np.where(free, -left, 0.0) - shifts
        shifts += moved
        if abs(moved).max(initial=0.0) < _STILL:
            break
    return np.asarray(np.exp2(np.clip(np.rint(shifts), -1020, 1020)))


def fit_as_they_are(sizes: Float64[ndarray, "sizes"]) -> Float64[ndarray, "sizes"]:
    """Returns sizes with 1 for those that are near to it."""
    return np.where(abs(np.log2(sizes)) > _LEFT_ALONE, sizes, 1.0)


def scaled_columns(matrix: Matrix, factors: Float64[ndarray, "columns"]) -> Matrix:
    """Returns a matrix with each column multiplied by a factor; itself where all are 1."""
    if (factors == 1).all():
        return matrix
    if isinstance(matrix, np.ndarray):
        return matrix * factors
    return matrix.multiply(factors[None, :]).tocsr()


def scaled_rows(matrix: Matrix, factors: Float64[ndarray, "rows"]) -> Matrix:
    """Returns a matrix with each row multiplied by a factor."""
    if isinstance(matrix, np.ndarray):
        return matrix * factors[:, None]
    return matrix.multiply(factors[:, None]).tocsr()


def all_finite(matrix: Matrix) -> bool:
    """Returns whether no entry is infinite or NaN."""
    return bool(np.isfinite(matrix if isinstance(matrix, np.ndarray) else matrix.data).all())


def block_of(
    matrix: Matrix, rows: Bool[ndarray, "all_rows"], columns: Bool[ndarray, "all_columns"]
) -> Float64[ndarray, "rows columns"]:
    """Returns the entries in some rows and some columns."""
    return dense(matrix[np.flatnonzero(rows)][:, np.flatnonzero(columns)])


def unit_rows(matrix: Matrix) -> Float64[ndarray, "rows columns"]:
    """Returns all rows scaled to length 1, so that small weights count like large ones."""
    full = dense(matrix)
    units = powers_of_two(row_norms(full))[:, None]
    # First by what loses nothing: lengths of the smallest numbers have few digits.
    near = full / units
    return np.asarray(near / row_norms(near)[:, None])


def num_independent(values: Float64[ndarray, "values"], tolerance: float = RANK) -> int:
    """Returns how many singular values of rows of length 1 are not zero: the one notion of rank.

    Args:
        values: The largest first.
        tolerance: Those of at most this share of the largest count as zero.
    """
    return int((values > tolerance * values[0]).sum()) if len(values) else 0


def rank(
    matrix: Matrix, tolerance: float = RANK, sizes: Float64[ndarray, "columns"] | None = None
) -> int:
    """Returns the number of linearly independent rows.

    Args:
        matrix: Its rows are first scaled to length 1.
        tolerance: See :func:`num_independent`.
        sizes: Of the variables, in which columns are measured; None for 1.
    """
    if not min(matrix.shape):
        return 0
    sized = matrix if sizes is None else scaled_columns(matrix, sizes)
    return num_independent(np.linalg.svd(unit_rows(sized), compute_uv=False), tolerance)


def kernel(
    matrix: Float64[ndarray, "rows columns"], tolerance: float = RANK
) -> Float64[ndarray, "columns dimensions"]:
    """Returns orthonormal columns that span the vectors whose product with all rows is zero.

    Args:
        matrix: Its rows are scaled, and its singular values judged, as in :func:`rank`.
        tolerance: As in :func:`rank`.
    """
    if not matrix.size:
        return np.eye(matrix.shape[1])
    _, values, directions = np.linalg.svd(unit_rows(matrix))
    return np.asarray(directions[num_independent(values, tolerance) :].T)


def connected_parts(
    rows: Int64[ndarray, "entries"], columns: Int64[ndarray, "entries"], shape: tuple[int, int]
) -> tuple[Int64[ndarray, "rows"], Int64[ndarray, "columns"]]:
    """Splits the rows and columns of a matrix into parts between which it has no entries.

    Args:
        rows: Of each entry.
        columns: Of each entry.
        shape: Of the matrix.

    Returns:
        The number of the part of each row and of each column, from 0 on. One without entries is a
        part by itself.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    size = sum(shape)
    graph = csr_array((np.ones(len(rows)), (rows, shape[0] + columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels[: shape[0]], labels[shape[0] :]
