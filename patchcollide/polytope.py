"""The polytope between vertices: random convex combinations of images."""

import numpy as np
import torch

from patchcollide.shapes import Float, Tensor


def uniform_weights(
    num_samples: int, num_vertices: int, generator: torch.Generator
) -> Float[Tensor, "samples vertices"]:
    """Draws points uniformly from the simplex: normalised exponential variables."""
    draws = torch.empty(num_samples, num_vertices, dtype=torch.float64)
    draws.exponential_(generator=generator)
    return draws / draws.sum(dim=1, keepdim=True)


def stick_breaking_weights(
    num_samples: int, num_vertices: int, generator: torch.Generator
) -> Float[Tensor, "samples vertices"]:
    """Draws weights as the released code does: each uniform on what is left, the last the rest.

    This favours the first vertices and corners; :func:`uniform_weights` is the fair measure.
    """
    shares = torch.rand(num_samples, num_vertices, generator=generator, dtype=torch.float64)
    shares[:, -1] = 1
    left = torch.cat([torch.ones(num_samples, 1, dtype=torch.float64), 1 - shares[:, :-1]], dim=1)
    return shares * torch.cumprod(left, dim=1)


def edge_middles(num_vertices: int, most: int) -> Float[Tensor, "edges vertices"]:
    """Returns the weights of the middles of the edges: of all, or of ``most`` spread over all."""
    pairs = torch.combinations(torch.arange(num_vertices), 2)
    pairs = pairs[:: -(-len(pairs) // most)] if len(pairs) else pairs
    return torch.zeros(len(pairs), num_vertices, dtype=torch.float64).scatter_(1, pairs, 0.5)


def combine(
    weights: Float[Tensor, "samples vertices"],
    vertices: Float[Tensor, "vertices channels height width"],
) -> Float[Tensor, "samples channels height width"]:
    """Returns the convex combinations of ``vertices`` with these ``weights``; differentiable."""
    flat = weights.to(vertices.dtype) @ vertices.flatten(start_dim=1)
    return flat.reshape(-1, *vertices.shape[1:])


def round_to_8_bits(
    images: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """Rounds images in ``[0, 1]`` to what an 8-bit file holds, still in ``[0, 1]``."""
    return (255 * images).round() / 255


def seeded(*seeds: int) -> torch.Generator:
    """Returns a random generator for a seed and the purposes it is split into."""
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
