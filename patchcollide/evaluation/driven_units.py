"""Whether units that vertices are to drive deeper are deepest there: in their own blind region."""

from typing import TypedDict

import torch

from patchcollide.networks.targets import TargetFeatures, excess
from patchcollide.shapes import Float, Int64, Tensor


class DrivenUnit(TypedDict):
    """A unit that a vertex was to drive deeper into its blind region.

    Attributes:
        unit: Its number in the layer.
        rank: Of its own vertex among all, by how deep the unit is there: 1 if nowhere deeper.
        below_target: Whether it is deeper there than at the target.
    """

    unit: int
    rank: int
    below_target: bool


def rank_units(
    z: Float[Tensor, "vertices units"], target: TargetFeatures, units: Int64[Tensor, "driven"]
) -> list[DrivenUnit]:
    """Ranks each vertex by how deep its own unit is there.

    Args:
        z: Pre-activations of the vertices.
        target: What they collide with.
        units: One for each of the first vertices; empty if none is driven.
    """
    both = torch.cat([z, target.pre_activation[None]])
    depths = excess(both, target)[:, units.to(z.device)].cpu()
    *at_vertices, at_target = depths
    found: list[DrivenUnit] = []
    for vertex, unit in enumerate(units.tolist()):
        own = depths[vertex, vertex]
        column = depths[: len(at_vertices), vertex]
        found.append(
            {
                "unit": unit,
                "rank": 1 + int((column < own).sum()),
                "below_target": bool(own < at_target[vertex]),
            }
        )
    return found
