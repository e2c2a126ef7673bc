"""What is proved of all images between vertices, what was found among them, and what is open."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from patchcollide.errors import InterruptedWorkError
from patchcollide.images.tensors import as_batch, as_pictures
from patchcollide.progress import StopRequest
from patchcollide.proofs.attack import Measure, Worst, find_worst, find_worst_nearby
from patchcollide.proofs.bounds import HullBounds, Method
from patchcollide.proofs.knowledge import Knowledge
from patchcollide.proofs.parts import Partial, prove_parts
from patchcollide.proofs.results import CounterExample, HullProof, Proved, Result, sentence
from patchcollide.proofs.search import Bound, Budget, Cells, Clock, refine
from patchcollide.proofs.simplices import combined, whole
from patchcollide.randomness import Purpose, seeded
from patchcollide.shapes import Tensor, UInt8, ndarray
from patchcollide.torch_modes import proof_modes

SECONDS = 10.0
"""How long simplices are cut, if nothing else is said."""

MARGIN, TAU = "margin", "tau"

# A bound so near to the worst point found is good enough.
_NEAR = 0.05

# The share of the time that the search for the worst image may take, of either; and so many seconds
# in any case, of those there are.
_OF_ATTACKS, _ATTACK_SECONDS = 0.1, 1.0

# Bounds of distances within so many times what is asked for may be brought there by cutting.
_CLOSE = 1.25

# What float64 rounds of a value that is compared with a limit is far less than this share.
_SURE = 1e-9


@dataclass(frozen=True)
class Claim:
    """What is to be proved, and with how much effort.

    Attributes:
        gamma: What features may differ by; None for the class alone.
        rounding: Whether images are rounded to 8 bits, in whatever way.
        seconds: How long to look for the worst image and to cut simplices. What is bounded at
            first is finished in any case.
        cells: How many simplices to bound at most.
        seed: Of the search for the worst image.
        parts: Whether to prove parts of a hull where the whole is not proved, for as long again.
        clock: What tells the seconds.
    """

    gamma: float | None = None
    rounding: bool = False
    seconds: float = SECONDS
    cells: int = 1_000_000
    seed: int = 0
    parts: bool = True
    clock: Clock = time.perf_counter


class Prover:
    """Proves a claim about a hull, or refutes it, or says how far it came.

    Args:
        bounds: Of the hull.
        claim: What is to be proved.
        known: From an earlier attempt; changed in place.
    """

    def __init__(self, bounds: HullBounds, claim: Claim, known: Knowledge | None = None) -> None:
        self.bounds, self.claim = bounds, claim
        self.known = Knowledge() if known is None else known
        flat = bounds.vertices.flatten(1)
        self._products = flat @ flat.T
        self._near: dict[str, tuple[Worst, float]] = {}
        self._measures: dict[str, Measure] = {
            MARGIN: bounds.margin_at,
            TAU: lambda images: -bounds.tau_at(images),
        }

    @proof_modes()
    def run(self, request: StopRequest | None = None) -> HullProof:
        """Looks for the worst images, then bounds the rest.

        Raises:
            InterruptedWorkError: If the user asked to stop; what is known is kept.
        """
        seconds = self.claim.seconds
        until = self.claim.clock() + seconds
        for number, (name, measure) in enumerate(self._measures.items()):
            if name not in self.known.worst:
                generator = seeded(self.claim.seed, Purpose.WORST, number)
                self.known.worst[name] = find_worst(
                    measure,
                    self.bounds.vertices,
                    generator,
                    seconds=min(seconds, max(_OF_ATTACKS * seconds, _ATTACK_SECONDS)),
                    clock=self.claim.clock,
                )
        methods = {
            MARGIN: self.bounds.way_of_margins(),
            TAU: self.bounds.way_of_distances(),
        }
        for name, method in methods.items():
            if name not in self.known.cells:
                first, bound = whole(len(self.bounds.vertices)), self._bound_of(name, method)
                self.known.cells[name] = Cells.first(first, bound, self.claim.clock)
        refuted = self._counterexample()
        if not refuted:
            left = until - self.claim.clock()
            self._cut(MARGIN, methods[MARGIN], (0.5 if self._is_close() else 1.0) * left, request)
            for name in (TAU, MARGIN):
                if (left := until - self.claim.clock()) > 0:
                    self._cut(name, methods[name], left, request)
        return self._described(methods, refuted or self._counterexample(), request)

    def _is_close(self) -> bool:
        """Says whether features are not within what is asked for yet, but may be shown to be."""
        gamma, most = self.claim.gamma, -self.known.cells[TAU].lowest
        return (
            gamma is not None and gamma < most <= _CLOSE * gamma and not self.bounds.is_at_vertices
        )

    def _bound_of(self, name: str, method: Method) -> Bound:
        def bound(simplices: Tensor) -> Tensor:
            # The middles are looked at too: what bounds cannot exclude may be there.
            middles = simplices.mean(dim=1)
            values = self._measures[name](combined(middles, self.bounds.vertices))
            best = int(values.argmin())
            if float(values[best]) < self.known.worst[name].value:
                self.known.worst[name] = Worst(float(values[best]), middles[best])
            if name == MARGIN:
                return self.bounds.margins(simplices, method, self._goal(name))
            return -self.bounds.distances(simplices, method)

        return bound

    def _cut(self, name: str, method: Method, seconds: float, request: StopRequest | None) -> None:
        if request is not None and request.requested:
            raise InterruptedWorkError("The user asked to stop before simplices were cut.")
        cells = self.known.cells[name]
        at_vertices = name == TAU and self.bounds.is_at_vertices
        if at_vertices or not math.isfinite(cells.lowest):
            return  # Of smaller simplices it would be as bad.
        # Of distances only the first bound is wanted where no limit was asked for.
        if (name == TAU and self.claim.gamma is None) or (
            name == MARGIN and self._is_hopeless(method)
        ):
            return
        together = 16 if method == "forward" else 2
        refine(
            cells,
            self._bound_of(name, method),
            lambda: self._goal(name),
            self._products,
            Budget(max(seconds, 0.0), self.claim.cells, together, clock=self.claim.clock),
            request,
            self.bounds.weakest_corners if name == MARGIN else None,
        )

    def _is_hopeless(self, method: Method) -> bool:
        """Says whether not even the centre alone can be proved, since float64 rounds too much."""
        if self.bounds.radius.any() or self.known.cells[MARGIN].lowest > 0:
            return False
        return self.bounds.margin_at_centre(method) <= 0

    def _goal(self, name: str) -> float:
        """Returns what bounds are to be: near the worst that was found, or on a limit's side."""
        worst, gamma = self._found(name), self.claim.gamma
        limit = 0.0 if name == MARGIN else -(gamma or torch.inf)
        if worst < limit and not self.claim.rounding:
            return -torch.inf  # It is refuted; that bounds come nearer would say no more.
        near = worst - _NEAR * abs(worst)
        return near if near >= limit else limit

    def _found(self, name: str) -> float:
        """Returns the worst value found, of the images that are meant."""
        worst = self.known.worst[name]
        if not self.claim.rounding:
            return worst.value
        if name not in self._near or self._near[name][0] is not worst:
            point = combined(worst.weights, self.bounds.vertices)[None]
            images = torch.cat([point, self.bounds.vertices])
            value = find_worst_nearby(self._measures[name], images, self.bounds.radius[0])
            self._near[name] = worst, value
        return self._near[name][1]

    def _counterexample(self) -> CounterExample | None:
        for name, limit in ((MARGIN, 0.0), (TAU, -(self.claim.gamma or torch.inf))):
            worst = self.known.worst[name]
            exact = combined(worst.weights, self.bounds.vertices)
            rounded = rounded_image(exact)
            values = [float(self._measures[name](image[None])) for image in (exact, rounded)]
            meant = values[1] if self.claim.rounding else values[0]
            if meant < limit - _SURE * abs(limit) or (name == MARGIN and meant <= 0):
                return self._described_image(worst, rounded, survives=values[1] < limit)
        return None

    def _described_image(self, worst: Worst, rounded: Tensor, survives: bool) -> CounterExample:
        network = self.bounds.network
        logits = network.logits_of_prepared(network.prepared(rounded[None]))[0]
        return {
            "weights": worst.weights.tolist(),
            "class_name": network.class_name(int(logits.argmax())),
            "margin": float(self.bounds.margin_at(rounded[None])),
            "tau": float(self.bounds.tau_at(rounded[None])),
            "survives_rounding": survives,
        }

    def _described(
        self,
        methods: dict[str, Method],
        refuted: CounterExample | None,
        request: StopRequest | None,
    ) -> HullProof:
        cells, partial = self.known.cells[MARGIN], None
        if self.claim.parts and cells.share_above(0.0) < 1:
            partial = self._partial(methods[MARGIN], request)
        share = cells.share_above(0.0)
        margin, tau = (self._figures(name, methods[name]) for name in (MARGIN, TAU))
        result: Result = "refuted" if refuted else "open"
        if not refuted and share == 1 and self._is_within(tau):
            result = "proved"
        proof: HullProof = {
            "result": result,
            "sentence": "",
            "rounding": self.claim.rounding,
            "gamma": self.claim.gamma,
            "margin": margin,
            "tau": tau,
            "share_proved": share,
            "part": None,
            "counterexample": refuted,
            "max_map_bytes": self.bounds.max_bytes,
        }
        if partial and share < 1:
            proof = {**proof, **partial}
        if self.bounds.too_large:
            proof["not_mapped"] = self.bounds.too_large
        proof["sentence"] = sentence(proof, len(self.bounds.vertices), self.bounds.class_name)
        return proof

    def _partial(self, method: Method, request: StopRequest | None) -> Partial:
        return prove_parts(
            self.bounds,
            method,
            self.known,
            MARGIN,
            self._products,
            self.claim.seconds,
            request,
        )

    def _is_within(self, tau: Proved) -> bool:
        gamma = self.claim.gamma
        return gamma is None or (tau["proved"] is not None and tau["proved"] <= gamma)

    def _figures(self, name: str, method: Method) -> Proved:
        cells, sign = self.known.cells[name], 1 if name == MARGIN else -1
        proved = sign * cells.lowest
        return {
            "proved": proved if math.isfinite(proved) else None,
            "found": sign * self._found(name),
            "weights": self.known.worst[name].weights.tolist(),
            "method": method,
            "cells": cells.bounded,
            "seconds": cells.seconds,
        }


def rounded_image(image: Tensor) -> Tensor:
    """Returns an image of ``[0, 1]`` as 8 bits hold it."""
    return as_batch(as_pictures(image[None]), torch.float64)[0]


def counterexample_picture(
    bounds: HullBounds, found: CounterExample
) -> UInt8[ndarray, "height width channels"]:
    """Returns a counterexample as an 8-bit picture."""
    weights = torch.tensor(found["weights"], dtype=torch.float64)
    return np.asarray(as_pictures(combined(weights, bounds.vertices)[None])[0])
