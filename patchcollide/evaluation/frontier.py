"""A frontier: how far apart images between which features agree can be, by how nearly they do."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict, cast

import numpy as np

from patchcollide.evaluation.gaps import MeanAndMax
from patchcollide.evaluation.summary import Summary
from patchcollide.io.provenance import Encoded
from patchcollide.shapes import UInt8, ndarray

UNKNOWN: MeanAndMax = {"mean": None, "max": None}


class FrontierPoint(TypedDict):
    """What was found within one bound on features. Distances are L2, in 0..255.

    Attributes:
        tightness: The bound: how far features of any image of the hull were asked to be from the
            target's at most, as a share of theirs.
        run: The folder of the run, within the frontier's.
        tau: How far they are, mean and largest of the hull samples; None if infinite or unknown.
        success_rate: The share of hull samples in the target's class.
        probability: The mean probability of that class.
        vertex_distance: The mean distance of two vertices.
        source_distance: The mean distance of a vertex from the source.
        block_share: Of the squared difference of vertices, the share that means over blocks keep.
        vertex_ssim: The structural similarity of two vertices, 1 for equal ones.
        source_ssim: That of a vertex and the source.
        steps: Of the descent.
        seconds: Of the descent.
        stopped_because: Why it ended.
    """

    tightness: float
    run: str
    tau: MeanAndMax
    success_rate: float
    probability: float
    vertex_distance: float
    source_distance: float
    block_share: NotRequired[float | None]
    vertex_ssim: NotRequired[float | None]
    source_ssim: NotRequired[float | None]
    steps: int
    seconds: float
    stopped_because: str


class Frontier(Encoded):
    """What ``frontier.json`` holds.

    Attributes:
        source: The image whose look is kept.
        target: The image whose features are matched.
        network: Its full name.
        layer: The activation's.
        parameterisation: What varies: ``pixels`` or ``patches``.
        target_probability: Of the target's class, for the target itself.
        dataset_distance: The mean distance of two images of the data set; None if unknown.
        source_bound: How far from the source images were asked to be at most, L2 in 0..255; None if
            anywhere.
        seed: Of every run.
        points: One for each bound, loosest first.
    """

    source: str
    target: str
    network: str
    layer: str
    parameterisation: str
    target_probability: float
    dataset_distance: float | None
    source_bound: float | None
    seed: int
    points: list[FrontierPoint]


def farthest_within(points: Sequence[FrontierPoint], bound: float) -> FrontierPoint | None:
    """Returns the point whose vertices are farthest apart among those that hold a bound.

    What was found within a tight bound holds every looser one, where the search itself may have
    found less.

    Args:
        points: Those of a frontier.
        bound: On the largest distance of features, as a share of the target's.

    Returns:
        The first of the farthest; None if the features of none are known to hold it.
    """
    known = [point for point in points if point["tau"]["max"] is not None]
    holding = [point for point in known if cast(float, point["tau"]["max"]) <= bound]
    return max(holding, key=lambda point: point["vertex_distance"], default=None)


def frontier_point(
    tightness: float,
    run: str,
    summary: Summary,
    vertices: UInt8[ndarray, "vertices height width channels"],
    source: UInt8[ndarray, "height width channels"],
) -> FrontierPoint:
    """Returns what a run found within a bound.

    Args:
        tightness: The bound.
        run: The name of the run's folder.
        summary: What was measured of it.
        vertices: Its vertices, 8-bit.
        source: The image that they are to look like.
    """
    differences = (vertices.astype(np.float64) - source).reshape(len(vertices), -1)
    seen, close = summary.get("visibility"), summary.get("closeness")
    hull = cast(dict[str, MeanAndMax], summary["certificate"]["hull"])
    return {
        "tightness": tightness,
        "run": run,
        "tau": hull.get("feature_distance_relative", UNKNOWN),
        "success_rate": summary["success_rate"],
        "probability": summary["sample_class_probability_mean"],
        "vertex_distance": summary["vertex_distance_mean"],
        "source_distance": float(np.linalg.norm(differences, axis=1).mean()),
        "block_share": seen.get("block_share") if seen else None,
        "vertex_ssim": seen["ssim_mean"] if seen else None,
        "source_ssim": close["ssim_mean"] if close else None,
        "steps": summary["steps"],
        "seconds": summary["seconds"].get("optimise", 0.0),
        "stopped_because": summary["stopped_because"],
    }
