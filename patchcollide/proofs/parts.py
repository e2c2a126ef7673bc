"""What is proved of a hull where the whole is not: around its centre, of its volume, of its edges.

All of it is of the class's margin, and by the same bounds as a proof of the whole.
"""

import time
from typing import TypedDict

from patchcollide.progress import StopRequest
from patchcollide.proofs.bounds import HullBounds, Method
from patchcollide.proofs.edges import EdgesProof, prove_edges, walk_edges_for
from patchcollide.proofs.knowledge import Knowledge
from patchcollide.proofs.search import ABOVE_ZERO, Bound, Budget, refine
from patchcollide.proofs.simplices import around_centre
from patchcollide.shapes import Tensor

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


class Partial(TypedDict):
    """What is known of a hull that is not proved.

    Attributes:
        at_centre: What the margin at the centre alone is proved to be at least. Below 0, without
            rounding to 8 bits, float64 rounds too much for anything to be proved: edges are walked.
        part: Around the centre.
        edges: Their lengths.
    """

    at_centre: float
    part: ProvedPart
    edges: EdgesProof


def prove_parts(
    bounds: HullBounds,
    method: Method,
    known: Knowledge,
    name: str,
    products: Tensor,
    seconds: float,
    request: StopRequest | None = None,
) -> Partial:
    """Proves what it can of a hull, a third of the time each: centre, volume, edges.

    Args:
        bounds: Of the hull.
        method: Of margins.
        known: Cells of the hull, and of edges from earlier; changed in place.
        name: Of the hull's cells among them.
        products: See :func:`patchcollide.proofs.simplices.halved`.
        seconds: In all.
        request: Of the user to stop.

    Raises:
        InterruptedWorkError: If the user asked to stop; what is known is kept.
    """

    def bound(simplices: Tensor) -> Tensor:
        return bounds.margins(simplices, method)

    at_centre = bounds.margin_at_centre(method)
    if at_centre <= 0 and not bounds.radius.any():
        none: ProvedPart = {"scale": 0.0, "share": 0.0, "margin": None, "seconds": 0.0}
        return {"at_centre": at_centre, "part": none, "edges": walk_edges_for(bounds, seconds)}
    part = prove_part(bound, len(products), seconds / 3)
    budget = Budget(seconds / 3, at_once=4, highest=True)
    refine(known.cells[name], bound, lambda: ABOVE_ZERO, products, budget, request)
    edges = prove_edges(bound, known.cells, products, seconds / 3, request)
    return {"at_centre": at_centre, "part": part, "edges": edges}


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
