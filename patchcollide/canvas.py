"""Where the patches of a composition lie on the canvas they are mixed on."""

from dataclasses import dataclass

from patchcollide.errors import GeometryError
from patchcollide.geometry import PatchGrid


@dataclass(frozen=True)
class Canvas:
    """Supports of patches at a fixed stride: their windows, and a margin on each side.

    Windows cover the image to its border, so supports reach over it by the margin; what they show
    there is cropped. The paper's text has supports that are windows, the released code a margin
    of half a window: ``Canvas(256, 64, 8, 32)``, scaled to ``Canvas(224, 56, 7, 28)``.

    Attributes:
        image_size: Side of the image, in pixels.
        window_size: Side of a window.
        stride: Step between windows.
        margin: What a support has beside its window, on each side.
    """

    image_size: int
    window_size: int
    stride: int
    margin: int

    @classmethod
    def of(cls, grid: PatchGrid, margin: int) -> "Canvas":
        """Returns the canvas of a grid of locations, at the size of the stored images.

        Raises:
            GeometryError: If the margin is negative or wider than the image, which has no more to
                mirror.
        """
        if not 0 <= margin <= grid.image_size:
            raise GeometryError(
                f"A margin of {margin} pixels cannot be mirrored at the border of a "
                f"{grid.image_size}-pixel image. Set composition.margin_px to 0 to "
                f"{grid.image_size}."
            )
        return cls(grid.image_size, grid.window_size, grid.stride, margin)

    @property
    def support(self) -> int:
        """Side of a support, in pixels."""
        return self.window_size + 2 * self.margin

    @property
    def positions_per_side(self) -> int:
        """Number of supports along a side."""
        return (self.image_size - self.window_size) // self.stride + 1

    @property
    def crop(self) -> slice:
        """The image's pixels along a side of what the supports cover together."""
        return slice(self.margin, self.margin + self.image_size)

    def shrunk(self, image_size: int) -> "Canvas | None":
        """Returns the same canvas in fewer pixels; None unless all its sizes stay whole."""
        sizes = (self.image_size, self.window_size, self.stride, self.margin)
        if image_size > self.image_size or any(
            size * image_size % self.image_size for size in sizes
        ):
            return None
        return Canvas(*(size * image_size // self.image_size for size in sizes))
