"""The numbers of a table: how much of a polytope collides, how surely, and how far it reaches."""

from dataclasses import dataclass
from functools import cached_property
from typing import NotRequired, TypedDict

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation.batches import batch_size
from patchcollide.evaluation.gaps import (
    Boundary,
    GapFigures,
    Gaps,
    MeanAndMax,
    measure_boundary,
    measure_gaps,
)
from patchcollide.evaluation.intervals import wilson_interval
from patchcollide.evaluation.samples import HullSamples, replaced
from patchcollide.evaluation.sampling import sample_classes, sample_hull
from patchcollide.evaluation.simplex import sticks_among, uniform_weights
from patchcollide.evaluation.tightness import Likeness, Tightness
from patchcollide.images.tensors import as_batch, mean_distance, pairwise_distances
from patchcollide.networks.folding import quick_copy
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.outputs import NetworkOutput
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

MOST_UNROUNDED = 200
"""So many samples are enough to show what rounding changes."""

NamedClass = TypedDict("NamedClass", {"class": int, "class_name": str, "probability": float})
"""A class, and how probable the network finds it."""


class ClassFigures(TypedDict):
    """What the network makes of target and source."""

    target_class: int
    target_class_name: str
    target_probability: float
    target_given_as: str
    source_class_name: str
    source_probability: float
    num_vertices: int


class SampleFigures(TypedDict):
    """What the network makes of points between the vertices.

    Attributes:
        num_samples: How many.
        success_rate: The share that is classified as the target.
        success_interval: Its 95 % interval.
        sample_probability_mean: The mean probability of each sample's most probable class, as in
            the paper.
        sample_class_probability_mean: That of the target's class.
    """

    num_samples: int
    success_rate: float
    success_interval: list[float]
    sample_probability_mean: float
    sample_class_probability_mean: float


class StickBreakingFigures(TypedDict):
    """:class:`SampleFigures` with the weights of the paper's evaluation."""

    success_rate_stick_breaking: float
    success_interval_stick_breaking: NotRequired[list[float]]
    sample_probability_mean_stick_breaking: float
    sample_class_probability_mean_stick_breaking: NotRequired[float]


class UnroundedFigures(SampleFigures):
    """Figures without any rounding to 8 bits, of fewer samples."""

    vertex_distance_mean: float


class VertexFigures(NamedClass, GapFigures[float | None]):
    """A vertex: its class, and its gaps behind the activation."""


class DistanceFigures(TypedDict):
    """How far vertices are apart, L2 in 0..255; 0 of a single one."""

    vertex_distance_mean: float
    vertex_distance_min: float


class PolytopeFigures(ClassFigures, SampleFigures, StickBreakingFigures, DistanceFigures):
    """The headline numbers of a polytope."""

    unrounded: UnroundedFigures
    vertices: list[VertexFigures]


class Boundaries(TypedDict):
    """How far vertices, source and target are from the boundary of the target's polytope."""

    vertices: list[Boundary]
    source: Boundary
    target: Boundary


class SourceGaps(TypedDict):
    """The gaps of the source, and where it and the others lie before the activation."""

    source: GapFigures[float | None]
    boundary: NotRequired[Boundaries]


class CollisionGaps(SourceGaps):
    """The gaps of samples, vertices and source behind the activation."""

    hull: GapFigures[MeanAndMax]
    hull_unrounded: GapFigures[MeanAndMax]
    vertices: GapFigures[MeanAndMax]
    vertices_unrounded: GapFigures[MeanAndMax]


@dataclass(frozen=True, eq=False)
class Collision:
    """Vertices that are to collide with a target.

    Attributes:
        network: The network under study.
        source: As the network saw it.
        target: What vertices are to collide with; its class is what samples must get.
        vertices: 8-bit images, as in the PNG files.
        unrounded: The same before rounding, 0 to 255.
    """

    network: CollisionNetwork
    source: UInt8[ndarray, "height width channels"]
    target: Target
    vertices: UInt8[ndarray, "vertices height width channels"]
    unrounded: Float[ndarray, "vertices height width channels"]

    @cached_property
    def features(self) -> TargetFeatures:
        """The target's features, where the network computes."""
        return self.target.features(self.network)

    @cached_property
    def quick(self) -> CollisionNetwork:
        """A network that answers as the one under study, to rounding, and sooner."""
        return quick_copy(self.network)

    @cached_property
    def at_vertices(self) -> NetworkOutput:
        """What the network itself says of the 8-bit vertices: of so few that is worth its time."""
        return self.answer(self.vertices)

    @cached_property
    def at_source(self) -> NetworkOutput:
        """What the network says of the source."""
        return self.answer(self.source[None])

    def answer(
        self,
        images: UInt8[ndarray, "images height width channels"]
        | Float[ndarray, "images height width channels"],
    ) -> NetworkOutput:
        """Returns what the network itself says of a few images, 0 to 255."""
        with torch.no_grad():
            return self.network(as_batch(images))


@dataclass(frozen=True, eq=False)
class Measured:
    """What :func:`evaluate_polytope` measures.

    Attributes:
        figures: The headline numbers.
        gaps: How nearly samples, vertices and source collide.
        hull: The samples of the headline.
        tightness: How tightly these agree with the target.
    """

    figures: PolytopeFigures
    gaps: CollisionGaps
    hull: HullSamples
    tightness: Tightness


