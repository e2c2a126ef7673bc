"""Which blind unit each vertex drives deeper: what makes the vertices of a polytope different."""

import torch

from patchcollide.config import Config
from patchcollide.errors import TargetError
from patchcollide.networks.targets import TargetFeatures, excess
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Int64, Tensor


def driven_units(
    config: Config, target: TargetFeatures, *, exact: bool = False
) -> Int64[Tensor, "chosen"]:
    """Returns the unit that each vertex of a run drives deeper; none where none is driven.

    Args:
        config: ``method``, sections ``objective``, ``optimiser`` and ``exact``, and the seed.
        target: Decides which units are blind.
        exact: Whether vertices are solved for.

    Raises:
        TargetError: As of :func:`choose_units`.
    """
    objective = config.objective
    if exact:
        driving = config.exact.vertices == "unit"
    else:
        driving = config.method == "polytope" and not objective.tightness
    return choose_units(
        target,
        objective.units if driving else "none",
        config.optimiser.num_vertices,
        seeded(config.seed, Purpose.UNITS),
    )


def choose_units(
    target: TargetFeatures,
    how: str | tuple[int, ...],
    count: int,
    generator: torch.Generator,
) -> Int64[Tensor, "chosen"]:
    """Chooses a blind unit for each vertex, or none for any.

    Args:
        target: Decides which units are blind.
        how: ``"first"`` in index order, as in the paper, lower region first; ``"random"`` by seed;
            ``"room"`` those deepest in their blind region at the target; ``"spread"`` at equal
            distances in index order, so that layers of convolutions give units of different
            channels; ``"none"`` for none at all; or indices.
        count: How many vertices there are.
        generator: Draws random units.

    Raises:
        TargetError: If there are fewer blind units, or units given by index, than vertices, or one
            of those is not blind. Only units whose interval has no end count as blind here: no
            other can be driven deeper.
    """
    if how == "none":
        return torch.empty(0, dtype=torch.int64)
    if target.blind.low is None and target.blind.high is None:
        raise TargetError(
            "This layer's activation nears no constant on either side, so no unit can be driven "
            "deeper where it does not respond. Choose another layer, or let only their distance "
            "part the vertices: objective.units = 'none'."
        )
    blind = torch.cat([target.below.nonzero()[:, 0], target.above.nonzero()[:, 0]]).cpu()
    if len(blind) < count:
        raise TargetError(
            f"The target has {len(blind)} inactive units in this layer, but each of "
            f"{count} vertices (optimiser.num_vertices) needs one of its own. Ask for fewer "
            f"vertices,{_more_tolerance(target)} choose another layer, or let only their distance "
            "part the vertices: objective.units = 'none'."
        )
    if not isinstance(how, str):
        return _given(how, set(blind.tolist()), count)
    if how == "random":
        return blind[torch.randperm(len(blind), generator=generator)[:count]]
    if how == "room":
        depth = excess(target.pre_activation[None], target)[0].cpu()[blind]
        return blind[depth.argsort(stable=True)[:count]]
    if how == "spread":
        return blind[(2 * torch.arange(count) + 1) * len(blind) // (2 * count)]
    return blind[:count]


def _more_tolerance(target: TargetFeatures) -> str:
    tolerance = target.blind.tolerance
    return f" raise network.tolerance = {tolerance:g}," if tolerance else ""


def _given(units: tuple[int, ...], blind: set[int], count: int) -> Int64[Tensor, "count"]:
    if len(units) < count:
        raise TargetError(
            f"objective.units names {len(units)} units, but there are {count} vertices "
            "(optimiser.num_vertices). Name one for each."
        )
    seeing = [unit for unit in units[:count] if unit not in blind]
    if seeing:
        raise TargetError(
            f"objective.units names unit {seeing[0]}, which is not inactive at the target, so it "
            "cannot be driven deeper. Choose inactive units, or objective.units = 'first'."
        )
    return torch.tensor(units[:count])
