"""The polytope between vertices, as convex weights of them: random points, and a tour.

The tour goes along the edges, then into the inside. Pages, animations and explorers move along it;
what they show is made from the weights.
"""

import itertools
import math

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.images.tensors import as_batch, as_pictures
from patchcollide.shapes import Bool, Float, Float64, Tensor, UInt8, ndarray

CENTRE = -1
"""The stop of a tour that is no vertex: the mean of all of them."""

_MOST_LEGS = 50


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


def face_weights(
    count: int, num_vertices: int, generator: torch.Generator
) -> Float64[Tensor, "count vertices"]:
    """Draws points on random faces: as many vertices as are drawn from 2 to all, then uniformly.

    Of uniform points few are near an edge, where a hull's features are often farthest.

    Args:
        count: How many.
        num_vertices: Of the hull; at least 2.
        generator: Draws them.
    """
    sizes = torch.randint(2, num_vertices + 1, (count, 1), generator=generator)
    ranks = torch.rand(count, num_vertices, generator=generator).argsort(dim=1)
    draws = uniform_weights(count, num_vertices, generator) * (ranks < sizes)
    return draws / draws.sum(dim=1, keepdim=True)


def sticks_among(
    uniform: Float[Tensor, "samples vertices"], generator: torch.Generator
) -> tuple[Float[Tensor, "samples vertices"], Bool[Tensor, "samples"]]:
    """Draws as many weights as :func:`stick_breaking_weights` does, most of them among others.

    Both draws have densities on the simplex. A uniform point stays with the probability
    ``min(1, sticks / uniform)`` of these; where it does not, one is drawn from what the stick
    density has above the uniform one. So each row is an independent draw by stick-breaking, while
    as many rows as can be are points that the network was asked about already.

    Args:
        uniform: Of :func:`uniform_weights`.
        generator: Decides the rest.

    Returns:
        The weights, and which rows are those of ``uniform``.

    Source:
        The maximal coupling of two distributions; see H. Thorisson, "Coupling, Stationarity, and
        Regeneration", 2000, Section 1.4.
    """
    count, num_vertices = uniform.shape
    chance = torch.rand(count, generator=generator, dtype=torch.float64)
    stays = chance.log() <= _stick_log_density(uniform)
    weights = uniform.clone()
    missing = (~stays).nonzero()[:, 0]
    while len(missing):
        drawn = stick_breaking_weights(len(missing), num_vertices, generator)
        chance = torch.rand(len(missing), generator=generator, dtype=torch.float64)
        taken = chance > torch.exp(-_stick_log_density(drawn))
        weights[missing[taken]] = drawn[taken]
        missing = missing[~taken]
    return weights, stays


def _stick_log_density(weights: Float[Tensor, "samples vertices"]) -> Float[Tensor, "samples"]:
    """The logarithm of the stick-breaking density over the uniform one, which is ``(n - 1)!``."""
    num_vertices = weights.shape[1]
    left = 1 - weights.cumsum(dim=1)[:, : max(num_vertices - 2, 0)]
    # Rounding may leave nothing, or less.
    return -left.clamp(min=1e-300).log().sum(dim=1) - math.lgamma(max(num_vertices, 1))


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


def tour(num_vertices: int, samples_per_leg: int) -> Float64[ndarray, "points vertices"]:
    """Returns the weights of points along a tour, which starts and ends at vertex 0.

    It goes straight from stop to stop of :func:`tour_stops`, in equal steps.

    Args:
        num_vertices: At least one.
        samples_per_leg: Steps from a stop to the next; the first point of the tour comes before
            them, so that there are ``1 + samples_per_leg * legs`` points.

    Raises:
        ValueError: If a count is below one.
    """
    if samples_per_leg < 1:
        raise ValueError(f"Expected at least one sample a leg, but got {samples_per_leg}.")
    stops = tour_stops(num_vertices)
    corners = np.vstack([np.eye(num_vertices), np.full(num_vertices, 1 / num_vertices)])
    points = [corners[stops[:1]]]
    # CENTRE is the last row of the corners.
    for start, stop in itertools.pairwise(stops):
        shares = np.arange(1, samples_per_leg + 1)[:, None] / samples_per_leg
        points.append((1 - shares) * corners[start] + shares * corners[stop])
    return np.concatenate(points)


def tour_stops(num_vertices: int) -> list[int]:
    """Returns the vertices that a tour goes to, in order, with :data:`CENTRE` among them.

    First every edge once; where the number of vertices is even and above two, as few as can be are
    walked again, half the vertices less one. Then to the centre, from there to each other vertex
    and back, and to vertex 0. Above ten vertices the edges are some of all, but lead to each
    vertex, and the centre is visited once. A single vertex is the whole tour.

    Source:
        The edges are in the order of Walecki's decomposition of a complete graph into cycles
        through all its vertices; see Alspach, "The wonderful Walecki construction", 2008.

    Raises:
        ValueError: If there is no vertex.
    """
    if num_vertices < 1:
        raise ValueError(f"Expected at least one vertex, but got {num_vertices}.")
    if num_vertices == 1:
        return [0]
    rounds = min(num_vertices // 2, max(1, _MOST_LEGS // num_vertices))
    if num_vertices % 2:
        inner = num_vertices - 1
        stops = [0]
        for start in range(rounds):
            stops += [1 + vertex for vertex in _zigzag(start, inner)] + [0]
    else:
        stops = [vertex for start in range(rounds) for vertex in _zigzag(start, num_vertices)]
    others = [vertex for vertex in range(1, num_vertices) if vertex != stops[-1]]
    if rounds < num_vertices // 2:
        others = []
    for vertex in others:
        stops += [CENTRE, vertex]
    return [*stops, CENTRE, 0]


def leg_labels(num_vertices: int) -> list[str]:
    """Returns what each leg of a tour is, such as "vertex 3 to the centre"; none of one vertex."""
    stops = tour_stops(num_vertices)
    return [f"{_name(a)} to {_name(b)}" for a, b in itertools.pairwise(stops)]


def _zigzag(start: int, count: int) -> list[int]:
    """Returns a path through an even number of vertices; half as many starts share no edge."""
    steps = [(-place // 2) if place % 2 == 0 else (place + 1) // 2 for place in range(count)]
    return [(start + step) % count for step in steps]


def _name(stop: int) -> str:
    return "the centre" if stop == CENTRE else f"vertex {stop}"


def hull_images(
    weights: Float[Tensor, "samples vertices"],
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> UInt8[ndarray, "samples height width channels"]:
    """Returns convex combinations of 8-bit images, rounded to 8 bits as those measured are."""
    corners, found = as_batch(vertices), []
    # A batch at a time: as floats, thousands of images would not fit into memory.
    for part in torch.split(weights, Evaluation().batch_size):
        found.append(as_pictures(combine(part, corners)))
    return np.concatenate(found)
