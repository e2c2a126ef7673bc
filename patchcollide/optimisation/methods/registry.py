"""Ways to find images that a network takes for the target: ours, and others to compare with.

Each method is a function from a :class:`Problem` to images and how their descent went. Ours, the
default, finds vertices of a polytope whose whole hull collides. What a method needs is imported
only when it is asked for.
"""

import logging
from operator import attrgetter

from patchcollide.config import Config
from patchcollide.errors import ConfigError
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.methods.problem import Method, Problem
from patchcollide.optimisation.tight import TightObjective
from patchcollide.shapes import Float, Tensor

logger = logging.getLogger(__name__)

# What a bound on features leaves nothing to do for, and what nothing but a bound asks for.
_OF_WEIGHTS = (
    "objective.active",
    "objective.inactive",
    "objective.penalty",
    "objective.total_variation",
    "objective.diversity",
    "objective.units",
    "optimiser.method",
    "optimiser.stop_success",
    "optimiser.stop_probability",
    "optimiser.stop_gap",
    "optimiser.stop_distance",
)
_OF_A_BOUND = ("objective.source_distance", "objective.coarseness")

PIXELS_ONLY = {
    "null_space": "moves the image itself along directions that a layer does not see",
    "adversarial": "changes each pixel by at most a few grey levels",
    "level_set": "moves the target's image itself towards the source",
    "plenoptic": "moves the pixels of an image",
}


def method_of(config: Config) -> Method:
    """Returns the method that the settings name.

    Raises:
        MissingLibraryError: If it needs a library that is not installed.
    """
    if config.method == "polytope":
        return move_vertices
    if config.method == "class":
        from patchcollide.optimisation.methods.class_only import reach_class

        return reach_class
    if config.method == "features":
        from patchcollide.optimisation.methods.matching import match_features

        return match_features
    if config.method == "metamer":
        from patchcollide.optimisation.methods.matching import find_metamers

        return find_metamers
    if config.method == "null_space":
        from patchcollide.optimisation.methods.null_space import vary_null_space

        return vary_null_space
    if config.method == "level_set":
        from patchcollide.optimisation.methods.level_set import traverse

        return traverse
    if config.method == "plenoptic":
        from patchcollide.optimisation.methods.plenoptic_metamer import (
            import_plenoptic,
            synthesise,
        )

        import_plenoptic()
        return synthesise
    from patchcollide.optimisation.methods.adversarial import attack, import_foolbox

    import_foolbox()
    return attack


def require_applicable(config: Config, *, pixels: bool) -> None:
    """Refuses what a method cannot do, before anything long begins.

    Args:
        config: ``method`` and section ``baselines``.
        pixels: Whether pixels vary freely; else patches are composed.

    Raises:
        ConfigError: If the method, or the start asked for, is for free pixels only.
        MissingLibraryError: If it needs a library that is not installed.
    """
    method_of(config)
    _tell_idle(config)
    if pixels or config.method == "polytope":
        return
    if config.method in PIXELS_ONLY:
        raise ConfigError(
            f"method = '{config.method}' {PIXELS_ONLY[config.method]}, so it does not apply to "
            "compositions of patches. Give --pixels in place of a store or neighbours."
        )
    if config.baselines.start != "auto":
        raise ConfigError(
            f"baselines.start = '{config.baselines.start}' is for free pixels: compositions of "
            "patches start from all neighbours alike. Give --pixels, or baselines.start = 'auto'."
        )


def idle_settings(config: Config) -> list[str]:
    """Returns the settings, other than by default, that count for nothing beside the others."""
    if config.method != "polytope":
        return []
    idle, default = (_OF_WEIGHTS if config.objective.tightness else _OF_A_BOUND), Config()
    return [name for name in idle if attrgetter(name)(config) != attrgetter(name)(default)]


def _tell_idle(config: Config) -> None:
    """Warns of weights where there is a bound, and of what goes with a bound where not."""
    if idle := idle_settings(config):
        logger.warning(
            "%s %s for nothing while objective.tightness = %g, which %s. Leave %s out, or set "
            "objective.tightness%s.",
            ", ".join(idle),
            "count" if len(idle) > 1 else "counts",
            config.objective.tightness,
            "knows no weights" if config.objective.tightness else "bounds nothing",
            "them" if len(idle) > 1 else "it",
            "=0" if config.objective.tightness else " above 0",
        )


def require_bound(config: Config) -> None:
    """Refuses a bound on features that was asked for by name where none is known.

    Raises:
        ConfigError: If the method is not the default one.
    """
    if config.method != "polytope":
        raise ConfigError(
            f"objective.tightness = {config.objective.tightness:g} bounds features in a descent by "
            f"method = 'polytope', but method = '{config.method}' has no bound. Leave one of "
            "--tightness and --method out."
        )


def move_vertices(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Moves vertices until their hull collides, or apart as far as features let them.

    See :func:`patchcollide.optimisation.descent.find_vertices`, and
    :mod:`patchcollide.optimisation.tight` for a bound on features.

    Source:
        Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019.
    """
    task, start = problem.task, problem.parameterisation
    objective = TightObjective(task, start.source) if task.objective.tightness else None
    return find_vertices(task, start, problem.checkpoint, objective)
