"""Small polyhedra, and all their vertices by brute force: slow and plain."""

import itertools

import numpy as np

from patchcollide.polyhedra.constraints import Constraints


def polyhedron(matrix, lower, upper, low=-np.inf, high=np.inf, offset=None, **others):
    rows, columns = matrix.shape
    return Constraints(
        matrix=matrix,
        offset=np.zeros(rows) if offset is None else offset,
        lower=np.broadcast_to(np.asarray(lower, dtype=float), rows),
        upper=np.broadcast_to(np.asarray(upper, dtype=float), rows),
        variable_lower=np.broadcast_to(np.asarray(low, dtype=float), columns),
        variable_upper=np.broadcast_to(np.asarray(high, dtype=float), columns),
        **{"hard": np.zeros(rows, dtype=bool)} | others,
    )


def half_spaces(constraints):
    """All constraints as ``normals @ point <= ends``, equations twice."""
    matrix = getattr(constraints.matrix, "toarray", lambda: constraints.matrix)()
    identity = np.eye(matrix.shape[1])
    normals = np.vstack([matrix, -matrix, identity, -identity])
    ends = np.concatenate(
        [
            constraints.upper - constraints.offset,
            constraints.offset - constraints.lower,
            constraints.variable_upper,
            -constraints.variable_lower,
        ]
    )
    return normals[np.isfinite(ends)], ends[np.isfinite(ends)]


def all_vertices(constraints, tolerance=1e-9):
    """Every point on as many independent boundaries as dimensions that meets all constraints."""
    normals, ends = half_spaces(constraints)
    found = []
    for chosen in itertools.combinations(range(len(ends)), normals.shape[1]):
        rows = normals[list(chosen)]
        if abs(np.linalg.det(rows)) > 1e-9:
            point = np.linalg.solve(rows, ends[list(chosen)])
            if (normals @ point <= ends + tolerance * (1 + abs(ends))).all():
                found.append(point)
    return np.array(found).reshape(-1, normals.shape[1])


def clarabel_minimum(direction, constraints, tolerance=1e-9):
    """The smallest value of a linear function, by an interior-point solver."""
    import clarabel
    from scipy import sparse

    normals, ends = half_spaces(constraints)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix((len(direction),) * 2),
        direction,
        sparse.csc_matrix(normals),
        ends,
        [clarabel.NonnegativeConeT(len(ends))],
        settings,
    )
    solution = solver.solve()
    assert str(solution.status) == "Solved"
    return solution.obj_val
