"""The worst points between vertices, looked for by gradients on their weights.

Random points hardly come near what is worst: it lies in a corner of the weights' simplex that few
of them meet. This goes downhill from many of them, and says what it found; that is no proof.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from patchcollide.images.tensors import as_batch, as_pictures
from patchcollide.networks.linear_regions.walk import margins
from patchcollide.networks.network import CollisionNetwork
from patchcollide.proofs.simplices import combined, projected
from patchcollide.shapes import Float, Float64, Tensor
from patchcollide.torch_modes import proof_modes

RESTARTS = 50
STEPS = 12
AROUND = (0.1, 0.02, 0.004)
"""How far weights are moved to look for rounded images that are worse, from far to near."""

_FIRST_STEP, _LAST_STEP = 0.3, 0.01
_TOGETHER = 16
# What a restart takes, in passes of one image, with those whose points are not kept.
_PASSES = 16

Measure = Callable[[Tensor], Tensor]
"""Gives images what is to be small, one number each, differentiable."""


class Worst(NamedTuple):
    """The worst point that was found.

    Attributes:
        value: What was to be small there.
        weights: Of the vertices.
    """

    value: float
    weights: Float64[Tensor, "vertices"]


class Search(NamedTuple):
    """What a search for the worst point found.

    Attributes:
        worst: The worst point of all.
        ends: Where the restarts ended that went on to the last.
    """

    worst: Worst
    ends: Float64[Tensor, "ends vertices"]


def class_margin(network: CollisionNetwork, target_class: int) -> Measure:
    """Returns the measure of a class: its logit less the largest other one."""
    return lambda images: margins(
        network.logits_of_prepared(network.prepared(images)), target_class
    )


def find_worst(
    measure: Measure,
    vertices: Float[Tensor, "vertices channels height width"],
    generator: torch.Generator,
    **effort: Any,
) -> Worst:
    """Returns the worst point that :func:`search_worst` finds, which takes the same."""
    return search_worst(measure, vertices, generator, **effort).worst


@proof_modes(grad=True)
def search_worst(
    measure: Measure,
    vertices: Float[Tensor, "vertices channels height width"],
    generator: torch.Generator,
    *,
    starts: Float64[Tensor, "starts vertices"] | None = None,
    restarts: int = RESTARTS,
    steps: int = STEPS,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Search:
    """Looks for the point between vertices where a measure is smallest, by projected gradients.

    All restarts go one step; then always the better half goes on, a few steps at a time.

    Args:
        measure: What is to be small.
        vertices: Images, in the precision of the network.
        generator: Decides where restarts begin.
        starts: Points to begin at; what is missing to ``restarts`` is drawn. The vertices
            themselves are measured in any case.
        restarts: How many points to begin at.
        steps: How many steps the best of them goes.
        seconds: How long that may take; slow networks get fewer restarts, the first ones.
        clock: What tells them.
    """
    begun = clock()
    corners = torch.eye(len(vertices), dtype=torch.float64)
    given = corners[:0] if starts is None else starts[:restarts]
    drawn = torch.empty(restarts - len(given), len(vertices), dtype=torch.float64)
    drawn.exponential_(generator=generator)
    # Squared, they lie nearer to the simplex's faces.
    drawn = drawn.square() / drawn.square().sum(dim=1, keepdim=True)
    points = torch.cat([given, drawn])
    worst = _smallest(_measured(measure, vertices, corners), corners)
    if len(vertices) == 1:
        return Search(worst, corners)
    each = (clock() - begun) / len(vertices)
    points = points[: max(1, int(min(seconds / (_PASSES * each), restarts)))]
    for step in range(steps):
        share = step / max(steps - 1, 1)
        length = _FIRST_STEP * (_LAST_STEP / _FIRST_STEP) ** share
        values, slopes = _with_slopes(measure, vertices, points)
        worst = min(worst, _smallest(values, points), key=lambda found: found.value)
        slopes = slopes - slopes.mean(dim=1, keepdim=True)
        size = torch.linalg.vector_norm(slopes, dim=1, keepdim=True).clamp(min=1e-300)
        points = projected(points - length * slopes / size)
        if step % 2:
            if clock() - begun > seconds:
                break
            kept = values.argsort()[: max(4, len(points) // 2)]
            points = points[kept]
    return Search(_worse(worst, measure, vertices, points), points)


@proof_modes()
def find_worst_rounded(
    measure: Measure,
    vertices: Float[Tensor, "vertices channels height width"],
    points: Float64[Tensor, "points vertices"],
    generator: torch.Generator,
) -> Worst:
    """Returns the worst point found once its image is rounded to 8 bits, of some and around these.

    Rounding leaves no slope to follow, so weights are moved at random, ever less.

    Args:
        measure: What is to be small.
        vertices: Images, in the precision of the network.
        points: Weights, at least one; the vertices themselves are measured in any case.
        generator: Decides how weights are moved.
    """

    def rounded(images: Tensor) -> Tensor:
        return measure(as_batch(as_pictures(images)).to(vertices))

    corners = torch.eye(len(vertices), dtype=torch.float64)
    points = torch.cat([corners, points])
    worst = _smallest(_measured(rounded, vertices, points), points)
    for reach in AROUND if len(vertices) > 1 else ():
        moves = torch.randn(_TOGETHER, len(vertices), generator=generator, dtype=torch.float64)
        worst = _worse(worst, rounded, vertices, projected(worst.weights + reach * moves))
    return worst


def _worse(worst: Worst, measure: Measure, vertices: Tensor, points: Tensor) -> Worst:
    found = _smallest(_measured(measure, vertices, points), points)
    return min(worst, found, key=lambda each: each.value)


def _smallest(values: Tensor, points: Tensor) -> Worst:
    best = int(values.argmin())
    return Worst(float(values[best]), points[best])


def _measured(measure: Measure, vertices: Tensor, points: Tensor) -> Tensor:
    with torch.no_grad():
        found = [
            measure(combined(part.to(vertices), vertices))
            for part in torch.split(points, _TOGETHER)
        ]
    return torch.cat(found).double().cpu()


def _with_slopes(
    measure: Measure, vertices: Tensor, points: Tensor
) -> tuple[Float64[Tensor, "points"], Float64[Tensor, "points vertices"]]:
    values, slopes = [], []
    for part in torch.split(points, _TOGETHER):
        weights = part.to(vertices).requires_grad_()
        found = measure(combined(weights, vertices))
        (slope,) = torch.autograd.grad(found.sum(), weights)
        values.append(found.detach())
        slopes.append(slope)
    return torch.cat(values).double().cpu(), torch.cat(slopes).double().cpu()


@proof_modes(grad=True)
def find_worst_nearby(
    measure: Measure,
    images: Float64[Tensor, "images channels height width"],
    radius: float | Float64[Tensor, "channels height width"],
    steps: int = STEPS,
) -> float:
    """Returns the smallest measure found where each value of an image may change a little.

    Args:
        measure: What is to be small.
        images: To begin at.
        radius: By how much.
        steps: How many steps each goes.
    """
    low, high = images - radius, images + radius
    moved, best = images, float("inf")
    for step in range(steps + 1):
        moved = moved.detach().requires_grad_()
        values = measure(moved)
        best = min(best, float(values.detach().min()))
        (slope,) = torch.autograd.grad(values.sum(), moved)
        length = radius * (2.0 if step == 0 else 0.5)
        moved = torch.clamp(moved - length * slope.sign(), low, high)
    return best
