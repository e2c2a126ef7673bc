"""One number for a network: how little that people see escapes it, on some images.

An image's blindness is how large the polytope is of what its layer takes for the image, times how
sure the network is of its answer there, times how much of that people can see:
``min(size / whole, 1) * hull probability * sqrt(coarse share)``, each in 0..1. Size times the last
is the vertices' distance in coarse detail alone (:mod:`patchcollide.visibility`), so noise, however
much it does to the structural similarity of two images, counts for the little of it that is coarse,
and brightness for all of it. ``whole`` is the size of the
polytope that holds all images, as a layer has that sees nothing: its vertices in random directions
are random corners of the box of pixels, on average ``255 * sqrt(values / 2)`` apart. The adequacy
is 1 less the mean over the images: 0 for a network that sees nothing and is certain, 1 where
nothing visible collides.

The paper proposes no such number; the factors are what its Section 4 reports of a collision. A
network that is sure of nothing is not blind by this measure, so its accuracy belongs beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchcollide.intervals import mean_interval
from patchcollide.shapes import Float64, ndarray


@dataclass(frozen=True)
class Adequacy:
    """The adequacy of a network and what it is made of: means over images, in 0..1.

    Attributes:
        score: See above.
        interval: Its 95 % interval over images; None where it has none, as of a single image.
        size: Sizes as shares of that of all images.
        certainty: The probability of the predicted class between the vertices.
        visibility: The share of the vertices' distance that is in coarse detail.
        num_images: How many images.
    """

    score: float
    interval: tuple[float, float] | None
    size: float
    certainty: float
    visibility: float
    num_images: int


@dataclass(frozen=True)
class AdequacyDifference:
    """By how much one network's adequacy exceeds another's on the same images.

    Attributes:
        difference: Positive where the first is more adequate.
        interval: Its 95 % interval over pairs; None where it has none, as of a single image.
    """

    difference: float
    interval: tuple[float, float] | None

    @property
    def is_certain(self) -> bool:
        """Whether there is an interval, and it leaves out zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def whole_size(num_values: int) -> float:
    """Returns the size of the polytope of all images of so many values, in 0..255."""
    return 255 * math.sqrt(num_values / 2)


def factors(rows: Sequence[Mapping[str, Any]], whole: float) -> Float64[ndarray, "images 3"]:
    """Returns the factors of each image's blindness: size, certainty and visibility, 0..1.

    Args:
        rows: With ``size``, ``hull_probability`` and ``coarse_share``.
        whole: What :func:`whole_size` gives, in the unit of the sizes.
    """
    sizes = np.array([row["size"] for row in rows], dtype=np.float64)
    certain = np.array([row["hull_probability"] for row in rows], dtype=np.float64)
    # Of squares; sizes are distances.
    visible = np.sqrt(np.array([row["coarse_share"] for row in rows], dtype=np.float64))
    return np.stack([np.minimum(sizes / whole, 1.0), certain, visible], axis=1)


def blindness(rows: Sequence[Mapping[str, Any]], whole: float) -> Float64[ndarray, "images"]:
    """Returns each image's blindness, 0..1; see :func:`factors`."""
    return np.asarray(factors(rows, whole).prod(axis=1))


def measure_adequacy(rows: Sequence[Mapping[str, Any]], whole: float, seed: int) -> Adequacy:
    """Measures the adequacy of a network from an audit of it.

    Args:
        rows: One an image, at least one; see :func:`factors`.
        whole: See there.
        seed: Of the interval.
    """
    scores = 1 - blindness(rows, whole)
    size, certainty, visibility = factors(rows, whole).mean(axis=0).tolist()
    return Adequacy(
        score=float(scores.mean()),
        interval=mean_interval(scores, _generator(seed)),
        size=size,
        certainty=certainty,
        visibility=visibility,
        num_images=len(rows),
    )


def compare_adequacy(
    first: Float64[ndarray, "images"], second: Float64[ndarray, "images"], seed: int
) -> AdequacyDifference:
    """Compares two networks, image by image, which leaves out how much images differ.

    Args:
        first: The blindness of each image to the one network.
        second: To the other, of the same images in the same order.
        seed: Of the interval.
    """
    differences = second - first
    return AdequacyDifference(
        float(differences.mean()), mean_interval(differences, _generator(seed))
    )


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 14])
