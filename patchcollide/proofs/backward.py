"""Linear functions of a network's values, followed back to the image (CROWN).

A row of coefficients goes back through the steps: an affine one by its adjoint, one that bends by
the line that the sign of each coefficient asks for, raised at each corner of the simplex as little
as it must be. What is left is a linear function of the image, whose smallest value over a simplex,
and all that is near it, is plain to see. The lines need the ranges of what they bend: those are
found the same way, from the first step that bends on.

Source:
    Zhang, Weng, Chen, Hsieh and Daniel, "Efficient neural network robustness certification with
    general activation functions", NeurIPS 2018; the lines below a ReLU are theirs.
"""

import math
from collections.abc import Mapping

import torch

from patchcollide.errors import NetworkError
from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.bands import Band, after_step
from patchcollide.proofs.bends import Bend, Cap, Choice, Floor, Largest, Lines, Slopes
from patchcollide.proofs.programs import Linear, Program, Step
from patchcollide.shapes import Bool, Float64, Tensor
from patchcollide.torch_modes import proof_modes

MAX_BYTES = 1 << 30
"""How large a dense map from the units that bend in one step to earlier values may be."""

_BYTES_AT_ONCE = 64 << 20

_TILTS, _TILT, _TILTED = 6, 0.3, 3

# So many units are followed back at first; if that gains nothing the others are not.
_TRIED, _GAIN = 16, 0.99

Ranges = Mapping[int, tuple[Tensor, Tensor]]
"""The smallest and the largest values that steps may have, by the steps' numbers."""


