"""What is claimed of a polytope: its gaps beside those of other images, and walks on its edges."""

import itertools
import math
import time
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch

from patchcollide.evaluation.controls import Controls, measure_controls
from patchcollide.evaluation.gaps import GapFigures, MeanAndMax, random_pairs
from patchcollide.images.tensors import as_batch
from patchcollide.networks.linear_regions.walk import Walk, margins, walk_segment
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.progress import note, track
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

NUM_SAMPLES = 33
"""How many points of an edge are sampled, at equal distances with both ends."""
_MOST_KEPT_VALUES = 2**28
_BATCH_SIZE = 8


class EdgeFigures(TypedDict):
    """An edge between two vertices; margins are the class's logit less the largest other.

    Attributes:
        edge: The numbers of its vertices.
        sampled_margin: The smallest at the samples.
        worst_margin: The smallest found, walked or sampled.
        worst_at: Where on the edge, 0..1.
        is_exact: Whether it was walked, and no smaller one is next to it.
        complete: Whether the whole edge was walked, so that there is none smaller on it.
        share_walked: The part of its length that was.
        num_pieces: How many linear pieces were.
    """

    edge: list[int]
    sampled_margin: float
    worst_margin: float
    worst_at: float
    is_exact: bool
    complete: bool
    share_walked: float
    num_pieces: int


class WorstOnEdges(TypedDict):
    """The smallest margin of all edges, as :class:`EdgeFigures`; None where there is no edge."""

    worst_edge: list[int] | None
    worst_margin: float | None
    worst_at: float | None
    is_exact: bool | None


class EdgeWalks(WorstOnEdges):
    """What walks along the edges between vertices found.

    Attributes:
        num_edges: How many edges there are.
        num_walked: How many of these were walked.
        num_samples: Of each edge.
        max_pieces: How many pieces of an edge might be walked.
        num_pieces: How many were, of all edges.
        complete: Whether all of all edges was walked.
        share_walked: Of the length of all edges.
        seconds: What it took.
        edges: Each of them: those walked, then the others, both by their sampled margins.
    """

    num_edges: int
    num_walked: int
    num_samples: int
    max_pieces: int
    num_pieces: int
    complete: bool
    share_walked: float
    seconds: float
    edges: list[EdgeFigures]


