"""Proofs for all images between vertices: bounds of a network over the simplex of weights."""
