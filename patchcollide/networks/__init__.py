"""Frozen classifiers: layers, activations and their blind regions, affine maps, targets."""
