"""How far features are at most from a target's in boxes around images, behind an affine layer.

A box moves all units together, so bounds of each unit alone add up to far too much. The square of a
ReLU's distance from what it should be, ``f(z) = (z - t)^2`` or ``max(z, 0)^2``, bends by at most 2:
``f(a + d) <= f(a) + f'(a) d + d^2``. Over a box the sum of the middle terms is a linear function of
the image, whose largest value is plain to see, and the last ones are small: the squared length of
what the layer makes of a step in the box. For each step the sum is convex in the image that the box
is around, so between images it is largest at one of them.
"""

import math

import torch

from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.backward import Backward
from patchcollide.proofs.bands import Band, run_forward
from patchcollide.proofs.programs import Linear, Program
from patchcollide.shapes import Float64, Tensor
from patchcollide.torch_modes import proof_modes

_MAX_BYTES = 32 << 20


@proof_modes()
def largest_distance_in_boxes(
    program: Program,
    layer: int,
    images: Float64[Tensor, "corners *shape"],
    radius: Float64[Tensor, "*shape"],
    reach: float,
    wanted: Float64[Tensor, "units"],
) -> float:
    """Returns what the L2 distance of a layer's ReLUs is nowhere above, in boxes between images.

    Args:
        program: The network.
        layer: The number of the step that ReLUs follow, affine in the image.
        images: Corners of a simplex.
        radius: How far a value may be from one between them.
        reach: How far it may be by rounding alone.
        wanted: The ReLUs' values that distances are from, at least 0.
    """
    near, box = (
        run_forward(program, Band.around(images[None], size), layer)[layer]
        for size in (reach, radius + reach)
    )
    values, moved = (part[0].flatten(1) for part in (near.middle, box.radius))
    # What should be silent and is so wherever it is moved to is as it should be.
    live = (wanted > 0) | (values + moved > 0)
    gaps = torch.where(wanted > 0, values - wanted, values.clamp(min=0)) * live
    moved = moved * live
    rows = 2 * gaps
    back = Backward(program, images, radius + reach)
    lowest = back.lowest(layer, -rows.reshape(near.middle.shape[1:])).diagonal()
    first = -lowest - (rows * values).sum(dim=1)
    step = torch.linalg.vector_norm(moved, dim=1)
    if 8 * len(wanted) * radius.numel() <= _MAX_BYTES:
        longest = _longest_step(back, layer, radius, live.any(dim=0))
        rest = torch.linalg.vector_norm(near.radius[0].flatten(1), dim=1)
        step = torch.minimum(step, longest + _rounding(program, layer) * step + rest)
    squared = gaps.square().sum(dim=1) + first + step.square()
    size = squared.abs() + (rows.abs() * (values.abs() + moved)).sum(dim=1)
    slack = 4 * (len(wanted) + 16) * EPSILON * size
    return (1 + 4 * EPSILON) * float((squared + slack).clamp(min=0).max().sqrt())


def _longest_step(back: Backward, layer: int, radius: Tensor, live: Tensor) -> float:
    """Returns how long the change of some units is at most, by the largest singular value.

    What float64 rounds in the layer's matrix is left to the caller.
    """
    rows = torch.eye(len(live), dtype=torch.float64)[live]
    shape = back.program.steps[layer].shape
    matrix = back.linear(layer, rows.reshape(-1, *shape)).flatten(1) * radius.flatten()
    small = matrix @ matrix.mT if len(matrix) < matrix.shape[1] else matrix.mT @ matrix
    size = float(matrix.square().sum())
    if size == 0:
        return 0.0
    largest = float(torch.linalg.eigvalsh(small)[-1]) + 64 * sum(matrix.shape) * EPSILON * size
    # A step is within the box, so at most as long as its diagonal.
    return (1 + 1e-12) * math.sqrt(largest * int((radius > 0).sum()))


def _rounding(program: Program, layer: int) -> float:
    """Returns how far the layer's matrix is off, as a share of the sizes of what adds up to it."""
    steps = [program.steps[number] for number in program.needed_for(layer)]
    terms = (step.operation.terms for step in steps if isinstance(step.operation, Linear))
    return 4 * EPSILON * (sum(terms) + sum(step.size + 16 for step in steps))
