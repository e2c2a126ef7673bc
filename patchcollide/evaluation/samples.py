"""What a network says of images between vertices, one by one, and the file that holds it.

A run's page shows samples of the hull and of a tour, and beside them a null: of random images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from patchcollide.errors import RunError
from patchcollide.io.hdf5 import Hdf5Reader, open_hdf5, write_hdf5
from patchcollide.networks.network import CollisionNetwork
from patchcollide.shapes import Bool, Float32, Float64, Int64, ndarray

ENCODING = "patchcollide-samples"

VERSION = "2"

_OLDER = ("1",)

KINDS = ("hull", "tour", "check", "null")

NEAREST = 16

_POWER = 4

_TOGETHER = 64


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

    def at(self, places: Int64[ndarray, "chosen"]) -> "HullSamples":
        """Returns the samples at these places, in their order."""
        return HullSamples(*(getattr(self, field.name)[places] for field in fields(self)))


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


def replaced(
    samples: HullSamples, which: Bool[ndarray, "samples"], others: HullSamples
) -> HullSamples:
    """Returns samples with other ones in some places, in their order."""
    columns = []
    for field in fields(HullSamples):
        column = getattr(samples, field.name).copy()
        column[which] = getattr(others, field.name)
        columns.append(column)
    return HullSamples(*columns)


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
