"""The numbers of a table: how much of a polytope collides, how surely, and how far it reaches."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from patchcollide.boundaries import measure_boundary
from patchcollide.channels import to_channels
from patchcollide.config import Evaluation
from patchcollide.gaps import Gaps, measure_gaps
from patchcollide.hull_samples import HullSamples, sample_hull
from patchcollide.losses import TargetFeatures, pairwise_distances
from patchcollide.networks import CollisionNetwork
from patchcollide.parameterisations import resized
from patchcollide.polytope import (
    combine,
    round_to_8_bits,
    seeded,
    stick_breaking_weights,
    uniform_weights,
)
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.store import PatchStore
from patchcollide.targets import Target
from patchcollide.torch_modes import proof_modes

_NORMAL_QUANTILE = 1.959963984540054
"""Of 0.975: an interval of 95 % leaves as much at either end."""


@proof_modes()
def evaluate_polytope(
    network: CollisionNetwork,
    *,
    source: UInt8[ndarray, "height width channels"],
    target: Target,
    vertices: UInt8[ndarray, "vertices height width channels"],
    unrounded: Float[ndarray, "vertices height width channels"],
    settings: Evaluation,
    seed: int,
) -> tuple[dict[str, Any], HullSamples]:
    """Measures the polytope between vertices.

    The headline numbers are of images as a file holds them: 8-bit vertices, and samples between
    them rounded to 8 bits. ``..._stick_breaking`` repeats them with the weights of the paper's
    evaluation, and ``unrounded`` without any rounding, with a quarter of the samples.

    Args:
        network: The network under study.
        source: As the network saw it.
        target: What vertices are to collide with; its class is what samples must get.
        vertices: 8-bit images, as in the PNG files.
        unrounded: The same before rounding, 0 to 255.
        settings: How many samples.
        seed: Decides the samples.

    Returns:
        The entries of ``summary.json`` that this measures, and the samples of the headline.
        ``sample_probability_mean`` is the mean probability of each sample's most probable class, as
        in the paper; ``sample_class_probability_mean`` that of the target's class. ``certificate``
        holds the gaps of the samples, the vertices and the source, behind the activation, see
        :class:`patchcollide.gaps.Gaps`, and how far vertices, source and target are from the
        boundary, before it, see :class:`patchcollide.boundaries.Boundary`.
    """
    _, source_name, source_probability = network.top(source)
    exact = as_batch(unrounded)
    rounded = as_batch(vertices)
    target_class = target.class_index
    features = TargetFeatures.of(target.pre_activation.to(network.device), network.blind)

    def sample(
        vertices: Tensor,
        draw: Callable[[int, int, torch.Generator], Tensor],
        rounding: bool,
        num_samples: int,
    ) -> tuple[HullSamples, Gaps]:
        weights = draw(num_samples, len(vertices), seeded(seed, 3))
        size = settings.batch_size
        return sample_hull(
            network, vertices, weights, target_class, features, batch_size=size, rounding=rounding
        )

    samples, hull = sample(rounded, uniform_weights, True, settings.num_samples)
    sticks, _ = sample(rounded, stick_breaking_weights, True, settings.num_samples)
    # Only shows what rounding changes, for which fewer samples will do.
    loose, loose_hull = sample(exact, uniform_weights, False, -(-settings.num_samples // 4))
    by_sticks = _figures(sticks, target_class)
    distances = pairwise_distances(rounded)
    described, at_vertices, boundary = _describe_vertices(network, features, rounded)
    _, at_exact, _ = _describe_vertices(network, features, exact)
    _, at_source, at_start = _describe_vertices(network, features, as_batch(source[None]))
    measured = {
        "target_class": target_class,
        "target_class_name": target.class_name,
        "target_probability": target.probability,
        "target_given_as": target.given_as,
        "source_class_name": source_name,
        "source_probability": source_probability,
        "num_vertices": len(vertices),
        **_figures(samples, target_class),
        **{
            f"{name}_stick_breaking": by_sticks[name]
            for name in (
                "success_rate",
                "success_interval",
                "sample_probability_mean",
                "sample_class_probability_mean",
            )
        },
        "vertex_distance_mean": _mean(distances),
        "vertex_distance_min": float(distances.min()) if len(distances) else 0.0,
        "unrounded": {
            **_figures(loose, target_class),
            "vertex_distance_mean": _mean(pairwise_distances(exact)),
        },
        "vertices": described,
        "certificate": {
            "hull": hull.summary(),
            "hull_unrounded": loose_hull.summary(),
            "vertices": at_vertices.summary(),
            "vertices_unrounded": at_exact.summary(),
            "source": at_source.rows()[0],
            "boundary": {
                "vertices": boundary,
                "source": at_start[0],
                "target": measure_boundary(features.pre_activation[None], features)[0],
            },
        },
    }
    return measured, samples


def as_batch(
    images: UInt8[ndarray, "batch height width channels"]
    | Float[ndarray, "batch height width channels"],
) -> Float[Tensor, "batch channels height width"]:
    """Returns images of 0..255 as the network takes them: RGB in ``[0, 1]``, channels first."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def hull_images(
    weights: Float[Tensor, "samples vertices"],
    vertices: UInt8[ndarray, "vertices height width channels"],
) -> UInt8[ndarray, "samples height width channels"]:
    """Returns convex combinations of 8-bit images, rounded to 8 bits as those measured are."""
    corners, found = as_batch(vertices), []
    # A batch at a time: as floats, thousands of images would not fit into memory.
    for part in torch.split(weights, Evaluation().batch_size):
        images = 255 * round_to_8_bits(combine(part, corners))
        found.append(images.permute(0, 2, 3, 1).round().numpy().astype(np.uint8))
    return np.concatenate(found)


