"""Simplices of convex weights: their corners, halves, and shares of the whole."""

import itertools
from collections.abc import Sequence

import torch

from patchcollide.shapes import Float64, Int64, Tensor


def whole(num_vertices: int) -> Float64[Tensor, "1 corners vertices"]:
    """Returns the simplex of all weights: a corner is all of one vertex."""
    return torch.eye(num_vertices, dtype=torch.float64)[None]


def face(num_vertices: int, corners: Sequence[int]) -> Float64[Tensor, "1 corners vertices"]:
    """Returns the simplex between some of the vertices."""
    return whole(num_vertices)[:, list(corners)]


def around_centre(num_vertices: int, scale: float) -> Float64[Tensor, "1 corners vertices"]:
    """Returns the whole simplex, shrunk towards its centre to a share of its size."""
    centre = torch.full((num_vertices,), 1 / num_vertices, dtype=torch.float64)
    return centre + scale * (whole(num_vertices) - centre)


def halved(
    simplices: Float64[Tensor, "cells corners vertices"],
    products: Float64[Tensor, "vertices vertices"],
    weakest: Int64[Tensor, "cells"] | None = None,
) -> Float64[Tensor, "halves corners vertices"]:
    """Cuts each simplex in two at the middle of its longest edge, or of one from a corner.

    The middles of weights that began as whole numbers are exact in float64, so the halves are all
    of the simplex.

    Args:
        simplices: With two corners at least.
        products: Inner products of the vertices, in which edges are measured.
        weakest: The corner where a bound is lowest, or -1: it rises most where edges from there are
            cut, so these count for twice their lengths.

    Returns:
        First one half of each, then the other.
    """
    pairs = torch.tensor(list(itertools.combinations(range(simplices.shape[1]), 2)))
    edges = simplices[:, pairs[:, 0]] - simplices[:, pairs[:, 1]]
    lengths = torch.einsum("cev,vw,cew->ce", edges, products, edges)
    # Vertices may be equal: then weights alone say which edge is long.
    lengths = lengths + 1e-9 * edges.square().sum(dim=2) * products.diagonal().mean()
    if weakest is not None:
        lengths = torch.where((pairs == weakest[:, None, None]).any(dim=2), 4 * lengths, lengths)
    first, second = pairs[lengths.argmax(dim=1)].unbind(1)
    rows = torch.arange(len(simplices))
    middle = (simplices[rows, first] + simplices[rows, second]) / 2
    halves = simplices.repeat(2, 1, 1)
    halves[rows, first] = middle
    halves[len(simplices) + rows, second] = middle
    return halves


def at_corners(
    simplices: Float64[Tensor, "cells corners vertices"],
    vertices: Float64[Tensor, "vertices channels height width"],
) -> Float64[Tensor, "cells corners 1 channels height width"]:
    """Returns the images at the corners of simplices, each a batch of one."""
    return combined(simplices, vertices)[:, :, None]


def combined(weights: Tensor, vertices: Tensor) -> Tensor:
    """Returns images by their weights, whatever stands before the weights' last dimension."""
    return (weights @ vertices.flatten(1)).reshape(*weights.shape[:-1], *vertices.shape[1:])


def projected(points: Float64[Tensor, "points vertices"]) -> Float64[Tensor, "points vertices"]:
    """Returns the nearest weights: not negative, with a sum of 1.

    Source:
        Held, Wolfe and Crowder, "Validation of subgradient optimization", 1974.
    """
    falling = points.sort(dim=1, descending=True).values
    ranks = torch.arange(1, points.shape[1] + 1, dtype=points.dtype)
    levels = (falling.cumsum(dim=1) - 1) / ranks
    last = (falling > levels).sum(dim=1, keepdim=True) - 1
    found = (points - levels.gather(1, last)).clamp(min=0)
    return found / found.sum(dim=1, keepdim=True)
