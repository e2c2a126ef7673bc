"""Asking a network about points between images: of a hull, along a tour, and of a null."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation.asking import asked
from patchcollide.evaluation.batches import batch_size
from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.gaps import Gaps, measure_gaps
from patchcollide.evaluation.samples import HullSamples
from patchcollide.evaluation.simplex import combine, round_to_8_bits, tour, uniform_weights
from patchcollide.evaluation.tightness import Likeness, measure_likeness
from patchcollide.images.tensors import as_batch
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.outputs import NetworkOutput
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.progress import note, track
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

# Sparse enough for samples to lie near faces of the simplex, where uniform ones hardly come.
_CONCENTRATION = 0.4

_Said: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
_Found = TypeVar("_Found")


@proof_modes()
def sample_hull(
    network: CollisionNetwork,
    vertices: Float[Tensor, "vertices channels height width"],
    weights: Float[Tensor, "samples vertices"],
    target_class: int,
    features: TargetFeatures,
    *,
    batch_size: int,
    rounding: bool = True,
) -> tuple[HullSamples, Gaps, Likeness]:
    """Asks the network about combinations of images.

    Args:
        network: The network under study.
        vertices: Images in ``[0, 1]``.
        weights: Of each sample; at least one.
        target_class: Whose probability is kept.
        features: What gaps are measured to.
        batch_size: Images that go through the network together.
        rounding: Whether samples are rounded to 8 bits first.

    Returns:
        The samples, all their gaps, and how alike they are to the target.
    """

    def measure(output: NetworkOutput) -> tuple[_Said, Gaps, Likeness]:
        gaps = measure_gaps(output.pre_activation, features)
        alike = measure_likeness(output.pre_activation, features, gaps)
        return _said(output, target_class, gaps.feature_distance_relative), gaps, alike

    found, worst = [], 0.0
    for batch in _answers(network, vertices, weights, batch_size, measure, rounding=rounding):
        found.append(batch)
        worst = _note_worst(worst, batch[0])
    said, gaps, alike = zip(*found, strict=True)
    return _as_samples(weights, said), Gaps.joined(gaps), Likeness.joined(alike)


@proof_modes()
def sample_classes(
    network: CollisionNetwork,
    vertices: Float[Tensor, "vertices channels height width"],
    weights: Float[Tensor, "samples vertices"],
    target_class: int,
    features: TargetFeatures,
    *,
    batch_size: int,
) -> HullSamples:
    """Asks as :func:`sample_hull` does, about what a file of samples holds alone."""

    def measure(output: NetworkOutput) -> _Said:
        tau = relative_feature_distances(output.pre_activation, features)
        return _said(output, target_class, tau)

    said, worst = [], 0.0
    for batch in _answers(network, vertices, weights, batch_size, measure):
        said.append(batch)
        worst = _note_worst(worst, batch)
    return _as_samples(weights, said)


def _answers(
    network: CollisionNetwork,
    vertices: Float[Tensor, "vertices channels height width"],
    weights: Float[Tensor, "samples vertices"],
    batch_size: int,
    measure: Callable[[NetworkOutput], _Found],
    *,
    rounding: bool = True,
) -> Iterator[_Found]:
    def images_of(part: Float[Tensor, "batch vertices"]) -> Tensor:
        images = combine(part, vertices)
        return round_to_8_bits(images) if rounding else images

    parts = torch.split(weights, batch_size)
    answers = asked(network, parts, images_of, measure)
    yield from track(answers, "Sampling the polytope", len(parts))


def _said(output: NetworkOutput, target_class: int, tau: Float[Tensor, "batch"]) -> _Said:
    top, classes = output.probabilities.max(dim=1)
    return classes.cpu(), top.cpu(), output.probabilities[:, target_class].cpu(), tau.cpu()


def _note_worst(before: float, said: _Said) -> float:
    worst = max(before, float(said[-1].max()))
    note(tau=worst)
    return worst


def _as_samples(weights: Float[Tensor, "samples vertices"], said: Sequence[_Said]) -> HullSamples:
    classes, *chances = (torch.cat(column).numpy() for column in zip(*said, strict=True))
    return HullSamples(
        weights.double().numpy(), classes, *(column.astype(np.float32) for column in chances)
    )


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


def _ask(
    network: CollisionNetwork,
    target: Target,
    images: UInt8[ndarray, "vertices height width channels"],
    weights: Float[Tensor, "samples vertices"],
    settings: Evaluation,
) -> HullSamples:
    # A tour goes some ways twice.
    once, places = np.unique(weights.numpy(), axis=0, return_inverse=True)
    found = sample_classes(
        network,
        as_batch(images),
        torch.from_numpy(once),
        target.class_index,
        target.features(network),
        batch_size=batch_size(network, settings, len(once)),
    )
    return found.at(places.reshape(-1))


def check_weights(
    num_samples: int, num_vertices: int, seed: int
) -> Float[Tensor, "samples vertices"]:
    """Returns weights where guesses are checked: half uniform, half near faces of the simplex."""
    generator = seeded(seed, Purpose.CHECKED)
    inside = uniform_weights(-(-num_samples // 2), num_vertices, generator)
    state = int(torch.randint(2**62, (), generator=generator))
    concentration = np.full(num_vertices, _CONCENTRATION)
    near = np.random.default_rng(state).dirichlet(concentration, num_samples // 2)
    return torch.cat([inside, torch.from_numpy(near)])


def null_weights(
    num_samples: int, num_images: int, num_vertices: int, seed: int
) -> Float[Tensor, "samples images"]:
    """Returns weights of so many different images, drawn anew for each sample; others are 0."""
    generator = seeded(seed, Purpose.NULL_HULLS)
    inside = uniform_weights(num_samples, num_vertices, generator)
    rows = [torch.randperm(num_images, generator=generator) for _ in range(num_samples)]
    chosen = torch.stack(rows)[:, :num_vertices]
    weights = torch.zeros(num_samples, num_images, dtype=torch.float64)
    return weights.scatter_(1, chosen, inside)
