"""What images go through before a module sees them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from patchcollide.errors import NetworkError
from patchcollide.shapes import Float, Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How images in ``[0, 1]`` become what a module takes: resized, then normalised.

    Attributes:
        input_size: Side of the module's input, in pixels.
        mean: Subtracted from each channel, in the units of ``[0, 1]``; three for RGB, one for grey.
        scale: What each channel is then divided by.

    Raises:
        NetworkError: If the size is no whole number of pixels, or mean and scale are not one or
            three finite values each, those of the scale other than zero.
    """

    input_size: int
    mean: Sequence[float]
    scale: Sequence[float]

    def __post_init__(self) -> None:
        size: object = self.input_size
        if not isinstance(size, int | np.integer) or size < 1:
            raise NetworkError(
                f"input_size should be a whole number of pixels, the side of a square, but is "
                f"{size!r}. Pictures are made square: of a network for others, give a module that "
                "resizes its input."
            )
        mean, scale = list(self.mean), list(self.scale)
        if len(mean) not in (1, 3) or len(scale) != len(mean):
            raise NetworkError(
                f"mean and scale should be three values each for RGB, or one each for grey, but "
                f"mean has {len(mean)} and scale has {len(scale)}. Give as many of both; other "
                "channels than a picture's a module has to make itself."
            )
        if not all(map(math.isfinite, [*mean, *scale])) or not all(scale):
            raise NetworkError(
                f"mean and scale should be finite, and scale nowhere zero, but are {mean} and "
                f"{scale}. They are in units of [0, 1]: (image - mean) / scale."
            )

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return len(self.mean)

    def normalised(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns images in ``[0, 1]`` as a module takes them, but for their size."""
        mean, scale = self._tensors
        return (images - mean.to(images)) / scale.to(images)

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        mean, scale = (
            torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)
            for values in (self.mean, self.scale)
        )
        return mean, scale
