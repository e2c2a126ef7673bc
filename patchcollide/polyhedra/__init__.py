"""Exact polyhedra by linear programs: constraints, vertices, extents, Proposition 1."""
