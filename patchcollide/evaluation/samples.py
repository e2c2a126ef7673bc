"""What a network says of images between vertices, one by one, and the file that holds it.

A run's page shows samples of the hull and of a tour, and beside them a null: of random images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from patchcollide.config import Evaluation
from patchcollide.errors import RunError
from patchcollide.evaluation.gaps import Gaps, measure_gaps
from patchcollide.evaluation.simplex import combine, round_to_8_bits, tour, uniform_weights
from patchcollide.evaluation.tightness import Likeness, measure_likeness
from patchcollide.images.tensors import as_batch
from patchcollide.io.hdf5 import Hdf5Reader, open_hdf5, write_hdf5
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.progress import track
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Float32, Float64, Int64, Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

ENCODING = "patchcollide-samples"

VERSION = "2"

_OLDER = ("1",)

KINDS = ("hull", "tour", "check", "null")

NEAREST = 16

_POWER = 4

_TOGETHER = 64

# Sparse enough for samples to lie near faces of the simplex, where uniform ones hardly come.
_CONCENTRATION = 0.4


ClassCount = TypedDict("ClassCount", {"class": int, "class_name": str, "count": int})
"""A class, and how many samples it was given to."""


class InterpolationError(TypedDict):
    """How far guesses are off, of ``count`` samples: mean, 95 % quantile and largest error."""

    count: float
    mean: float
    quantile: float
    max: float


@dataclass(frozen=True)
class HullSamples:
    """Convex combinations of images, rounded to 8 bits, and what the network says of each.

    Attributes:
        weights: Of the images combined; a row sums to 1.
        classes: The most probable class.
        probabilities: Its probability, 0..1.
        target_probabilities: That of the target's class.
        feature_distances: Relative distance of features to the target's, behind the activation: tau
            of :mod:`patchcollide.evaluation.feature_distances`. NaN where an older version of the
            file did not measure it.
    """

    weights: Float64[ndarray, "samples vertices"]
    classes: Int64[ndarray, "samples"]
    probabilities: Float32[ndarray, "samples"]
    target_probabilities: Float32[ndarray, "samples"]
    feature_distances: Float32[ndarray, "samples"]

    def __len__(self) -> int:
        return len(self.weights)


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
    parts = torch.split(weights, batch_size)
    columns: list[list[Tensor]] = [[], [], []]
    gaps, alike = [], []
    for part in track(parts, "Sampling the polytope", len(parts)):
        samples = combine(part, vertices)
        with torch.no_grad():
            output = network(round_to_8_bits(samples) if rounding else samples)
        gaps.append(measure_gaps(output.pre_activation, features))
        alike.append(measure_likeness(output.pre_activation, features, gaps[-1]))
        top, classes = output.probabilities.max(dim=1)
        of_target = output.probabilities[:, target_class]
        for column, values in zip(columns, (classes, top, of_target), strict=True):
            column.append(values.cpu())
    found = Gaps.joined(gaps)
    numbers, chances, chances_of_target = (torch.cat(column).numpy() for column in columns)
    samples_found = HullSamples(
        weights=weights.double().numpy(),
        classes=numbers,
        probabilities=chances.astype(np.float32),
        target_probabilities=chances_of_target.astype(np.float32),
        feature_distances=found.columns()["feature_distance_relative"].astype(np.float32),
    )
    return samples_found, found, Likeness.joined(alike)


def interpolate(
    samples: HullSamples, weights: Float64[ndarray, "points vertices"]
) -> Float64[ndarray, "points"]:
    """Guesses the probability of the target's class at points of the polytope.

    Each is the mean over the :data:`NEAREST` samples nearest in the space of weights, weighted by
    the inverse fourth power of the distance: at a sample it is the sample's own.

    Args:
        samples: Where the network was asked; at least one.
        weights: The points.
    """
    values = samples.target_probabilities.astype(np.float64)
    guesses = []
    for first in range(0, len(weights), _TOGETHER):
        part = weights[first : first + _TOGETHER]
        squares = np.square(part[:, None] - samples.weights[None]).sum(axis=2)
        nearest = np.argsort(squares, axis=1, kind="stable")[:, :NEAREST]
        influence = (np.take_along_axis(squares, nearest, axis=1) + 1e-12) ** (-_POWER / 2)
        guesses.append((influence * values[nearest]).sum(axis=1) / influence.sum(axis=1))
    return np.concatenate(guesses)


def joined(*parts: HullSamples) -> HullSamples:
    """Returns several sets of samples of the same vertices as one."""
    columns = ([getattr(part, field.name) for part in parts] for field in fields(HullSamples))
    return HullSamples(*(np.concatenate(column) for column in columns))


def interpolation_error(samples: HullSamples, check: HullSamples) -> InterpolationError:
    """Compares guesses with what the network says."""
    errors = np.abs(interpolate(samples, check.weights) - check.target_probabilities)
    return {
        "count": float(len(check)),
        "mean": float(errors.mean()),
        "quantile": float(np.quantile(errors, 0.95)),
        "max": float(errors.max()),
    }


def save_samples(path: Path, samples: Mapping[str, HullSamples], fingerprint: str) -> None:
    """Writes ``samples.h5``.

    Args:
        path: The file.
        samples: By kind, of :data:`KINDS`: drawn uniformly from the hull, along the tour, to check
            the interpolation, and between random images of the data set. ``null`` may be missing.
        fingerprint: Of the run's vertices.

    Raises:
        DiskFullError: If the disk is full.
    """
    write_hdf5(
        path,
        encoding=ENCODING,
        version=VERSION,
        datasets={
            f"{kind}_{name}": value
            for kind, part in samples.items()
            for name, value in vars(part).items()
        },
        attributes={"fingerprint": fingerprint, "kinds": list(samples)},
    )


def load_samples(path: Path, fingerprint: str) -> dict[str, HullSamples]:
    """Reads ``samples.h5``.

    Raises:
        RunError: If it is missing, damaged, or of other vertices.
    """
    with open_hdf5(path, encoding=ENCODING, version=VERSION, error=RunError, older=_OLDER) as file:
        if file.attribute("fingerprint") != fingerprint:
            raise RunError(
                f"{path} is of other vertices than the PNG files beside it. Measure the run again "
                f"with `patchcollide evaluate {path.parent}`."
            )
        kinds = file.attribute("kinds")
        if not isinstance(kinds, list) or not {"hull", "tour", "check"} <= set(kinds) <= set(KINDS):
            raise RunError(f"{path} is damaged: it holds samples of {kinds}. Evaluate the run.")
        return {str(kind): _read_samples(file, str(kind)) for kind in kinds}


def _read_samples(file: Hdf5Reader, kind: str) -> HullSamples:
    weights = file.array(f"{kind}_weights", np.float64, (None, None))

    def column(name: str, dtype: Any) -> Any:
        return file.array(f"{kind}_{name}", dtype, (len(weights),))

    # Before version 2 gaps were measured before the activation, which says something else.
    is_old = file.version in _OLDER
    unknown = np.full(len(weights), np.nan, np.float32)
    return HullSamples(
        weights,
        column("classes", np.int64),
        column("probabilities", np.float32),
        column("target_probabilities", np.float32),
        unknown if is_old else column("feature_distances", np.float32),
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


def name_classes(network: CollisionNetwork, samples: Mapping[str, HullSamples]) -> list[ClassCount]:
    """Names all classes of a polytope's samples, and counts those of the hull; most first."""
    found = np.unique(np.concatenate([samples[kind].classes for kind in ("hull", "tour")]))
    counted: list[ClassCount] = [
        {
            "class": int(index),
            "class_name": network.class_name(int(index)),
            "count": int((samples["hull"].classes == index).sum()),
        }
        for index in found
    ]
    return sorted(counted, key=lambda named: -named["count"])


def _ask(
    network: CollisionNetwork,
    target: Target,
    images: UInt8[ndarray, "vertices height width channels"],
    weights: Float[Tensor, "samples vertices"],
    settings: Evaluation,
) -> HullSamples:
    vertices, features = as_batch(images), target.features(network)
    size = settings.batch_size
    samples, _, _ = sample_hull(
        network, vertices, weights, target.class_index, features, batch_size=size
    )
    return samples


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