def images_needed(num_pairs: int) -> int:
    """Returns the smallest number of images that have so many pairs, each counted once."""
    return next(count for count in itertools.count(2) if count * (count - 1) // 2 >= num_pairs)


@proof_modes()
def compare_with_others(
    network: CollisionNetwork,
    target: TargetFeatures,
    images: Sequence[UInt8[ndarray, "side side channels"]],
    hull: GapFigures[MeanAndMax],
    *,
    seed: int,
    num_pairs: int | None = None,
) -> Controls | None:
    """Measures how far images that nobody made collide are from a target, beside a polytope.

    Every image goes through the network once.

    Args:
        network: The network under study.
        target: What the polytope collides with.
        images: From the data set.
        hull: The gaps of its samples; the mean and the worst are set beside the images.
        seed: Decides the pairs.
        num_pairs: At most how many pairs of images; None for all.

    Returns:
        None if no image is left.
    """
    images = images[: max(2, _MOST_KEPT_VALUES // max(network.units, 1))]
    if not images:
        return None
    parts = []
    with torch.no_grad():
        firsts = range(0, len(images), _BATCH_SIZE)
        for first in track(firsts, "Comparing with other images", len(firsts)):
            batch = as_batch(np.stack(images[first : first + _BATCH_SIZE]))
            parts.append(network(batch).pre_activation)
    pairs = random_pairs(len(images), num_pairs, seeded_numpy(seed, Purpose.CONTROL_PAIRS))
    distance = hull["feature_distance_relative"]
    found = {"hull_mean": distance["mean"], "hull_worst": distance["max"]}
    return measure_controls(torch.cat(parts), target, pairs, found)


@proof_modes()
def walk_edges(
    network: CollisionNetwork,
    vertices: Float[Tensor, "vertices channels height width"],
    target_class: int,
    *,
    num_edges: int | None,
    max_pieces: int,
) -> EdgeWalks:
    """Looks for the smallest margin of the target's class on the edges between vertices.

    All edges are sampled in the network's own precision. Those with the smallest margins are then
    walked in float64; the margin is the target's logit less the largest other, so above 0 the
    class is the target's.

    Args:
        network: Piecewise linear.
        vertices: RGB in ``[0, 1]``.
        target_class: The class.
        num_edges: How many edges to walk; None for all.
        max_pieces: How many linear pieces of an edge at most.

    Raises:
        NetworkError: If the network is not piecewise linear.
    """
    begun = time.perf_counter()
    pairs = list(itertools.combinations(range(len(vertices)), 2))
    sampled = _sample_edges(network, vertices, pairs, target_class)
    lowest = min(map(min, sampled.values()), default=math.inf)
    worst_first = sorted(pairs, key=lambda pair: min(sampled[pair]))
    walked = worst_first[:num_edges]
    walks: dict[tuple[int, int], Walk] = {}
    double = network.in_float64()
    points = double.prepared(vertices.double())
    for first, second in track(walked, "Walking the edges", len(walked)):
        note(margin=lowest)
        walks[first, second] = walk_segment(
            double.classifier,
            points[first],
            points[second],
            target_class,
            sampled[first, second],
            max_pieces=max_pieces,
            batch_size=_BATCH_SIZE,
        )
        lowest = min(lowest, walks[first, second].worst_margin)
        note(margin=lowest)
    edges = [_describe_edge(pair, sampled[pair], walks.get(pair)) for pair in worst_first]
    return {
        **_worst(edges),
        "num_edges": len(edges),
        "num_walked": len(walked),
        "num_samples": NUM_SAMPLES,
        "max_pieces": max_pieces,
        "num_pieces": sum(edge["num_pieces"] for edge in edges),
        "complete": all(edge["complete"] for edge in edges),
        "share_walked": float(np.mean([edge["share_walked"] for edge in edges])) if edges else 1.0,
        "seconds": time.perf_counter() - begun,
        "edges": edges,
    }


def _sample_edges(
    network: CollisionNetwork,
    vertices: Float[Tensor, "vertices channels height width"],
    pairs: Sequence[tuple[int, int]],
    target_class: int,
) -> dict[tuple[int, int], list[float]]:
    sampled: dict[tuple[int, int], list[float]] = {}
    for pair in track(pairs, "Sampling the edges", len(pairs)):
        sampled[pair] = _sample_edge(network, vertices[list(pair)], target_class)
        note(margin=min(map(min, sampled.values())))
    return sampled


def _sample_edge(
    network: CollisionNetwork, ends: Float[Tensor, "2 channels height width"], target_class: int
) -> list[float]:
    found = []
    for places in torch.split(torch.linspace(0, 1, NUM_SAMPLES), _BATCH_SIZE):
        points = torch.lerp(ends[:1], ends[1:], places[:, None, None, None])
        with torch.no_grad():
            found.append(margins(network(points).logits, target_class))
    return [float(margin) for margin in torch.cat(found)]


def _describe_edge(
    pair: tuple[int, int], sampled: Sequence[float], walk: Walk | None
) -> EdgeFigures:
    lowest = min(sampled)
    return {
        "edge": list(pair),
        "sampled_margin": lowest,
        "worst_margin": walk.worst_margin if walk else lowest,
        "worst_at": walk.worst_at if walk else sampled.index(lowest) / (len(sampled) - 1),
        "is_exact": walk is not None and walk.is_local_minimum,
        "complete": walk is not None and walk.is_complete,
        "share_walked": walk.share_walked if walk else 0.0,
        "num_pieces": len(walk.pieces) if walk else 0,
    }


def _worst(edges: Sequence[EdgeFigures]) -> WorstOnEdges:
    if not edges:
        return {"worst_edge": None, "worst_margin": None, "worst_at": None, "is_exact": None}
    worst = min(edges, key=lambda edge: edge["worst_margin"])
    return {
        "worst_edge": worst["edge"],
        "worst_margin": worst["worst_margin"],
        "worst_at": worst["worst_at"],
        "is_exact": worst["is_exact"],
    }
