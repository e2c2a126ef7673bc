"""The check that ends a descent: whether a batch of points between the vertices collides."""

from dataclasses import dataclass

import torch

from patchcollide.config import Objective, Optimiser
from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.residuals import mean_residuals
from patchcollide.evaluation.simplex import combine, edge_middles, round_to_8_bits, uniform_weights
from patchcollide.images.tensors import mean_distance, pairwise_distances
from patchcollide.networks.linear_regions.walk import margins
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Float, Int64, Tensor

ALL_STEPS = "all steps were done"

_BATCH = 8
_ADAPTATION = 1.5


@dataclass(frozen=True)
class DescentTask:
    """Everything that decides how vertices are found.

    Attributes:
        network: The network under study.
        target: The features to collide with.
        target_class: What hull samples must be classified as.
        target_probability: Of that class, for the target itself.
        target_margin: By how much that exceeds the next probable class's.
        units: Which unit each vertex drives deeper into its blind region; empty to drive none.
        objective: Weights of the losses.
        optimiser: Steps, schedule and stop rule.
        seed: Decides the hull samples.
        stops_early: Whether a hull that collides ends the descent; else all steps are done.
    """

    network: CollisionNetwork
    target: TargetFeatures
    target_class: int
    target_probability: float
    target_margin: float
    units: Int64[Tensor, "chosen"]
    objective: Objective
    optimiser: Optimiser
    seed: int
    stops_early: bool = True


def validate(
    task: DescentTask, images: Float[Tensor, "vertices channels height width"]
) -> dict[str, float]:
    """Measures the hull on points of its own, 8-bit, the same at every check.

    Beside random points these are the middles of the edges, as many at most: where a hull leaves
    the target's class, it often does so between two vertices, where random points seldom are.

    Args:
        task: Decides the samples.
        images: The vertices, RGB in ``[0, 1]``.

    Returns:
        The share of all points classified as the target, the mean probability of the target's class
        over the random points, the smallest margin of a point (by how much that probability exceeds
        any other), the largest gap of a point (before the activation, where the descent works; see
        :func:`patchcollide.evaluation.residuals.mean_residuals`), the mean distance of the
        vertices in 0..255, and, where the descent computes in bfloat16, the largest difference that
        this makes to a vertex's pre-activation.
    """
    network = task.network
    with torch.no_grad():
        vertices = round_to_8_bits(images)
        count = task.optimiser.validation_samples
        random = uniform_weights(count, len(vertices), seeded(task.seed, Purpose.STOPPING))
        weights = torch.cat([random, edge_middles(len(vertices), count)]).to(vertices.device)
        leads, chances, gaps = [], [], []
        for part in torch.split(weights, _BATCH):
            output = network(round_to_8_bits(combine(part, vertices)))
            probabilities = output.probabilities
            gaps.append(mean_residuals(output.pre_activation, task.target))
            chances.append(probabilities[:, task.target_class])
            leads.append(margins(probabilities, task.target_class, lowest=0.0))
        distances = pairwise_distances(vertices)
        row = {
            "validation_success": float((torch.cat(leads) > 0).double().mean()),
            "validation_probability": float(torch.cat(chances)[:count].double().mean()),
            "validation_margin": float(torch.cat(leads).min()),
            "validation_gap": float(torch.cat(gaps).max()),
            "validation_distance": float(distances.mean()) if len(distances) else 0.0,
        }
        if network.low_precision:
            difference = network(images).pre_activation - network.pre_activation(images)
            row["precision_gap"] = float(difference.abs().max())
    return row


def validate_features(
    task: DescentTask, images: Float[Tensor, "vertices channels height width"]
) -> dict[str, float]:
    """Measures features on the points of :func:`validate`, and at the vertices, all in 8 bits.

    Returns:
        The share of points classified as the target, the smallest margin of a point, the mean and
        the largest relative distance of a point's features to the target's, behind the activation,
        and the mean distance of the vertices in 0..255.
    """
    with torch.no_grad():
        vertices = round_to_8_bits(images)
        count = task.optimiser.validation_samples
        random = uniform_weights(count, len(vertices), seeded(task.seed, Purpose.STOPPING))
        middles = edge_middles(len(vertices), count)
        weights = torch.cat([torch.eye(len(vertices), dtype=random.dtype), random, middles])
        distances, leads = [], []
        for part in torch.split(weights.to(vertices.device), _BATCH):
            output = task.network(round_to_8_bits(combine(part, vertices)))
            distances.append(relative_feature_distances(output.pre_activation, task.target))
            leads.append(margins(output.probabilities, task.target_class, lowest=0.0))
        return {
            "validation_success": float((torch.cat(leads) > 0).double().mean()),
            "validation_margin": float(torch.cat(leads).min()),
            "validation_tau_mean": float(torch.cat(distances).double().mean()),
            "validation_tau_max": float(torch.cat(distances).max()),
            "validation_distance": mean_distance(vertices),
        }


def sure_enough(row: dict[str, float], task: DescentTask) -> bool:
    """Whether what a validation found between the vertices collides with the target.

    The margin is asked for because a batch is small: where its least sure sample is well inside the
    target's class, so is what thousands of samples find.
    """
    settings = task.optimiser
    share = row["validation_probability"] / max(task.target_probability, 1e-9)
    return (
        row["validation_success"] >= settings.stop_success
        and share >= settings.stop_probability
        and row["validation_margin"] >= settings.stop_margin * task.target_margin
        and row["validation_gap"] <= settings.stop_gap
    )


def far_enough(row: dict[str, float], task: DescentTask) -> bool:
    """Whether a validation found the vertices apart; one vertex alone has no distance."""
    settings = task.optimiser
    return settings.num_vertices == 1 or row["validation_distance"] >= settings.stop_distance


def next_diversity(diversity: float, *, sure: bool, far: bool) -> float:
    """Returns the weight of the vertices' distance after a validation found them sure, and far.

    Where the hull is sure but the vertices are near, distance counts for more; where they are far
    but the hull is not sure, for less. So one set of weights serves targets of any confidence.
    """
    if sure == far:
        return diversity
    return diversity * _ADAPTATION if sure else diversity / _ADAPTATION
