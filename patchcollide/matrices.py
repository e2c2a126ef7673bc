"""Matrices that may be sparse: stacks of rows, and what they weigh."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from patchcollide.shapes import Bool, Float64, Int64, ndarray

Matrix: TypeAlias = Any
"""A two-dimensional array, or one of SciPy's compressed sparse rows."""

RANK_TOLERANCE = 1e-9


def from_entries(
    values: Float64[ndarray, "entries"],
    rows: Int64[ndarray, "entries"],
    columns: Int64[ndarray, "entries"],
    shape: tuple[int, int],
) -> Matrix:
    """Returns a sparse matrix of these entries; those at the same place add up."""
    from scipy.sparse import csr_array

    return csr_array((values, (rows, columns)), shape=shape)


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
    if isinstance(matrix, np.ndarray):
        norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    else:
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).reshape(-1))
    return np.where(norms > 0, norms, 1.0)


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


def rank(matrix: Matrix, tolerance: float = RANK_TOLERANCE) -> int:
    """Returns the number of linearly independent rows.

    Args:
        matrix: Its rows are first scaled to length 1, so that small weights count like large ones.
        tolerance: Singular values of at most this share of the largest count as zero.
    """
    full = dense(matrix)
    if not full.size:
        return 0
    values = np.linalg.svd(full / row_norms(full)[:, None], compute_uv=False)
    return int((values > tolerance * values[0]).sum())


def kernel(
    matrix: Float64[ndarray, "rows columns"], tolerance: float = RANK_TOLERANCE
) -> Float64[ndarray, "columns dimensions"]:
    """Returns orthonormal columns that span the vectors whose product with all rows is zero.

    Args:
        matrix: Its rows are scaled, and its singular values judged, as in :func:`rank`.
        tolerance: As in :func:`rank`.
    """
    if not matrix.size:
        return np.eye(matrix.shape[1])
    _, values, directions = np.linalg.svd(matrix / row_norms(matrix)[:, None])
    num_kept = int((values > tolerance * values[0]).sum())
    return np.asarray(directions[num_kept:].T)


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
