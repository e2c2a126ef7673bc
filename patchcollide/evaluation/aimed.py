"""Random images between vertices where a failure is likely: along edges, and near the worst found.

Uniform samples hardly come near edges and corners of the weights' simplex. Aimed ones do, and what
each stands for is known, so together they also estimate the share of the whole volume.
"""

import itertools
import math
import time
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation.batches import batch_size
from patchcollide.evaluation.evaluate import Collision
from patchcollide.evaluation.intervals import LEVEL, wilson_interval
from patchcollide.evaluation.samples import HullSamples
from patchcollide.evaluation.sampling import sample_classes
from patchcollide.images.tensors import as_batch
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.shapes import Float64, ndarray
from patchcollide.torch_modes import proof_modes

MOST_OF_EACH = 500
_ALONG, _ACROSS = 1.0, 0.05
_NARROW = (10.0, 100.0, 1000.0)


class Stratum(TypedDict):
    """Samples of one kind.

    Attributes:
        num_samples: How many.
        outside: How many of them are not classified as the target.
        interval: The 95 % Wilson interval of that share, of samples of this kind.
    """

    num_samples: int
    outside: int
    interval: list[float]


class AimedSamples(TypedDict):
    """Where a failure is likely, and what that says of all images between vertices.

    Attributes:
        edges: Near edges, each as likely as another.
        worst: Around the worst image that gradients found.
        outside_share: Of the volume that is not classified as the target, estimated from these and
            the uniform samples together.
        outside_interval: It holds at least 95 of 100 such shares, whatever they are, so it is wide
            where nothing was found; that of uniform samples alone is then sharper.
        num_uniform: How many uniform samples were used.
    """

    edges: Stratum
    worst: Stratum
    outside_share: float
    outside_interval: list[float]
    num_uniform: int


Parameters = list[Float64[ndarray, "vertices"]]
"""Of the Dirichlet distributions that a mixture draws from, each as often as another."""


@proof_modes()
def sample_aimed(
    collision: Collision,
    uniform: HullSamples,
    worst: Float64[ndarray, "vertices"],
    settings: Evaluation,
    seed: int,
    seconds: float,
) -> AimedSamples | None:
    """Asks the network where a failure is likely.

    Args:
        collision: Two vertices at least; of a single one there is nothing to say.
        uniform: Samples that were drawn uniformly, at least one.
        worst: Weights of the worst image found.
        settings: How many images go through the network together.
        seed: Decides the samples.
        seconds: How long at most, beyond a batch of each kind.
    """
    count, target = len(collision.vertices), collision.target.class_index
    if count < 2:
        return None
    kinds = [edge_parameters(count), worst_parameters(worst)]
    drawn: list[list[HullSamples]] = [[], []]
    size = batch_size(collision.quick, settings, MOST_OF_EACH)
    vertices, begun = as_batch(collision.vertices), time.perf_counter()
    for parts in zip(*(_drawn(kind, size, seed) for kind in kinds), strict=True):
        for found, weights in zip(drawn, parts, strict=True):
            points = torch.from_numpy(weights)
            features = collision.features
            found.append(
                sample_classes(collision.quick, vertices, points, target, features, batch_size=size)
            )
        if time.perf_counter() - begun > seconds:
            break
    weights = [np.concatenate([part.weights for part in found]) for found in drawn]
    outside = [np.concatenate([part.classes != target for part in found]) for found in drawn]
    first_kind, second_kind = map(_stratum, outside)
    share, interval = estimate_share(
        [uniform.weights, *weights], [uniform.classes != target, *outside], kinds
    )
    return {
        "edges": first_kind,
        "worst": second_kind,
        "outside_share": share,
        "outside_interval": interval,
        "num_uniform": len(uniform),
    }


def edge_parameters(num_vertices: int) -> Parameters:
    """Returns distributions along each edge, with little weight on all other vertices."""
    found = []
    for pair in itertools.combinations(range(num_vertices), 2):
        parameters = np.full(num_vertices, _ACROSS)
        parameters[list(pair)] = _ALONG
        found.append(parameters)
    return found


def worst_parameters(worst: Float64[ndarray, "vertices"]) -> Parameters:
    """Returns distributions that are densest at a point, the nearer the narrower."""
    return [1 + narrow * worst for narrow in _NARROW]


def _drawn(kind: Parameters, size: int, seed: int) -> Iterator[Float64[ndarray, "_ vertices"]]:
    rng = seeded_numpy(seed, Purpose.AIMED)
    for first in range(0, MOST_OF_EACH, size):
        number = min(size, MOST_OF_EACH - first)
        yield np.stack([rng.dirichlet(kind[rng.integers(len(kind))]) for _ in range(number)])


def _stratum(outside: ndarray) -> Stratum:
    hits, total = int(outside.sum()), len(outside)
    return {"num_samples": total, "outside": hits, "interval": wilson_interval(hits, total)}


def estimate_share(
    weights: list[Float64[ndarray, "_ vertices"]],
    outside: list[ndarray],
    kinds: list[Parameters],
) -> tuple[float, list[float]]:
    """Estimates which share of a simplex's volume is outside, from samples of several kinds.

    Each sample counts by how much more likely a uniform one is there than one of them all.

    Args:
        weights: Of uniform samples first, then of each kind.
        outside: Which of them are.
        kinds: What the others were drawn from.

    Returns:
        The share, without bias but where it would be above 1, and an interval that holds it at
        least 95 times of 100.

    Source:
        Veach and Guibas, "Optimally combining sampling techniques for Monte Carlo rendering",
        SIGGRAPH 1995: the balance heuristic. Maurer and Pontil, "Empirical Bernstein bounds and
        sample variance penalization", COLT 2009, Theorem 11, for the interval.
    """
    counts = [len(part) for part in weights]
    total, hits = sum(counts), np.concatenate(outside)
    points = np.concatenate(weights)[hits]
    density = np.full(len(points), math.log(counts[0] / total))
    for number, kind in zip(counts[1:], kinds, strict=True):
        density = np.logaddexp(density, math.log(number / total) + mixture_density(points, kind))
    values = np.zeros(total)
    values[hits] = np.exp(-density)
    # None is larger: uniform samples are among them.
    largest = total / counts[0]
    share, spread = float(values.mean()), float(values.var(ddof=1))
    logarithm = math.log(4 / (1 - LEVEL))
    half = math.sqrt(2 * spread * logarithm / total) + 7 * largest * logarithm / (3 * (total - 1))
    return min(share, 1.0), [min(max(share - half, 0.0), 1.0), min(share + half, 1.0)]


def mixture_density(
    points: Float64[ndarray, "points vertices"], kind: Parameters
) -> Float64[ndarray, "points"]:
    """Returns the logarithm of a mixture's density, as a multiple of the uniform one's."""
    # Weights of 0 are as near to a face as numbers are.
    logarithms = np.log(np.maximum(points, np.finfo(np.float64).tiny))
    rows = []
    for parameters in kind:
        scale = math.lgamma(parameters.sum()) - math.lgamma(len(parameters))
        scale -= math.fsum(map(math.lgamma, parameters))
        rows.append(scale + logarithms @ (parameters - 1))
    return np.asarray(np.logaddexp.reduce(rows, axis=0) - math.log(len(kind)))
