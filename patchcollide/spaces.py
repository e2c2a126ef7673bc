"""Spaces of images in which an exact polytope lies: pixels, or coefficients of patches.

A point of a space is what linear programs vary; an image is a linear function of it. Images are
flat here, in the order channel, height, width.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from patchcollide.matrices import Matrix
from patchcollide.shapes import Float64, ndarray


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
