"""Spaces of images in which an exact polytope lies: pixels, or coefficients of patches.

A point of a space is what linear programs vary; an image is a linear function of it: of
compositions, as far as it is affine in the coefficients. Images are flat here, in the order
channel, height, width.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from patchcollide.errors import GeometryError
from patchcollide.formats import format_size
from patchcollide.polyhedra.clashes import Clash, least_violation
from patchcollide.polyhedra.constraints import Constraints
from patchcollide.polyhedra.matrices import Matrix, blocks, from_entries
from patchcollide.polyhedra.solver import MEMORY_BYTES
from patchcollide.shapes import Float, Float64, Int64, ndarray

_BYTES_AN_ENTRY = 64


@runtime_checkable
class Space(Protocol):
    """Points, the bounds and sums they keep, and the images they stand for."""

    @property
    def num_pixels(self) -> int:
        """Returns the length of an image."""
        ...

    @property
    def num_variables(self) -> int:
        """Returns the length of a point."""
        ...

    @property
    def lower(self) -> Float64[ndarray, "variables"]:
        """Returns the least value of each variable."""
        ...

    @property
    def upper(self) -> Float64[ndarray, "variables"]:
        """Returns the largest value of each variable."""
        ...

    @property
    def sums(self) -> Matrix | None:
        """Returns rows whose products with a point are 1; None for no rows."""
        ...

    def image(self, point: Float64[ndarray, "variables"]) -> Float64[ndarray, "pixels"]:
        """Returns the image of a point."""
        ...

    def pulled_back(self, rows: Float64[ndarray, "rows pixels"]) -> Any:
        """Returns rows that give on points what ``rows`` give on their images."""
        ...

    def point(self, image: Float64[ndarray, "pixels"]) -> Float64[ndarray, "variables"]:
        """Returns a point whose image is nearest to ``image``."""
        ...

    def name_variable(self, variable: int) -> str:
        """Says what a variable is."""
        ...


class _Pixels:
    """Points are images."""

    sums = None

    def image(self, point: Float64[ndarray, "pixels"]) -> Float64[ndarray, "pixels"]:
        """Returns the point itself."""
        return point

    def pulled_back(self, rows: Any) -> Any:
        """Returns the rows themselves."""
        return rows

    def name_variable(self, variable: int) -> str:
        """Says which pixel it is, counted through channels."""
        return f"pixel {variable}"


@dataclass(frozen=True)
class PixelBox(_Pixels):
    """All images with values from ``low`` to ``high``.

    Attributes:
        num_pixels: Length of an image.
        low: Of a pixel.
        high: Of a pixel.
    """

    num_pixels: int
    low: float = 0.0
    high: float = 1.0

    @property
    def num_variables(self) -> int:
        """As many as pixels."""
        return self.num_pixels

    @property
    def lower(self) -> Float64[ndarray, "pixels"]:
        """See :class:`Space`."""
        return np.full(self.num_pixels, float(self.low))

    @property
    def upper(self) -> Float64[ndarray, "pixels"]:
        """See :class:`Space`."""
        return np.full(self.num_pixels, float(self.high))

    def point(self, image: Float64[ndarray, "pixels"]) -> Float64[ndarray, "pixels"]:
        """Returns the image with its values clipped to the box."""
        return np.asarray(np.clip(image, self.low, self.high))


class WholeSpace(PixelBox):
    """All images, of any values: what Proposition 1 speaks of.

    Attributes:
        num_pixels: Length of an image.
    """

    def __init__(self, num_pixels: int) -> None:
        super().__init__(num_pixels, -np.inf, np.inf)


@dataclass(frozen=True, eq=False)
class PatchSimplex:
    """Compositions of patches: Section 4 of the paper, as far as they are affine.

    A point holds coefficients that are at least 0; those of one group sum to 1.

    Attributes:
        matrix: Sparse ``(pixels, coefficients)``: what each coefficient adds to the image.
        groups: The group of each coefficient; every group from 0 on has one.
        shape: Of all coefficients, in C order, for their names.
        kept: Which of those there are; None for all.
    """

    matrix: Matrix
    groups: Int64[ndarray, "coefficients"]
    shape: tuple[int, ...]
    kept: Int64[ndarray, "coefficients"] | None = None

    @classmethod
    def of(
        cls,
        patches: Float[ndarray, "k channels rows cols window window"],
        stride: int,
        coefficient_size: int,
        memory_bytes: int = MEMORY_BYTES,
    ) -> "PatchSimplex":
        """Makes the space of all mixtures of patches.

        :func:`patchcollide.composition.mixing.mix_patches` can reach every one of them.

        With a coefficient a pixel, those of all patches that cover a pixel form a group, which
        its channels share; a point has the order of the logits, ``(k, rows, cols, window,
        window)``. With one a patch, ``(k, rows, cols)``, those of a location form a group.

        A softmax only comes near the border of this space, where coefficients are zero.

        Args:
            patches: Candidates of each location, values in ``[0, 1]``.
            stride: Step between locations, in pixels.
            coefficient_size: Coefficients along the side of a patch: its window, or 1.
            memory_bytes: The most the matrix may take.

        Raises:
            GeometryError: If mixtures are not affine in the coefficients, which holds but for a
                coefficient a pixel, or one a patch where windows do not overlap; or if the matrix
                would not fit.
        """
        window = patches.shape[-1]
        _require_affine(coefficient_size, window, stride)
        needed = _BYTES_AN_ENTRY * patches.size
        if needed > memory_bytes:
            raise GeometryError(
                f"The coefficients of {patches.size // patches.shape[1]} pixels of patches need "
                f"about {format_size(needed)}, but may take {format_size(memory_bytes)}. Compose "
                "fewer neighbours (composition.neighbours), or allow more."
            )
        k, channels, rows, cols = patches.shape[:4]
        height, width = stride * (rows - 1) + window, stride * (cols - 1) + window
        down = np.arange(rows)[:, None] * stride + np.arange(window)
        across = np.arange(cols)[:, None] * stride + np.arange(window)
        place = down[:, None, :, None] * width + across[None, :, None, :]
        full = (k, rows, cols, window, window)
        if coefficient_size == 1 < window:
            shape: tuple[int, ...] = full[:3]
            groups = np.tile(np.arange(rows * cols), k)
            columns = np.arange(groups.size).reshape(*shape, 1, 1)
        else:
            shape = full
            groups = np.broadcast_to(place, full).reshape(-1)
            columns = np.arange(groups.size).reshape(shape)
        channel = np.arange(channels).reshape(-1, 1, 1, 1, 1) * height * width
        matrix = from_entries(
            patches.astype(np.float64).reshape(-1),
            np.broadcast_to(channel + place, patches.shape).reshape(-1),
            np.broadcast_to(columns[:, None], patches.shape).reshape(-1),
            (channels * height * width, groups.size),
        )
        return cls(matrix, groups.astype(np.int64), shape)

    @property
    def num_pixels(self) -> int:
        """Length of an image."""
        return int(self.matrix.shape[0])

    @property
    def num_variables(self) -> int:
        """How many coefficients there are."""
        return len(self.groups)

    @property
    def lower(self) -> Float64[ndarray, "coefficients"]:
        """Zeros."""
        return np.zeros(self.num_variables)

    @property
    def upper(self) -> Float64[ndarray, "coefficients"]:
        """Infinite: that a coefficient is at most 1 follows from the sums."""
        return np.full(self.num_variables, np.inf)

    @cached_property
    def sums(self) -> Matrix:
        """A row of ones for each group."""
        columns = np.arange(self.num_variables)
        num_groups = int(self.groups.max()) + 1
        return from_entries(np.ones(len(columns)), self.groups, columns, (num_groups, len(columns)))

    def image(self, point: Float64[ndarray, "coefficients"]) -> Float64[ndarray, "pixels"]:
        """Returns the mixture."""
        return np.asarray(self.matrix @ point)

    def pulled_back(
        self, rows: Float64[ndarray, "rows pixels"]
    ) -> Float64[ndarray, "rows coefficients"]:
        """See :class:`Space`."""
        return np.ascontiguousarray((self.matrix.T @ rows.T).T)

    def point(self, image: Float64[ndarray, "pixels"]) -> Float64[ndarray, "coefficients"]:
        """Returns coefficients whose mixture is nearest, by its worst pixel."""
        return self.nearest(image).point

    def nearest(self, image: Float64[ndarray, "pixels"]) -> Clash:
        """Finds coefficients of an image, and by how much the worst pixel is missed at least."""
        return least_violation(_mixing(self, image))

    def reduced(self) -> "PatchSimplex":
        """Returns a space of the same images with fewer coefficients, if it is easily had.

        Where each group mixes one value, that of a pixel with one channel, the smallest and the
        largest candidate reach all that lies between.
        """
        entries = self.matrix.tocoo()
        own = (
            len(entries.col) == self.num_variables
            and (entries.row == self.groups[entries.col]).all()
        )
        if not own:
            return self
        values = self.matrix.sum(axis=0)
        order = np.lexsort((values, self.groups))
        first = np.r_[True, np.diff(self.groups[order]) > 0]
        last = np.r_[first[1:], True]
        kept = np.sort(order[first | last])
        names = kept if self.kept is None else self.kept[kept]
        return PatchSimplex(self.matrix[:, kept], self.groups[kept], self.shape, names)

    def name_variable(self, variable: int) -> str:
        """Says which coefficient it is: neighbour, row, column, and pixel of the patch."""
        number = variable if self.kept is None else int(self.kept[variable])
        places = [int(place) for place in np.unravel_index(number, self.shape)]
        where = f"neighbour {places[0]} at location ({places[1]}, {places[2]})"
        pixel = f", pixel ({places[3]}, {places[4]})" if len(places) > 3 else ""
        return f"coefficient of {where}{pixel}"


def _mixing(space: PatchSimplex, image: ndarray) -> Constraints:
    num_groups = space.sums.shape[0]
    ends = np.concatenate([image, np.ones(num_groups)])
    return Constraints(
        matrix=blocks([[space.matrix], [space.sums]]),
        offset=np.zeros_like(ends),
        lower=ends,
        upper=ends,
        variable_lower=space.lower,
        variable_upper=space.upper,
        hard=np.arange(len(ends)) >= len(image),
    )


def _require_affine(coefficient_size: int, window: int, stride: int) -> None:
    if coefficient_size == window or (coefficient_size == 1 and stride == window):
        return
    if coefficient_size == 1:
        raise GeometryError(
            f"composition.coefficient_size = 1 with windows of {window} pixels at stride {stride}: "
            "where windows overlap, coefficients are divided by their sum at each pixel, so "
            f"mixtures are not affine in them. Set it to {window}, one coefficient a pixel, or "
            f"the stride to {window}."
        )
    raise GeometryError(
        f"composition.coefficient_size = {coefficient_size} with windows of {window} pixels: "
        "mixtures are not affine in coefficients that are interpolated before the softmax. "
        f"Exact polytopes of patches need {window}, one coefficient a pixel"
        f"{', or 1' if stride == window else ''}."
    )
