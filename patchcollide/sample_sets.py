"""The samples of a polytope that its page shows: of the hull, of a tour, and beside them a null."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation import as_batch
from patchcollide.hull_samples import HullSamples, sample_hull
from patchcollide.losses import TargetFeatures
from patchcollide.networks import CollisionNetwork
from patchcollide.polytope import seeded, uniform_weights
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.targets import Target
from patchcollide.tours import tour

# Sparse enough for samples to lie near faces of the simplex, where uniform ones hardly come.
_CONCENTRATION = 0.4


def sample_around(
    network: CollisionNetwork,
    target: Target,
    vertices: UInt8[ndarray, "vertices height width channels"],
    settings: Evaluation,
    seed: int,
) -> dict[str, HullSamples]:
    """Asks the network along a tour of a polytope, and at points to check guesses at.

    Args:
        network: The network under study.
        target: What vertices collide with.
        vertices: 8-bit images.
        settings: How many samples.
        seed: Decides the samples.

    Returns:
        ``tour`` and ``check``.
    """
    along = torch.from_numpy(tour(len(vertices), settings.tour_points))
    checked = check_weights(settings.check_samples, len(vertices), seed)
    return {
        "tour": _ask(network, target, vertices, along, settings),
        "check": _ask(network, target, vertices, checked, settings),
    }


def sample_null(
    network: CollisionNetwork,
    target: Target,
    images: Sequence[UInt8[ndarray, "height width channels"]],
    num_vertices: int,
    settings: Evaluation,
    seed: int,
) -> dict[str, HullSamples]:
    """Asks the network about what lies between random images: polytopes nobody made collide.

    Args:
        network: The network under study.
        target: What vertices collide with.
        images: Of the data set; as many as there are vertices are drawn anew for each sample.
        num_vertices: How many images to combine.
        settings: How many samples.
        seed: Decides the samples.

    Returns:
        ``null``, with weights of all images; nothing if there are too few.
    """
    if len(images) < num_vertices:
        return {}
    weights = null_weights(settings.null_samples, len(images), num_vertices, seed)
    return {"null": _ask(network, target, np.stack(images), weights, settings)}


def name_classes(
    network: CollisionNetwork, samples: Mapping[str, HullSamples]
) -> list[dict[str, Any]]:
    """Names all classes of a polytope's samples, and counts those of the hull; most first."""
    found = np.unique(np.concatenate([samples[kind].classes for kind in ("hull", "tour")]))
    counted = [
        {
            "class": int(index),
            "class_name": network.class_name(int(index)),
            "count": int((samples["hull"].classes == index).sum()),
        }
        for index in found
    ]
    return sorted(counted, key=lambda named: -int(named["count"]))


def _ask(
    network: CollisionNetwork,
    target: Target,
    images: UInt8[ndarray, "vertices height width channels"],
    weights: Float[Tensor, "samples vertices"],
    settings: Evaluation,
) -> HullSamples:
    features = TargetFeatures.of(target.pre_activation.to(network.device), network.blind)
    samples, _ = sample_hull(
        network,
        as_batch(images),
        weights,
        target.class_index,
        features,
        batch_size=settings.batch_size,
    )
    return samples


def check_weights(
    num_samples: int, num_vertices: int, seed: int
) -> Float[Tensor, "samples vertices"]:
    """Returns weights where guesses are checked: half uniform, half near faces of the simplex."""
    generator = seeded(seed, 7)
    inside = uniform_weights(-(-num_samples // 2), num_vertices, generator)
    state = int(torch.randint(2**62, (), generator=generator))
    concentration = np.full(num_vertices, _CONCENTRATION)
    near = np.random.default_rng(state).dirichlet(concentration, num_samples // 2)
    return torch.cat([inside, torch.from_numpy(near)])


def null_weights(
    num_samples: int, num_images: int, num_vertices: int, seed: int
) -> Float[Tensor, "samples images"]:
    """Returns weights of so many different images, drawn anew for each sample; others are 0."""
    generator = seeded(seed, 8)
    inside = uniform_weights(num_samples, num_vertices, generator)
    rows = [torch.randperm(num_images, generator=generator) for _ in range(num_samples)]
    chosen = torch.stack(rows)[:, :num_vertices]
    weights = torch.zeros(num_samples, num_images, dtype=torch.float64)
    return weights.scatter_(1, chosen, inside)