@proof_modes()
def evaluate_polytope(collision: Collision, settings: Evaluation, seed: int) -> Measured:
    """Measures the polytope between vertices.

    The headline numbers are of images as a file holds them: 8-bit vertices, and samples between
    them rounded to 8 bits. ``..._stick_breaking`` repeats them with the weights of the paper's
    evaluation, of which those that are among the others are asked for once; and ``unrounded``
    without any rounding, with a quarter of the samples, :data:`MOST_UNROUNDED` at most.

    Args:
        collision: What is measured.
        settings: How many samples.
        seed: Decides the samples.
    """
    unrounded, rounded = as_batch(collision.unrounded), as_batch(collision.vertices)
    count, generator = settings.num_samples, seeded(seed, Purpose.HULL)
    weights = uniform_weights(count, len(rounded), generator)
    size = batch_size(collision.quick, settings, count)

    def sample(
        vertices: Tensor, weights: Tensor, *, rounding: bool = True
    ) -> tuple[HullSamples, Gaps, Likeness]:
        return sample_hull(
            collision.quick,
            vertices,
            weights,
            collision.target.class_index,
            collision.features,
            batch_size=size,
            rounding=rounding,
        )

    samples, hull, alike = sample(rounded, weights)
    sticks = _by_sticks(collision, samples, generator, size)
    # Only shows what rounding changes, for which fewer samples will do.
    fewer = weights[: min(-(-count // 4), MOST_UNROUNDED)]
    loose, loose_hull, _ = sample(unrounded, fewer, rounding=False)
    described, at_vertices, boundary = _describe(collision, collision.at_vertices)
    _, at_unrounded, _ = _describe(collision, collision.answer(collision.unrounded))
    figures: PolytopeFigures = {
        **_classes(collision),
        **_sampled(samples, collision),
        **_named_by_sticks(_sampled(sticks, collision)),
        **_distances(rounded),
        "unrounded": {
            **_sampled(loose, collision),
            "vertex_distance_mean": mean_distance(unrounded),
        },
        "vertices": described,
    }
    gaps: CollisionGaps = {
        "hull": hull.summary(),
        "hull_unrounded": loose_hull.summary(),
        "vertices": at_vertices.summary(),
        "vertices_unrounded": at_unrounded.summary(),
        **_beside(collision, boundary),
    }
    return Measured(figures, gaps, samples, alike.tightness())


def _distances(vertices: Float[Tensor, "vertices channels height width"]) -> DistanceFigures:
    distances = pairwise_distances(vertices)
    return {
        "vertex_distance_mean": mean_distance(vertices),
        "vertex_distance_min": float(distances.min()) if len(distances) else 0.0,
    }


def _beside(collision: Collision, boundary: list[Boundary]) -> SourceGaps:
    """Returns the source's gaps, and the boundaries of all."""
    _, gaps, at_source = _describe(collision, collision.at_source)
    target = collision.features
    (at_target,) = measure_boundary(target.pre_activation[None], target)
    return {
        "source": gaps.rows()[0],
        "boundary": {"vertices": boundary, "source": at_source[0], "target": at_target},
    }


def _classes(collision: Collision) -> ClassFigures:
    target = collision.target
    source_probability, source_class = collision.at_source.probabilities[0].max(dim=0)
    return {
        "target_class": target.class_index,
        "target_class_name": target.class_name,
        "target_probability": target.probability,
        "target_given_as": target.given_as,
        "source_class_name": collision.network.class_name(int(source_class)),
        "source_probability": float(source_probability),
        "num_vertices": len(collision.vertices),
    }


def _sampled(samples: HullSamples, collision: Collision) -> SampleFigures:
    hits = int((samples.classes == collision.target.class_index).sum())
    return {
        "num_samples": len(samples),
        "success_rate": hits / len(samples),
        "success_interval": wilson_interval(hits, len(samples)),
        "sample_probability_mean": float(samples.probabilities.mean(dtype=np.float64)),
        "sample_class_probability_mean": float(samples.target_probabilities.mean(dtype=np.float64)),
    }


def _by_sticks(
    collision: Collision, samples: HullSamples, generator: torch.Generator, size: int
) -> HullSamples:
    """Returns samples by stick-breaking; those that are among the uniform ones are not asked."""
    weights, known = sticks_among(torch.from_numpy(samples.weights), generator)
    if known.all():
        return samples
    others = sample_classes(
        collision.quick,
        as_batch(collision.vertices),
        weights[~known],
        collision.target.class_index,
        collision.features,
        batch_size=size,
    )
    return replaced(samples, ~known.numpy(), others)


def _named_by_sticks(found: SampleFigures) -> StickBreakingFigures:
    return {
        "success_rate_stick_breaking": found["success_rate"],
        "success_interval_stick_breaking": found["success_interval"],
        "sample_probability_mean_stick_breaking": found["sample_probability_mean"],
        "sample_class_probability_mean_stick_breaking": found["sample_class_probability_mean"],
    }


def _describe(
    collision: Collision, output: NetworkOutput
) -> tuple[list[VertexFigures], Gaps, list[Boundary]]:
    """Class, probability, gaps behind the activation and boundary of each image."""
    network = collision.network
    gaps = measure_gaps(output.pre_activation, collision.features)
    described: list[VertexFigures] = []
    for probabilities, figures in zip(output.probabilities, gaps.rows(), strict=True):
        index = int(probabilities.argmax())
        chance, name = float(probabilities[index]), network.class_name(index)
        described.append({"class": index, "class_name": name, "probability": chance, **figures})
    return described, gaps, measure_boundary(output.pre_activation, collision.features)
