"""What nobody made collide, beside a polytope: images of the data set, and features of no image.

A distance to a target is only small beside others. Images of other things respond elsewhere, so
most are farther from the target than features that say nothing at all, which are at 1: to be nearer
than every such image shows little. So the two features with no content stand beside them, the
silent ones and the mean over the images, and near is only what is nearer than *all* of these.
"""

import math
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import torch

from patchcollide.evaluation.feature_distances import (
    as_share,
    distances_of_features,
    feature_scale,
    relative_feature_distances,
)
from patchcollide.evaluation.gaps import GapFigures, finite, measure_gaps
from patchcollide.networks.targets import TargetFeatures
from patchcollide.shapes import Float, Int64, Tensor, ndarray

SAME = 1e-3
"""Nearer to the target than this is its own image: half a grey level of noise moves features more,
and a batch of another size rounds them less."""
QUANTILES = (0.05, 0.5, 0.95)
SILENT, MEAN, NEAREST = "silent features", "mean features of the images", "nearest image"


class Controls(TypedDict):
    """How far what nobody made collide is from a target; infinite distances are None.

    Attributes:
        num_images: How many images were measured.
        num_left_out: How many were not, as their features are the target's own.
        distances: Tau of each image, nearest first.
        quantiles: Of each figure of :class:`patchcollide.evaluation.gaps.Gaps` over the images, at
            :data:`QUANTILES`.
        controls: Tau of the silent features, the mean of the images' and the nearest image.
        num_nearer: How many images are nearer to the target, by what of the polytope it is.
        is_near: Whether that is nearer than all ``controls``.
        num_pairs: Of images.
        pair_quantiles: Of the pairs' distances from each other, in the same unit; None without any.
    """

    num_images: int
    num_left_out: int
    distances: list[float | None]
    quantiles: GapFigures[list[float | None]]
    controls: dict[str, float | None]
    num_nearer: dict[str, int]
    is_near: dict[str, bool]
    num_pairs: int
    pair_quantiles: list[float | None] | None


def measure_controls(
    z: Float[Tensor, "images units"],
    target: TargetFeatures,
    pairs: Int64[ndarray, "pairs 2"],
    found: Mapping[str, float | None],
) -> Controls | None:
    """Sets a polytope's distances to a target beside those of what nobody made collide.

    Args:
        z: Pre-activations of images of the data set. Those whose features are the target's own,
            to :data:`SAME`, which are of the target itself or of a copy, are left out.
        target: The features to collide with.
        pairs: Numbers of images, whose distance from each other is measured too.
        found: Relative distances of the polytope, by what they are of.

    Returns:
        None if no image is left.
    """
    # An image at a time: of early layers all of them fill much of the memory already.
    others = torch.cat([relative_feature_distances(row[None], target) for row in z]) > SAME
    if not others.any():
        return None
    if not others.all():
        z, pairs = z[others], _kept(pairs, others.cpu().numpy())
    gaps = measure_gaps(z, target)
    distances = np.sort(gaps.columns()["feature_distance_relative"])
    controls = {**_contentless(z, target), NEAREST: float(distances[0])}
    known = {name: math.inf if tau is None else tau for name, tau in found.items()}
    between = _pair_distances(z, target, pairs)
    return {
        "num_images": len(z),
        "num_left_out": int((~others).sum()),
        "distances": [finite(tau) for tau in distances.tolist()],
        "quantiles": gaps.each(_quantiles),
        "controls": {name: finite(tau) for name, tau in controls.items()},
        "num_nearer": {name: int((distances < tau).sum()) for name, tau in known.items()},
        "is_near": {name: is_near(tau, controls) for name, tau in known.items()},
        "num_pairs": len(pairs),
        "pair_quantiles": _quantiles(between) if len(pairs) else None,
    }


def is_near(tau: float, controls: Mapping[str, float | None]) -> bool:
    """Says whether a relative distance is below all controls, of which None is infinite."""
    return all(control is None or tau < control for control in controls.values())


def _contentless(z: Float[Tensor, "images units"], target: TargetFeatures) -> dict[str, float]:
    total = torch.zeros_like(z[0])
    for row in z:
        total += target.blind.respond(row)
    mean = total / len(z)
    silent = torch.full_like(mean, target.blind.floor)
    found = distances_of_features(torch.stack([silent, mean]), target).tolist()
    return dict(zip((SILENT, MEAN), found, strict=True))


def _kept(pairs: Int64[ndarray, "pairs 2"], others: np.ndarray) -> Int64[ndarray, "left 2"]:
    """Returns the pairs of the images that are left, by their new numbers."""
    return np.asarray((np.cumsum(others) - 1)[pairs[others[pairs].all(axis=1)]])


def _pair_distances(
    z: Float[Tensor, "images units"], target: TargetFeatures, pairs: Int64[ndarray, "pairs 2"]
) -> Float[ndarray, "pairs"]:
    respond = target.blind.respond
    found = [torch.linalg.vector_norm(respond(z[a]) - respond(z[b])) for a, b in pairs.tolist()]
    distances = torch.stack(found) if found else z.new_zeros(0)
    return np.array(as_share(distances, feature_scale(target)).tolist(), dtype=np.float64)


def _quantiles(values: Float[ndarray, "n"]) -> list[float | None]:
    ordered = np.sort(values)
    if not np.isfinite(ordered).all():
        return [None] * len(QUANTILES)
    return [finite(value) for value in np.quantile(ordered, QUANTILES).tolist()]
