"""A network over one hull, of which only what bends there is left.

Between the vertices of a hull most units are on or off throughout, and most windows of a pool have
one value that is the largest. There the network is affine: what bends depends on the image, and on
what bends before it, by affine functions. These are worked out once, as matrices; parts of the
hull, of which there may be many, are then bounded through far fewer numbers than the network has.
Where vertices need not be rounded, the weights of the vertices take the image's place.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.backward import Backward, Ranges
from patchcollide.proofs.bends import NEVER, Bend, Largest
from patchcollide.proofs.programs import Linear, Program, Step
from patchcollide.proofs.simplices import combined
from patchcollide.shapes import Bool, Float64, Int64, Tensor
from patchcollide.torch_modes import proof_modes

_BYTES_AT_ONCE = 8 << 20


@dataclass(frozen=True, eq=False)
class Affine:
    """Affine functions of the image, and of what bends, over a hull.

    Attributes:
        slopes: Their coefficients, by the steps' numbers; the image's is 0.
        offset: What is added.
        error: How far they are off at most, anywhere on the hull.
    """

    slopes: dict[int, Float64[Tensor, "functions _"]]
    offset: Float64[Tensor, "functions"]
    error: Float64[Tensor, "functions"]


@dataclass(eq=False)
class Reduction:
    """What is left of a network over a hull.

    Attributes:
        program: It has the same outputs as the network's, of those that were wanted. Its image
            is a row of numbers; see :meth:`corners`.
        known: What its values lie between over the hull.
        radius: How far each of the image's numbers may be off.
        bytes: What the matrices take.
        pixels: The vertices as images of the program; None where these are the weights themselves.
    """

    program: Program
    known: Ranges
    radius: Float64[Tensor, "1 values"]
    bytes: int
    pixels: Float64[Tensor, "vertices values"] | None

    def backward(
        self, simplex: Float64[Tensor, "corners vertices"], *, narrows: bool, max_bytes: int
    ) -> Backward:
        """Returns bounds over a simplex within the hull, or the part of it; see there."""
        corners = self.corners(simplex)
        reach = self.radius + 4 * simplex.shape[1] * EPSILON
        return Backward(
            self.program, corners, reach, narrows=narrows, max_bytes=max_bytes, known=self.known
        )

    def corners(
        self, simplex: Float64[Tensor, "corners vertices"]
    ) -> Float64[Tensor, "corners 1 values"]:
        """Returns the corners of a simplex of weights as images of the program."""
        corners = simplex if self.pixels is None else combined(simplex, self.pixels)
        return corners[:, None]


class Reducer:
    """Works out what is left of a network over a hull.

    Args:
        back: Bounds over all of it, already of what is wanted and of all that this depends on.
        vertices: Of the hull.
        radius: How far each value of an image may be from one between them.
    """

    def __init__(
        self,
        back: Backward,
        vertices: Float64[Tensor, "vertices *image"],
        radius: Float64[Tensor, "*values"],
    ) -> None:
        self._back, self._steps = back, back.program.steps
        self._vertices, self._radius = vertices.flatten(1), radius.flatten()
        self._is_box = bool(radius.any())
        self._varies = (self._vertices != self._vertices[0]).any(dim=0)
        self._left: dict[int, Tensor] = {}
        self._program = Program()
        self._numbers: dict[int, int] = {}
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    @proof_modes()
    def reduced(
        self, wanted: Mapping[str, int], max_bytes: int, outer: Reduction | None = None
    ) -> Reduction | None:
        """Returns what is left, or None if its matrices would be too large.

        Args:
            wanted: The numbers of affine steps, by names.
            max_bytes: How much memory the matrices may take.
            outer: The reduction that the bounds went through, if they are of a part of the hull.
        """
        for number in self._back.program.bends(*wanted.values()):
            self._left[number] = self._bent(number)
        count = int(self._varies.sum()) if self._is_box else len(self._vertices)
        self._program.steps.append(Step(None, (), torch.Size((1, count))))
        self._numbers[0] = 0
        if (size := self._bytes(wanted)) > max_bytes:
            return None
        for number, left in self._left.items():
            if left.any():
                self._add_bends(number, left)
        for name, number in wanted.items():
            units = torch.arange(self._steps[number].size)
            linear = self._linear(self._affine(number, units), self._steps[number].shape)
            self._program.outputs[name] = self._program.add(*linear)
        pixels, radius = None, torch.zeros(1, count, dtype=torch.float64)
        if self._is_box:
            pixels, radius = self._vertices[:, self._varies], self._radius[None, self._varies]
        if outer is not None:
            pixels = outer.pixels
        return Reduction(self._program, self._known, radius, size, pixels)

    def _bytes(self, wanted: Mapping[str, int]) -> int:
        """Returns the size of all matrices, and of their absolute values."""
        columns, found = self._program.steps[0].size, 0
        for number, left in self._left.items():
            size = int(left.sum())
            found += size * columns
            operation = self._steps[number].operation
            columns += int(left.any(dim=-1).sum()) if isinstance(operation, Largest) else size
        found += columns * sum(self._steps[number].size for number in wanted.values())
        return 2 * 8 * found

    def _bent(self, number: int) -> Bool[Tensor, "*units"]:
        """Returns which units of a step are not affine; of windows, which values may be largest."""
        (source,) = self._steps[number].inputs
        lower, upper = (end[0] for end in self._back.bands[source].ends())
        if isinstance(self._steps[number].operation, Largest):
            return _may_be_largest(lower, upper, self._back.choices[number].taken)
        lines = self._back.lines[number]
        offsets = torch.cat([lines.lower_offset, lines.upper_offset])
        bent = (lines.lower_slope != lines.upper_slope) | (offsets != offsets[:1]).any(dim=0)
        return bent.flatten()

    def _add_bends(self, number: int, left: Tensor) -> None:
        """Adds what bends in one step, and the matrix before it."""
        operation, (source,) = self._steps[number].operation, self._steps[number].inputs
        shape = self._steps[source].shape
        low, high = (end[0].flatten() for end in self._back.bands[source].range())
        if isinstance(operation, Largest):
            windows = left[left.any(dim=-1)]
            most = int(windows.sum(dim=-1).max())
            filled = torch.arange(most) < windows.sum(dim=-1, keepdim=True)
        else:
            filled = torch.ones(int(left.sum()), dtype=torch.bool)
        units = left.flatten().nonzero()[:, 0]
        affine = self._affine(source, units)
        linear, inputs = self._linear(affine, torch.Size((1, *filled.shape)), filled)
        before = self._program.add(linear, inputs)
        self._known[before] = _placed(low[units], filled), _placed(high[units], filled)
        assert isinstance(operation, Bend | Largest)  # noqa: S101
        bend = operation.of_units(shape, units) if isinstance(operation, Bend) else operation
        self._numbers[number] = self._program.add(bend, (before,))

    def _linear(
        self, affine: Affine, shape: torch.Size, filled: Tensor | None = None
    ) -> tuple[Linear, tuple[int, ...]]:
        """Returns affine functions as a step, and what it takes."""
        filled = torch.ones(shape[1:], dtype=torch.bool) if filled is None else filled
        inputs = tuple(
            number
            for number, slopes in sorted(affine.slopes.items())
            if number == 0 or slopes.any()
        )
        matrices = [affine.slopes[number] for number in inputs]
        inputs = tuple(self._numbers[number] for number in inputs)
        shapes = [self._program.steps[number].shape for number in inputs]
        terms = sum(matrix.shape[1] for matrix in matrices)
        # What the functions are off counts as rounding of their offsets.
        off = affine.offset.abs() + affine.error / ((terms + 8) * EPSILON)
        linear = Linear(
            _Matrices(matrices, affine.offset, filled, NEVER),
            _Matrices([matrix.abs() for matrix in matrices], torch.zeros_like(off), filled, 0.0),
            terms,
            tuple(shapes),
            _placed(off, filled, 0.0),
            functools.partial(_adjoint, matrices, shapes, filled.flatten().nonzero()[:, 0]),
        )
        return linear, inputs

    def _affine(self, number: int, units: Int64[Tensor, "units"]) -> Affine:
        """Returns values of a step as affine functions of what is left."""
        most = max(step.size for step in self._steps[: number + 1])
        parts = torch.split(units, max(1, _BYTES_AT_ONCE // (8 * most)))
        found = [self._part(number, part) for part in parts]
        return Affine(
            {each: torch.cat([part.slopes[each] for part in found]) for each in found[0].slopes},
            torch.cat([part.offset for part in found]),
            torch.cat([part.error for part in found]),
        )

    def _part(self, number: int, units: Int64[Tensor, "units"]) -> Affine:
        rows = torch.zeros(len(units), self._steps[number].size, dtype=torch.float64)
        rows[torch.arange(len(units)), units] = 1
        waiting = {number: rows.reshape(-1, *self._steps[number].shape)}
        slopes: dict[int, Tensor] = {}
        offset, error = torch.zeros(2, len(units), dtype=torch.float64)
        for step in range(number, 0, -1):
            if step not in waiting:
                continue
            rows = waiting.pop(step)
            error = error + self._back.rounding(step, rows)
            if step in self._left:
                slopes[step], rows = self._apart(step, rows)
            parts, added = self._one_back(step, rows)
            offset = offset + added
            for read, part in zip(self._steps[step].inputs, parts, strict=True):
                waiting[read] = waiting[read] + part if read in waiting else part
        shape = (len(units), self._vertices.shape[1])
        image = waiting[0].flatten(1) if 0 in waiting else torch.zeros(shape, dtype=torch.float64)
        slopes[0], added, off = self._of_image(image)
        return Affine(slopes, offset + added, (1 + 1e-9) * (error + off))

    def _apart(self, number: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the coefficients of what is left of a step, and rows without them."""
        left = self._left[number]
        is_left = left.any(dim=-1) if isinstance(self._steps[number].operation, Largest) else left
        flat = rows.flatten(1)
        return flat[:, is_left], flat.masked_fill(is_left, 0.0).reshape(rows.shape)

    def _one_back(self, number: int, rows: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns rows over what a step takes, where it is affine, and what is added."""
        operation = self._steps[number].operation
        if isinstance(operation, Linear):
            return operation.adjoint(rows), rows.flatten(1) @ operation.offset.flatten()
        if isinstance(operation, Largest):
            taken = rows[..., None] * self._back.choices[number].taken
            return (taken,), torch.zeros(len(rows), dtype=torch.float64)
        lines = self._back.lines[number]
        return (rows * lines.lower_slope,), rows.flatten(1) @ lines.lower_offset[0].flatten()

    def _of_image(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns functions of an image as such of the reduced one, what is added, and is off."""
        sizes = self._vertices.abs().amax(dim=0)
        reach = (rows.shape[1] + 4 * len(self._vertices) + 16) * EPSILON * (1 + sizes)
        error = rows.abs() @ reach
        if not self._is_box:
            return rows @ self._vertices.mT, torch.zeros(len(rows), dtype=torch.float64), error
        same = ~self._varies
        return rows[:, self._varies], rows[:, same] @ self._vertices[0, same], error


def _may_be_largest(lower: Tensor, upper: Tensor, taken: Tensor) -> Bool[Tensor, "windows values"]:
    """Returns which values of windows may be the largest; none where it is the one taken anyway.

    Args:
        lower: Values at the corners of affine functions below them.
        upper: Of those above.
        taken: One at the value of each window that it is compared with.
    """
    best = (lower * taken).sum(dim=-1, keepdim=True)
    found = ((upper > best) & (upper > NEVER / 2)).any(dim=0) | taken.bool()
    found = found.reshape(-1, found.shape[-1])
    return found & (found.sum(dim=-1, keepdim=True) > 1)


def _placed(values: Tensor, filled: Tensor, rest: float = NEVER) -> Tensor:
    """Returns rows of values in the places that are filled, and what never matters in others."""
    if filled.all():
        return values.reshape(*values.shape[:-1], 1, *filled.shape)
    found = torch.full((*values.shape[:-1], *filled.shape), rest, dtype=torch.float64)
    found[..., filled] = values
    return found.unsqueeze(-filled.ndim - 1)


@dataclass(frozen=True, eq=False)
class _Matrices:
    """Affine functions of several values, as a step runs them; what is not filled is ``rest``."""

    matrices: list[Float64[Tensor, "functions _"]]
    offset: Float64[Tensor, "functions"]
    filled: Bool[Tensor, "*shape"]
    rest: float

    def __call__(self, *values: Tensor) -> Tensor:
        found = self.offset
        for matrix, value in zip(self.matrices, values, strict=True):
            found = value.flatten(1) @ matrix.mT + found
        return _placed(found, self.filled, self.rest)


def _adjoint(
    matrices: list[Tensor], shapes: list[torch.Size], places: Tensor, coefficients: Tensor
) -> tuple[Tensor, ...]:
    flat = coefficients.flatten(1)
    flat = flat if len(places) == flat.shape[1] else flat[:, places]
    return tuple(
        (flat @ matrix).reshape(-1, *shape) for matrix, shape in zip(matrices, shapes, strict=True)
    )