def _mean(distances: Tensor) -> float:
    return float(distances.mean()) if len(distances) else 0.0


def _figures(samples: HullSamples, target_class: int) -> dict[str, Any]:
    hits = int((samples.classes == target_class).sum())
    return {
        "num_samples": len(samples),
        "success_rate": hits / len(samples),
        "success_interval": wilson_interval(hits, len(samples)),
        "sample_probability_mean": float(samples.probabilities.mean(dtype=np.float64)),
        "sample_class_probability_mean": float(samples.target_probabilities.mean(dtype=np.float64)),
    }


def wilson_interval(hits: int, total: int) -> list[float]:
    """Returns the 95 % Wilson score interval of a share.

    Source:
        Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in
        Medicine 17, 1998, method 3. As ``scipy.stats.binomtest``, which takes seconds to import.
    """
    share, squared = hits / total, _NORMAL_QUANTILE**2
    size = 2 * (total + squared)
    centre = (2 * total * share + squared) / size
    spread = math.sqrt(4 * total * share * (1 - share) + squared)
    half = _NORMAL_QUANTILE / size * spread
    return [0.0 if hits == 0 else centre - half, 1.0 if hits == total else centre + half]


def _describe_vertices(
    network: CollisionNetwork,
    features: TargetFeatures,
    vertices: Float[Tensor, "vertices channels height width"],
) -> tuple[list[dict[str, Any]], Gaps, list[dict[str, float]]]:
    """Class, probability, gaps behind the activation and boundary of each vertex."""
    with torch.no_grad():
        output = network(vertices)
    gaps = measure_gaps(output.pre_activation, features)
    described = []
    for probabilities, figures in zip(output.probabilities, gaps.rows(), strict=True):
        index = int(probabilities.argmax())
        chance = float(probabilities[index])
        name = network.class_name(index)
        described.append({"class": index, "class_name": name, "probability": chance, **figures})
    return described, gaps, measure_boundary(output.pre_activation, features)


@proof_modes()
def dataset_distance(
    store: PatchStore, num_pairs: int, seed: int, *, size: int, channels: int = 3
) -> float | None:
    """Returns the mean L2 distance of random pairs of a store's images, in 0..255.

    Pairs are of two different readable images, scaled to ``size`` pixels, as vertices are; None if
    there are not two.
    """
    readable = np.flatnonzero(store.valid)
    if len(readable) < 2:
        return None
    rng = np.random.default_rng([seed, 4])
    total = 0.0
    for _ in range(num_pairs):
        first, second = rng.choice(readable, size=2, replace=False)
        images = np.stack([store.image(int(first)), store.image(int(second))])
        pair = as_batch(to_channels(images, channels))
        total += float(pairwise_distances(resized(pair, size)))
    return total / num_pairs
