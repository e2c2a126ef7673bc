"""The numbers of a table: how much of a polytope collides, how surely, and how far it reaches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation.gaps import Gaps, measure_boundary, measure_gaps
from patchcollide.evaluation.intervals import wilson_interval
from patchcollide.evaluation.samples import HullSamples, sample_hull
from patchcollide.evaluation.simplex import stick_breaking_weights, uniform_weights
from patchcollide.images.tensors import as_batch, pairwise_distances
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes


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
        :class:`patchcollide.evaluation.gaps.Gaps`, and how far vertices, source and target are
        from the boundary, before it, see :class:`patchcollide.evaluation.gaps.Boundary`.
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
        weights = draw(num_samples, len(vertices), seeded(seed, Purpose.HULL))
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