class Backward:
    """Bounds over one simplex of images and all that is near it.

    Args:
        program: The network.
        corners: Images.
        radius: How far each value of an image may be from one between them.
        narrows: Whether the range of all that bends is followed back too, instead of forward: that
            takes a dense map for each step that bends.
        max_bytes: How large maps may be; see :data:`MAX_BYTES`.
        known: What values lie between, of some steps, for example over a larger simplex.

    Attributes:
        bands: Of all steps met so far, no wider than those of a pass forward.
        lines: Of those that bend.
        choices: Of those that take the largest of some values.
    """

    def __init__(
        self,
        program: Program,
        corners: Float64[Tensor, "corners *shape"],
        radius: float | Tensor = 0.0,
        *,
        narrows: bool = True,
        max_bytes: int = MAX_BYTES,
        known: Ranges | None = None,
    ) -> None:
        self.program, self._corners = program, corners
        self._narrows, self._max_bytes = narrows, max_bytes
        self._known = {} if known is None else known
        self.bands: dict[int, Band] = {0: Band.around(corners[None], radius)}
        self.lines: dict[int, Lines] = {}
        self.choices: dict[int, Choice] = {}
        self._sizes: dict[int, Tensor] = {}
        self._slopes: dict[int, Slopes] = {}
        self._followed_back: set[int] = set()

    @proof_modes()
    def band(self, wanted: int, every_unit: bool = False) -> Band:
        """Returns the band of a step.

        Args:
            wanted: Its number.
            every_unit: Whether all its units are followed back, and not only those that bend next.

        Raises:
            NetworkError: If a map would be larger than it may be.
        """
        for number in self.program.needed_for(wanted):
            if number not in self.bands:
                self._prepare(self.program.steps[number])
                found = after_step(self.program.steps[number], self.bands)
                if number in self._known:
                    found = found.within(*self._known[number])
                self.bands[number] = found
                self._note(number)
        # What is affine in the image is known as well as can be.
        if every_unit and not self.program.straight(wanted):
            everything = torch.ones(self.program.steps[wanted].shape, dtype=torch.bool)
            self._refine(wanted, everything)
        return self.bands[wanted]

    @proof_modes()
    def lowest(
        self, wanted: int, rows: Float64[Tensor, "rows *shape"]
    ) -> Float64[Tensor, "rows corners"]:
        """Returns, for linear functions of a step's values, affine functions below at the corners.

        Args:
            wanted: The step's number.
            rows: The coefficients.
        """
        self.band(wanted)
        most = max(step.size for step in self.program.steps[: wanted + 1])
        parts = torch.split(rows, max(1, _BYTES_AT_ONCE // (8 * most)))
        return torch.cat([self._followed(wanted, part) for part in parts])

    @proof_modes()
    def smallest(self, wanted: int, rows: Float64[Tensor, "rows *shape"]) -> Float64[Tensor, ""]:
        """Returns what no linear function of a step's values, of some, is below.

        Any line through a ReLU's bend with a slope of 0 to 1 is below it, and with any slope there
        is one above it. Which are best for the lowest functions is looked for by gradients.

        Args:
            wanted: The step's number.
            rows: The coefficients.

        Source:
            Xu et al., "Fast and complete: enabling complete verification with rapid and massively
            parallel incomplete verifiers", ICLR 2021.
        """
        found = self.lowest(wanted, rows).amin(dim=1)
        for part in torch.split(found.argsort(), _TILTED):
            # Beyond the lowest of those that were turned the others are not worth it.
            if found[part].min() <= found.min():
                found[part] = torch.maximum(found[part], self._tilted(wanted, rows[part]))
        return found.min()

    def ranges(self) -> Ranges:
        """Returns the ranges of all steps that were followed back."""
        return {
            number: (low[0], high[0])
            for number in sorted(self._followed_back)
            for low, high in [self.bands[number].range()]
        }

    def _tilted(self, wanted: int, rows: Tensor) -> Float64[Tensor, "rows"]:
        """Returns the best of some bounds, of lines that are turned step by step."""
        best = torch.full((len(rows),), -torch.inf, dtype=torch.float64)
        numbers = [number for number, _ in self._floors(wanted)]
        slopes = [
            slope.expand(len(rows), *slope.shape).clone()
            for number in numbers
            for slope in (self.lines[number].lower_slope, self.lines[number].upper_slope)
        ]
        moves = [(torch.zeros_like(slope), torch.zeros_like(slope)) for slope in slopes]
        for tilt in range(1, _TILTS + 1):
            with torch.enable_grad():
                slopes = [slope.requires_grad_() for slope in slopes]
                pairs = zip(slopes[::2], slopes[1::2], strict=True)
                self._slopes = {
                    number: Slopes(*pair) for number, pair in zip(numbers, pairs, strict=True)
                }
                found = self._followed(wanted, rows).amin(dim=1)
                uphill = torch.autograd.grad(
                    found.sum(), slopes, allow_unused=True, materialize_grads=True
                )
            self._slopes = {}
            best = torch.maximum(best, found.detach())
            moves = [
                (0.8 * mean + 0.2 * slope, 0.9 * size + 0.1 * slope.square())
                for (mean, size), slope in zip(moves, uphill, strict=True)
            ]
            # Adam's steps, ever shorter.
            slopes = [
                slope.detach() + _TILT * 0.8**tilt * mean / (size.sqrt() + 1e-300)
                for slope, (mean, size) in zip(slopes, moves, strict=True)
            ]
            slopes = [slope.clamp(0, 1) for slope in slopes]
        return best

    def _floors(self, wanted: int) -> list[tuple[int, Step]]:
        """Returns the steps whose lines can be turned."""
        steps = ((number, self.program.steps[number]) for number in self.program.bends(wanted))
        return [each for each in steps if isinstance(each[1].operation, Floor | Cap)]

    def _prepare(self, step: Step) -> None:
        """Narrows the band of what a step bends, where the step's lines depend on it."""
        if not isinstance(step.operation, Bend):
            return
        (source,) = step.inputs
        lines = step.operation.lines(*self._ends(source))
        differs = (lines.lower_offset != lines.upper_offset).any(dim=0)
        bent = (lines.lower_slope != lines.upper_slope) | differs
        if self._narrows and bent.any() and not self.program.straight(source):
            self._refine(source, bent)

    def _refine(self, number: int, units: Bool[Tensor, "*shape"]) -> None:
        if number in self._followed_back:
            return
        self._followed_back.add(number)
        shape, most = units.shape, max(step.size for step in self.program.steps[: number + 1])
        places = units.flatten().nonzero()[:, 0]
        needed = 8 * len(places) * most
        if needed > self._max_bytes:
            raise NetworkError(
                f"Bounds backward from {len(places)} units need maps of {needed / 2**30:.1f} GB, "
                f"more than the {self._max_bytes / 2**30:.1f} GB that they may take"
            )
        lower, upper = (end.flatten(1).clone() for end in self._ends(number))
        widths = (upper - lower).mean(dim=0)
        tried = torch.zeros(len(places), dtype=torch.bool)
        tried[:: max(1, len(places) // _TRIED)] = True
        together = max(1, _BYTES_AT_ONCE // (16 * most))
        parts = [*torch.split(places[tried], together), *torch.split(places[~tried], together)]
        for part in filter(len, parts):
            rows = torch.zeros(len(part), math.prod(shape), dtype=torch.float64)
            rows[torch.arange(len(part)), part] = 1
            rows = rows.reshape(-1, *shape)
            below, above = self._followed(number, torch.cat([rows, -rows])).mT.chunk(2, dim=1)
            above = -above
            better = below.mean(dim=0) > lower[:, part].mean(dim=0)
            lower[:, part] = torch.where(better, below, lower[:, part])
            better = above.mean(dim=0) < upper[:, part].mean(dim=0)
            upper[:, part] = torch.where(better, above, upper[:, part])
            if (upper - lower).mean(dim=0)[part].sum() > _GAIN * widths[part].sum():
                break  # Forward they are as good.
        shape_at_corners = (1, -1, *shape)
        self.bands[number] = Band.between(
            lower.reshape(shape_at_corners), upper.reshape(shape_at_corners)
        )

    def _ends(self, number: int) -> tuple[Tensor, Tensor]:
        lower, upper = self.bands[number].ends()
        return lower[0], upper[0]

    def _note(self, number: int) -> None:
        """Keeps how a step is followed back, and how large the terms of what is added up are."""
        operation, inputs = self.program.steps[number].operation, self.program.steps[number].inputs
        sizes = [self.bands[read].size()[0] for read in inputs]
        if isinstance(operation, Linear):
            self._sizes[number] = operation.spread(*sizes)[0] + operation.size
            return
        ends = self._ends(*inputs)
        if isinstance(operation, Largest):
            choice = self.choices[number] = operation.lines(*ends)
            largest = operation.run(operation.size(*ends)).amax(dim=0)
            size = 2 * ends[0].shape[-1] * largest + choice.offset.abs().amax(dim=0)
            self._sizes[number] = size
        elif isinstance(operation, Bend):
            lines = self.lines[number] = operation.lines(*ends)
            slope, offset = _largest(lines, ends[0].shape[1:])
            # Of slopes between, what is added is between too.
            for tilt in (0.0, 1.0):
                turned = torch.full_like(lines.lower_slope, tilt)[None]
                tilted = _largest(
                    operation.tilted(lines, Slopes(turned, turned), *ends), ends[0].shape[1:]
                )
                slope = torch.maximum(slope, tilted[0])
                offset = torch.maximum(offset, tilted[1])
            self._sizes[number] = slope * sizes[0][0] + offset

    def linear(
        self, wanted: int, rows: Float64[Tensor, "rows *shape"]
    ) -> Float64[Tensor, "rows *image"]:
        """Returns linear functions of a step's values as such of the image, as float64 rounds them.

        Args:
            wanted: The step's number; it is affine in the image.
            rows: The coefficients.
        """
        self.band(wanted)
        return self._to_image(wanted, rows)[0]

    def _followed(self, number: int, rows: Tensor) -> Float64[Tensor, "rows corners"]:
        """Returns values at the corners of affine functions below linear ones of a step's values.

        What is rounded on the way is at most so many units in the last place of the terms.
        """
        image, constant, error = self._to_image(number, rows)
        found = image.flatten(1) @ self._corners.flatten(1).mT + constant
        radius = self.bands[0].radius[0, 0]
        size = radius + (image[0].numel() + 8) * 2 * EPSILON * self.bands[0].size()[0, 0]
        error = error + _sums(image.abs(), size[None]) + 64 * EPSILON * constant.abs()
        return found - (1 + 1e-9) * error

    def _to_image(self, number: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns coefficients of the image, what is added at the corners, and what is rounded."""
        waiting = {number: rows}
        constant = torch.zeros(len(rows), len(self._corners), dtype=torch.float64)
        error = torch.zeros(len(rows), 1, dtype=torch.float64)
        for step in range(number, 0, -1):
            if step not in waiting:
                continue
            rows = waiting.pop(step)
            error = error + self.rounding(step, rows)[:, None]
            parts, added = self._one_back(step, rows)
            constant = constant + added
            for read, part in zip(self.program.steps[step].inputs, parts, strict=True):
                waiting[read] = waiting[read] + part if read in waiting else part
        nothing = torch.zeros(len(rows), *self._corners.shape[1:], dtype=torch.float64)
        return waiting.get(0, nothing), constant, error

    def rounding(
        self, number: int, rows: Float64[Tensor, "rows *shape"]
    ) -> Float64[Tensor, "rows"]:
        """Returns how far off linear functions are at most once they went back through a step.

        Args:
            number: The step's.
            rows: Their coefficients, of what the step gives.
        """
        operation = self.program.steps[number].operation
        terms = operation.terms if isinstance(operation, Linear) else 0
        terms += self.program.steps[number].size + 8
        return terms * EPSILON * (rows.abs().flatten(1) @ self._sizes[number].flatten())

    def _one_back(self, number: int, rows: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns rows over what a step takes, and what is added at the corners: both are below."""
        operation = self.program.steps[number].operation
        if isinstance(operation, Linear):
            return operation.adjoint(rows), _sums(rows, operation.offset[None])
        above, below = rows.clamp(min=0), rows.clamp(max=0)
        if isinstance(operation, Largest):
            choice = self.choices[number]
            part = above[..., None] * choice.taken + below[..., None] * choice.slopes
            return (part,), _sums(below, choice.offset)
        lines = self.lines[number]
        if number in self._slopes and operation is not None:
            (source,) = self.program.steps[number].inputs
            lines = operation.tilted(lines, self._slopes[number], *self._ends(source))
        part = above * lines.lower_slope + below * lines.upper_slope
        return (part,), _sums(above, lines.lower_offset) + _sums(below, lines.upper_offset)


def _largest(lines: Lines, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Returns the largest slopes and offsets, in absolute value, of units of some shape."""
    sizes = [value.abs().reshape(-1, *shape).amax(dim=0) for value in lines]
    return torch.maximum(sizes[0], sizes[2]), torch.maximum(sizes[1], sizes[3])


def _sums(rows: Float64[Tensor, "rows *shape"], values: Tensor) -> Float64[Tensor, "rows corners"]:
    """Returns the products of rows with values at the corners, which may be of each row its own."""
    if values.ndim > rows.ndim:
        return torch.einsum("rs,rcs->rc", rows.flatten(1), values.flatten(2))
    return rows.flatten(1) @ values.flatten(1).mT
