"""Affine functions below and above a network's values, over simplices of images.

An affine function on a simplex is its values at the corners. A band is kept as the middle of the
two functions and half their difference, a radius, which affine steps treat alike: the weights and
their absolute values. What float64 rounds is added to the radius, so that a band holds the values
of the network as a function of real numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.programs import Function, Linear, Program, Step
from patchcollide.shapes import Float64, Tensor
from patchcollide.torch_modes import proof_modes

BYTES_AT_ONCE = 256 << 20
"""How much memory the bands of one step may take; more simplices wait for their turn."""


@dataclass(frozen=True, eq=False)
class Band:
    """Two affine functions over each of some simplices, by their values at the corners.

    Attributes:
        middle: Half way between them.
        radius: Half their difference, at least 0; with one corner where it is the same at all.
    """

    middle: Float64[Tensor, "cells corners *shape"]
    radius: Float64[Tensor, "cells radii *shape"]

    @classmethod
    def around(
        cls, corners: Float64[Tensor, "cells corners *shape"], radius: float | Tensor = 0.0
    ) -> "Band":
        """Returns the band of images themselves, and of what is near them.

        Args:
            corners: Images, each a sum of as many others at most, in float64.
            radius: How far each value may be off.
        """
        size = (4 + corners.shape[1]) * EPSILON * (1 + corners.abs().amax(dim=1, keepdim=True))
        return cls(corners, size + radius)

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor) -> "Band":
        """Returns the band between two functions."""
        slack = 2 * EPSILON * (lower.abs() + upper.abs())
        return cls((lower + upper) / 2, (upper - lower).clamp(min=0) / 2 + slack)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Returns the two functions' values at the corners, rounded outwards."""
        slack = self.radius + 2 * EPSILON * (self.middle.abs() + self.radius)
        return self.middle - slack, self.middle + slack

    def within(self, low: Tensor, high: Tensor) -> "Band":
        """Returns the same, or what is constant where values are known to lie closer together.

        Args:
            low: No value is below, anywhere on the simplices.
            high: No value is above.
        """
        lower, upper = self.ends()
        better = low[None, None] > lower.mean(dim=1, keepdim=True)
        lower = torch.where(better, low.expand_as(lower), lower)
        better = high[None, None] < upper.mean(dim=1, keepdim=True)
        return Band.between(lower, torch.where(better, high.expand_as(upper), upper))

    def size(self) -> Tensor:
        """Returns the largest size of any value over each simplex, a corner for all."""
        return (self.middle.abs() + self.radius).amax(dim=1, keepdim=True)

    def range(self) -> tuple[Tensor, Tensor]:
        """Returns the smallest and the largest value over each simplex."""
        lower, upper = self.ends()
        return lower.amin(dim=1), upper.amax(dim=1)


@proof_modes()
def run_forward(program: Program, image: Band, *wanted: int) -> dict[int, Band]:
    """Returns the bands of some steps, given that of the image.

    Args:
        program: The network.
        image: Over some simplices of images.
        wanted: The numbers of the steps.
    """
    order = program.needed_for(*wanted)
    last_use = {read: number for number in order for read in program.steps[number].inputs}
    bands: dict[int, Band] = {}
    for number in order:
        step = program.steps[number]
        bands[number] = image if step.operation is None else after_step(step, bands)
        for read in set(step.inputs):
            if last_use[read] == number and read not in wanted:
                del bands[read]
    return {number: bands[number] for number in wanted}


def after_step(step: Step, bands: Mapping[int, Band]) -> Band:
    """Returns the band of a step's result, given those of the steps it takes; not of the image."""
    given = [bands[number] for number in step.inputs]
    if isinstance(step.operation, Linear):
        return _linear(step.operation, given)
    assert step.operation is not None  # noqa: S101
    lower, upper = given[0].ends()
    return Band.between(*step.operation.over(lower, upper))


def _linear(linear: Linear, given: list[Band]) -> Band:
    middle = _at_corners(linear.run, [band.middle for band in given])
    radii = [band.radius for band in given]
    if linear.rounding:
        radii = [
            radius + linear.rounding * band.size()
            for radius, band in zip(radii, given, strict=True)
        ]
    most = max(radius.shape[1] for radius in radii)
    radii = [radius.expand(-1, most, *radius.shape[2:]) for radius in radii]
    radius = _at_corners(linear.spread, radii)
    if linear.rounding:
        radius = (1 + 2 * linear.rounding) * radius + linear.rounding * linear.size
    return Band(middle, radius)


def _at_corners(function: Function, values: list[Tensor]) -> Tensor:
    found = function(*(value.flatten(0, 1) for value in values))
    return found.reshape(*values[0].shape[:2], *found.shape[1:])


def cells_at_once(program: Program, corners: int) -> int:
    """Returns how many simplices go through a program together."""
    most = max(step.size for step in program.steps)
    return max(1, BYTES_AT_ONCE // (8 * 6 * most * corners))
