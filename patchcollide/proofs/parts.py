"""The part of a hull around its centre that is proved, where the whole is not."""

import time
from typing import TypedDict

from patchcollide.proofs.search import Bound
from patchcollide.proofs.simplices import around_centre

_SMALLEST = 2.0**-24
_STEPS = 6


class ProvedPart(TypedDict):
    """The largest simplex around the centre that was proved, edges parallel to the whole one's.

    Attributes:
        scale: The length of its edges, as a share of theirs; 0 if nothing was proved.
        share: Of the whole's volume.
        margin: No image of it has a smaller one.
        seconds: What that took.
    """

    scale: float
    share: float
    margin: float | None
    seconds: float


def prove_part(bound: Bound, num_vertices: int, seconds: float) -> ProvedPart:
    """Looks for the largest simplex around the centre of which all values are above 0.

    Its size is halved until that is so, then bisected.

    Args:
        bound: Gives what no point of a simplex is below.
        num_vertices: Of the whole.
        seconds: After which only what was begun is finished.
    """
    begun = time.perf_counter()
    low, high, margin = 0.0, 1.0, None
    scale, bisections = 0.5, 0
    while time.perf_counter() - begun < seconds and scale > _SMALLEST and bisections < _STEPS:
        found = float(bound(around_centre(num_vertices, scale))[0])
        if found > 0:
            low, margin = scale, found
        else:
            high = scale
        bisections += low > 0
        scale = (low * high) ** 0.5 if low else scale / 4
    return {
        "scale": low,
        "share": low ** (num_vertices - 1),
        "margin": margin,
        "seconds": time.perf_counter() - begun,
    }
