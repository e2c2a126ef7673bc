"""How large the steps are of a descent within a bound on features.

They keep their size for most of the centre's steps, and of the vertices', and then fall as a cosine
does. The centre's grow where it comes no nearer; the vertices' are halved each time nothing is
gained. What this goes by is part of the objective's state, which a checkpoint holds.
"""

import math

NEVER = 1e9

_PATIENCE, _HALVINGS = 4, 3
_LEAST_GAIN = 0.005
_SLOWEST = 0.2
"""Share of the pace that would bring the centre to its aim in time, below which its steps grow."""
_HOLD, _LAST_SIZE = 0.7, 0.05
"""For how long steps keep their size, and to what share they fall after. A centre whose steps fell
from the first ended on its way, in steps too small."""


def fresh_sizes(size: float) -> dict[str, float]:
    """Returns the state of steps that begin with a size, as a share of the learning rate."""
    return {"size": size, "halvings": float(_HALVINGS), "waiting": 0.0, "best": -NEVER}


def share_of_size(done: float) -> float:
    """Returns what of its size a step has when a share of all steps is done."""
    falling = max(0.0, (done - _HOLD) / (1 - _HOLD))
    fall = (1 + math.cos(math.pi * falling)) / 2
    return _LAST_SIZE + (1 - _LAST_SIZE) * fall


def gains_no_more(state: dict[str, float], value: float) -> bool:
    """Halves the step where nothing is gained; says whether it was halved often enough.

    Args:
        state: Changed in place.
        value: The best of what was found so far; more is better.
    """
    if value > state["best"] + _LEAST_GAIN:
        state["best"], state["waiting"] = value, 0.0
        return False
    state["best"] = max(state["best"], value)
    state["waiting"] += 1
    if state["waiting"] < _PATIENCE:
        return False
    state["size"] /= 2
    state["halvings"] -= 1
    state["waiting"] = 0.0
    return state["halvings"] < 0


def grow(
    state: dict[str, float], log_tau: float, wanted: float, *, every: int, largest: float
) -> None:
    """Doubles the centre's steps where at its pace it would come nowhere near its aim.

    Args:
        state: Changed in place.
        log_tau: The logarithm of how far its features are, in the mean since the last check.
        wanted: What of that must go in each step that is left.
        every: Steps between two checks.
        largest: The largest size, as a share of the learning rate.
    """
    state["waiting"] += 1
    if state["waiting"] < _PATIENCE:
        return
    gained = (-state["best"] - log_tau) / (_PATIENCE * every)
    if gained < _SLOWEST * wanted:
        state["size"] = min(largest, 2 * state["size"])
    state["best"], state["waiting"] = -log_tau, 0.0
