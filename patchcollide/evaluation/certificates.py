"""What is claimed of a polytope: its gaps beside those of other images, and walks on its edges."""

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from patchcollide.evaluation.controls import measure_controls
from patchcollide.evaluation.gaps import random_pairs
from patchcollide.images.tensors import as_batch
from patchcollide.networks.linear_regions.walk import Walk, margins, walk_segment
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.progress import track
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

NUM_SAMPLES = 33
_MOST_KEPT_VALUES = 2**28
_BATCH_SIZE = 8


def images_needed(num_pairs: int) -> int:
    """Returns the smallest number of images that have so many pairs, each counted once."""
    return next(count for count in itertools.count(2) if count * (count - 1) // 2 >= num_pairs)


@proof_modes()
def compare_with_others(
    network: CollisionNetwork,
    target: TargetFeatures,
    images: Sequence[UInt8[ndarray, "side side channels"]],
    certificate: dict[str, Any],
    *,
    seed: int,
    num_pairs: int | None = None,
) -> dict[str, Any] | None:
    """Measures how far images that nobody made collide are from a target, beside a polytope.

    Every image goes through the network once.

    Args:
        network: The network under study.
        target: What the polytope collides with.
        images: From the data set.
        certificate: What :func:`patchcollide.evaluation.evaluate.evaluate_polytope` says of the
            gaps; the mean and the worst sample of the hull are set beside the images.
        seed: Decides the pairs.
        num_pairs: At most how many pairs of images; None for all.

    Returns:
        What :func:`patchcollide.evaluation.controls.measure_controls` says; None if no image is
        left.
    """
    images = images[: max(2, _MOST_KEPT_VALUES // max(network.units, 1))]
    if not images:
        return None
    parts = []
    with torch.no_grad():
        for first in range(0, len(images), _BATCH_SIZE):
            batch = as_batch(np.stack(images[first : first + _BATCH_SIZE]))
            parts.append(network(batch).pre_activation)
    pairs = random_pairs(len(images), num_pairs, seeded_numpy(seed, Purpose.CONTROL_PAIRS))
    hull = certificate["hull"]["feature_distance_relative"]
    found = {"hull_mean": hull["mean"], "hull_worst": hull["max"]}
    return measure_controls(torch.cat(parts), target, pairs, found)


@proof_modes()
def walk_edges(
    network: CollisionNetwork,
    vertices: Float[Tensor, "vertices channels height width"],
    target_class: int,
    *,
    num_edges: int | None,
    max_pieces: int,
) -> dict[str, Any]:
    """Looks for the smallest margin of the target's class on the edges between vertices.

    All edges are sampled in the network's own precision. Those with the smallest margins are then
    walked in float64; the margin is the target's logit less the largest other, so above 0 the
    class is the target's.

    Args:
        network: Piecewise linear.
        vertices: RGB in ``[0, 1]``.
        target_class: The class.
        num_edges: How many edges to walk; None for all.
        max_pieces: How many pieces of an edge at most.

    Returns:
        ``worst_margin``, ``worst_edge``, ``worst_at``: the smallest margin, walked or sampled, and
        where; ``is_exact``: whether it was walked, and no smaller one is next to it; ``complete``:
        whether all of all edges was walked; ``share_walked``: of the length of all edges; and
        ``edges``, the same of each. None where there is no edge.

    Raises:
        NetworkError: If the network is not piecewise linear.
    """
    begun = time.perf_counter()
    pairs = list(itertools.combinations(range(len(vertices)), 2))
    sampled = {
        pair: _sample_edge(network, vertices[list(pair)], target_class)
        for pair in track(pairs, "Sampling the edges", len(pairs))
    }
    worst_first = sorted(pairs, key=lambda pair: min(sampled[pair]))
    double = network.in_float64()
    points = double.prepared(vertices.double())
    edges = []
    for pair in track(worst_first[:num_edges], "Walking the edges", len(worst_first[:num_edges])):
        walk = walk_segment(
            double.classifier,
            points[pair[0]],
            points[pair[1]],
            target_class,
            sampled[pair],
            max_pieces=max_pieces,
            batch_size=_BATCH_SIZE,
        )
        edges.append(_describe_edge(pair, sampled[pair], walk))
    edges += [_describe_edge(pair, sampled[pair], None) for pair in worst_first[len(edges) :]]
    return {
        **_worst(edges),
        "num_edges": len(edges),
        "num_walked": len(worst_first[:num_edges]),
        "num_samples": NUM_SAMPLES,
        "max_pieces": max_pieces,
        "num_pieces": sum(edge["num_pieces"] for edge in edges),
        "complete": all(edge["complete"] for edge in edges),
        "share_walked": float(np.mean([edge["share_walked"] for edge in edges])) if edges else 1.0,
        "seconds": time.perf_counter() - begun,
        "edges": edges,
    }


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
) -> dict[str, Any]:
    lowest = min(sampled)
    described = {
        "edge": list(pair),
        "sampled_margin": lowest,
        "worst_margin": lowest,
        "worst_at": sampled.index(lowest) / (len(sampled) - 1),
        "is_exact": False,
        "complete": False,
        "share_walked": 0.0,
        "num_pieces": 0,
    }
    if walk is None:
        return described
    return described | {
        "worst_margin": walk.worst_margin,
        "worst_at": walk.worst_at,
        "is_exact": walk.is_local_minimum,
        "complete": walk.is_complete,
        "share_walked": walk.share_walked,
        "num_pieces": len(walk.pieces),
    }


def _worst(edges: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("worst_margin", "worst_at", "is_exact")
    if not edges:
        return {"worst_edge": None, **dict.fromkeys(names)}
    worst = min(edges, key=lambda edge: float(edge["worst_margin"]))
    return {"worst_edge": worst["edge"], **{name: worst[name] for name in names}}
