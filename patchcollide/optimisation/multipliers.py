"""How much each aim of a descent counts: as much as it takes to hold its bound.

A descent that parts vertices has three aims: features near the target's, images near the source,
vertices far from each other. The first two have bounds; each gets a multiplier that rises while its
bound fails and falls while it holds. So nothing depends on the units of a network's features.
"""

import math

HIGHEST = {"features": 6.0, "source": 1.5}
"""Of each multiplier. Where both bounds cannot hold, features win, and the source's gives way."""

_LOWEST = -2.0


def weigh(
    slow: dict[str, float],
    failures: dict[str, float],
    *,
    with_distance: bool,
    rate: float = 0.05,
    gain: float = 5.0,
) -> dict[str, float]:
    """Moves the multipliers, and returns the shares of the aims.

    A multiplier is a slow part, which adds failures up, and a fast one, their size now: without the
    latter it swings for hundreds of steps.

    Args:
        slow: The slow parts, changed in place.
        failures: By how much each bound fails, as logarithms; negative where it holds.
        with_distance: Whether the vertices' distance is an aim now.
        rate: By how much a failure of 1 raises a slow part.
        gain: The fast part of a failure of 1.

    Returns:
        Shares of ``features``, ``source`` and ``distance``: a softmax, in which the distance has a
        multiplier of 0. A bound that is not there, in ``failures``, has no share.
    """
    now = {}
    for name, failure in failures.items():
        failure = max(-1.0, min(1.0, failure))
        slow[name] = max(_LOWEST, min(HIGHEST[name], slow[name] + rate * failure))
        now[name] = min(HIGHEST[name], slow[name] + gain * failure)
    if with_distance:
        now["distance"] = 0.0
    total = sum(math.exp(value) for value in now.values())
    return {name: math.exp(value) / total for name, value in now.items()}
