"""What images go through before a module sees them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """How images in ``[0, 1]`` become what a module takes: resized, then normalised.

    Attributes:
        input_size: Side of the module's input, in pixels.
        mean: Subtracted from each channel, in the units of ``[0, 1]``; three for RGB, one for grey.
        scale: What each channel is then divided by.
    """

    input_size: int
    mean: Sequence[float]
    scale: Sequence[float]

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return len(self.mean)
