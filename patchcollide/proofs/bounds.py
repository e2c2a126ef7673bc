"""What no image between vertices is beyond: the margin of a class, and the distance of features.

Three ways, each tighter and slower: *forward*, many simplices together; *rows*, where what is asked
for is followed back through ranges that were found forward; *maps*, where these ranges are followed
back as well. Of a layer that is affine in the image the first is as good as any: distances from a
target are then largest at a vertex, which needs no simplex cut (*convexity*); where images are
rounded, in a box around one.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.images.tensors import as_batch
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.attack import class_margin
from patchcollide.proofs.backward import MAX_BYTES, Backward
from patchcollide.proofs.bands import Band, cells_at_once, run_forward
from patchcollide.proofs.bends import Floor
from patchcollide.proofs.boxes import largest_distance_in_boxes
from patchcollide.proofs.features import FeatureBand
from patchcollide.proofs.nested import NestedReductions
from patchcollide.proofs.programs import Program
from patchcollide.proofs.simplices import at_corners, whole
from patchcollide.proofs.tracing import FEATURES, LOGITS, PRE_ACTIVATION, read_program
from patchcollide.shapes import Float64, Int64, Tensor, UInt8, ndarray

logger = logging.getLogger(__name__)

Method = Literal["convexity", "forward", "rows", "maps"]

HALF_LEVEL = 0.5 / 255

# What is left of a network over the hull and its parts may take so much.
_NESTED_BYTES = 512 << 20

# Where rows were not enough, they are tried again of simplices of such a share of the size.
_TRIED_AGAIN = 1 / 4

# A map of so much takes some hundredths of a second.
_CHEAP_BYTES = 32 << 20


@dataclass(eq=False)
class HullBounds:
    """Bounds over simplices of images between vertices.

    Attributes:
        network: In float64, on the CPU.
        program: What it computes.
        vertices: In ``[0, 1]``.
        target_class: Whose margin is meant.
        features: Of the target.
        radius: How far a value may be from one between the vertices.
        max_bytes: See :class:`patchcollide.proofs.backward.Backward`.
        too_large: Why there are no maps; empty where there are, or none were tried.
    """

    network: CollisionNetwork
    program: Program
    vertices: Float64[Tensor, "vertices channels height width"]
    target_class: int
    features: FeatureBand
    radius: Float64[Tensor, "1 channels height width"]
    max_bytes: int = MAX_BYTES
    too_large: str = ""
    _rows: Tensor = field(init=False)
    _ranges: dict[int, tuple[Tensor, Tensor]] = field(init=False, default_factory=dict)
    _margins: dict[Method, Tensor] = field(init=False, default_factory=dict)
    _distances: dict[Method, Tensor] = field(init=False, default_factory=dict)
    _weakest: dict[bytes, int] = field(init=False, default_factory=dict)
    _nested: NestedReductions = field(init=False)
    _too_large: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        count = self.network.num_classes
        rows = -torch.eye(count, dtype=torch.float64)
        rows[:, self.target_class] += 1
        others = torch.arange(count) != self.target_class
        self._rows = rows[others][:, None]
        outputs = {LOGITS: self.program.outputs[LOGITS]}
        self._nested = NestedReductions(outputs, self.vertices, self.radius, _NESTED_BYTES)

    @classmethod
    def of(
        cls,
        network: CollisionNetwork,
        vertices: UInt8[ndarray, "vertices height width channels"],
        target: Target,
        *,
        rounding: bool,
        max_bytes: int = MAX_BYTES,
    ) -> "HullBounds":
        """Sets up the bounds of a hull.

        Args:
            network: In any precision, on any device.
            vertices: 8-bit images of its size.
            target: What they collide with.
            rounding: Whether images between them are rounded to 8 bits, in whatever way.
            max_bytes: See there.

        Raises:
            NetworkError: If a part of the network has no bounds, or it has one class only.
            TargetError: If the layer says nothing of the target.
        """
        if network.num_classes < 2:
            raise NetworkError(
                f"{network.full_name} has one class, so every image is of it. Nothing is to prove."
            )
        double = network.in_float64().to("cpu")
        program = read_program(double)
        features = FeatureBand.of(double, program, target)
        # Between equal whole numbers, rounding changes nothing.
        varies = (vertices != vertices[:1]).any(axis=0).transpose(2, 0, 1)
        radius = HALF_LEVEL * rounding * torch.from_numpy(np.ascontiguousarray(varies)).double()
        exact = as_batch(vertices, torch.float64)
        return cls(double, program, exact, target.class_index, features, radius[None], max_bytes)

    @property
    def is_convex(self) -> bool:
        """Whether the layer is affine in the image: distances of features are largest at ends."""
        return self.program.straight(self.program.outputs[PRE_ACTIVATION])

    @property
    def is_at_vertices(self) -> bool:
        """Whether simplices need not be cut: distances are found as well as can be at vertices."""
        features = self.program.steps[self.program.outputs[FEATURES]].operation
        return self.is_convex and isinstance(features, Floor) and bool(features.at == 0)

    @property
    def _reach(self) -> Tensor:
        # A corner is a sum of all vertices, however few corners a simplex has.
        return self.radius + 2 * len(self.vertices) * EPSILON

    @property
    def class_name(self) -> str:
        """The name of the target's class."""
        return self.network.class_name(self.target_class)

    def margin_at(self, images: Tensor) -> Float64[Tensor, "images"]:
        """Returns the class's margin at images, differentiable."""
        return class_margin(self.network, self.target_class)(images)

    def tau_at(self, images: Tensor) -> Float64[Tensor, "images"]:
        """Returns the relative distance of features at images, differentiable."""
        z = self.network.pre_activation(images)
        return self.features.distance(self.network.blind.respond(z))

    def way_of_margins(self) -> Method:
        """Returns the best way to bound margins: maps, if they fit and rows prove nothing."""
        if self._map_bytes(len(self._rows)) > self.max_bytes:
            return "forward"
        if not self.radius.any() and self.margins(whole(len(self.vertices)), "rows") > 0:
            return "rows"
        return self._maps_if_they_fit(self.margins) or "rows"

    def way_of_distances(self) -> Method:
        """Returns the best way to bound distances."""
        if self.is_convex:
            return "convexity"
        units = self.program.steps[self.program.outputs[PRE_ACTIVATION]].size
        cheap: Method = "rows" if self._map_bytes(units) <= _CHEAP_BYTES else "forward"
        if not self.radius.any():
            return cheap
        return self._maps_if_they_fit(self.distances) or cheap

    def _map_bytes(self, rows: int) -> int:
        return 8 * rows * max(step.size for step in self.program.steps)

    def _maps_if_they_fit(self, bound: Callable[[Tensor, Method], Tensor]) -> Method | None:
        try:
            bound(whole(len(self.vertices)), "maps")
        except NetworkError as error:
            self.too_large = str(error)
            logger.info("%s; others are used.", error)
            return None
        return "maps"

    def margins(
        self,
        simplices: Float64[Tensor, "cells corners vertices"],
        method: Method,
        enough: float = math.inf,
    ) -> Float64[Tensor, "cells"]:
        """Returns what the class's margin is nowhere below over simplices of weights.

        Args:
            simplices: By their corners.
            method: How.
            enough: A bound that is as good as any better one, which may be had for less.

        Raises:
            NetworkError: If maps would be too large.
        """
        if method == "forward":
            return torch.cat([self._forward_margins(part) for part in self._parts(simplices)])
        return torch.stack([self._margin(each, method, enough) for each in simplices])

    def margin_at_centre(self, method: Method) -> float:
        """Returns what the margin of the centre alone is bounded by, which rounding decides."""
        count = len(self.vertices)
        centre = torch.full((1, 1, count), 1 / count, dtype=torch.float64)
        return float(self.margins(centre, method)[0])

    def distances(
        self, simplices: Float64[Tensor, "cells corners vertices"], method: Method
    ) -> Float64[Tensor, "cells"]:
        """Returns what the relative distance of features is nowhere above; errors as above."""
        if method in ("rows", "maps"):
            return torch.cat([self._distance_behind(each, method) for each in simplices])
        number = self.program.outputs[FEATURES]
        found = [
            run_forward(self.program, self._band(part), number)[number]
            for part in self._parts(simplices)
        ]
        distances = torch.cat([self._distance(band) for band in found])
        if method == "convexity" and self.is_at_vertices and self.radius.any():
            boxes = torch.stack([self._distance_in_boxes(each) for each in simplices])
            return torch.minimum(distances, boxes)
        return distances

    def _parts(self, simplices: Tensor) -> tuple[Tensor, ...]:
        return torch.split(simplices, cells_at_once(self.program, simplices.shape[1]))

    def _band(self, simplices: Tensor) -> Band:
        return Band.around(at_corners(simplices, self.vertices), self._reach)

    def _backward(self, simplex: Tensor, method: Method) -> Backward:
        return Backward(
            self.program,
            at_corners(simplex[None], self.vertices)[0],
            self._reach,
            narrows=method == "maps",
            max_bytes=self.max_bytes,
            known=self._ranges if method == "maps" else None,
        )

    def _backward_within(self, simplex: Tensor, method: Method) -> Backward:
        """Returns the same of a part of the hull, through what is left of the network over it."""
        reduction = self._nested.over(simplex)
        if reduction is None:
            return self._backward(simplex, method)
        return reduction.backward(simplex, narrows=method == "maps", max_bytes=self.max_bytes)

    def _note_ranges(self, simplex: Tensor, back: Backward) -> None:
        """Keeps the ranges that maps gave of the whole, which hold in each of its parts."""
        if self._is_whole(simplex):
            self._ranges |= back.ranges()

    def _is_whole(self, simplex: Tensor) -> bool:
        return torch.equal(simplex, whole(len(self.vertices))[0])

    def _margin(self, simplex: Tensor, method: Method, enough: float) -> Tensor:
        is_whole = self._is_whole(simplex)
        if is_whole and method in self._margins:
            return self._margins[method]
        over = self._backward if is_whole else self._backward_within
        found = lowest = torch.full((1,), -torch.inf, dtype=torch.float64)
        if is_whole or method == "rows" or self._are_rows_tried(simplex):
            back = over(simplex, "rows")
            lowest = back.lowest(back.program.outputs[LOGITS], self._rows).amin(dim=0)
        found = lowest.min()
        if method == "maps" and (is_whole or found < enough):
            self._too_large[len(simplex)] = _size(simplex)
            back = over(simplex, method)
            number = back.program.outputs[LOGITS]
            lowest = back.lowest(number, self._rows).amin(dim=0)
            # Of smaller ones, turning lines gains less than to cut them again.
            turned = back.smallest(number, self._rows) if is_whole else lowest.min()
            found = torch.maximum(found, turned)
            self._note_ranges(simplex, back)
            self._nested.note(simplex, back)
        if is_whole:
            self._margins[method] = found
        self._weakest[simplex.numpy().tobytes()] = int(lowest.argmin())
        return found

    def _are_rows_tried(self, simplex: Tensor) -> bool:
        """Says whether rows may be enough: not where they were not, of one hardly larger."""
        return _size(simplex) <= _TRIED_AGAIN * self._too_large.get(len(simplex), math.inf)

    def weakest_corners(
        self, simplices: Float64[Tensor, "cells corners vertices"]
    ) -> Int64[Tensor, "cells"]:
        """Returns the corner where the margin's bound was lowest; -1 where that is not known."""
        return torch.tensor(
            [self._weakest.get(each.numpy().tobytes(), -1) for each in simplices.contiguous()]
        )

    def _forward_margins(self, simplices: Tensor) -> Tensor:
        number = self.program.outputs[LOGITS]
        band = run_forward(self.program, self._band(simplices), number)[number]
        lower, upper = (end.flatten(2) for end in band.ends())
        others = torch.arange(upper.shape[2]) != self.target_class
        gaps = lower[:, :, [self.target_class]] - upper[:, :, others]
        size = lower[:, :, [self.target_class]].abs() + upper[:, :, others].abs()
        return (gaps - EPSILON * size).amin(dim=(1, 2))

    def _distance_behind(self, simplex: Tensor, method: Method) -> Float64[Tensor, "1"]:
        is_whole = self._is_whole(simplex)
        if is_whole and method in self._distances:
            return self._distances[method]
        back = self._backward(simplex, method)
        back.band(self.program.outputs[PRE_ACTIVATION], every_unit=True)
        self._note_ranges(simplex, back)
        found = self._distance(back.band(self.program.outputs[FEATURES]))
        if is_whole:
            self._distances[method] = found
        return found

    def _distance_in_boxes(self, simplex: Tensor) -> Tensor:
        found = largest_distance_in_boxes(
            self.program,
            self.program.outputs[PRE_ACTIVATION],
            at_corners(simplex[None], self.vertices)[0],
            self.radius,
            2 * len(self.vertices) * EPSILON,
            self.features.plain,
        )
        return torch.tensor(self.features.relative(found), dtype=torch.float64)

    def _distance(self, band: Band) -> Float64[Tensor, "cells"]:
        lower, upper = (end.flatten(2) for end in band.ends())
        gaps = torch.maximum(upper - self.features.lower, self.features.upper - lower)
        # Not negative: a gap is at least as large as a difference of either sign.
        distance = torch.linalg.vector_norm(gaps.clamp(min=0), dim=2).amax(dim=1)
        if self.features.scale == 0:
            return torch.full_like(distance, torch.inf)
        tau: Tensor = (1 + (gaps.shape[2] + 8) * EPSILON) * distance / self.features.scale
        return tau


def _size(simplex: Float64[Tensor, "corners vertices"]) -> float:
    """Returns the volume of a simplex of weights, as a multiple of others' of as many corners."""
    return float(torch.linalg.det(simplex @ simplex.mT).abs().sqrt())
