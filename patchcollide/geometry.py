"""The geometry of sliding-window patches: identifiers, windows, locations, and their canvas.

The canvas is what the patches of a composition are mixed on, where they reach over their windows.
"""

from dataclasses import dataclass

import numpy as np
from typing_extensions import TypedDict

from patchcollide.errors import GeometryError
from patchcollide.shapes import Int64, UInt8, ndarray


class GridSizes(TypedDict):
    """A :class:`PatchGrid` as files hold it."""

    image_size: int
    window_size: int
    stride: int
    patch_size: int


@dataclass(frozen=True)
class PatchGrid:
    """Square windows at a fixed stride over square images.

    A window may be larger than the patch that is compared: the window is then averaged down in
    blocks of ``factor`` x ``factor`` pixels. Because the stride is a multiple of ``factor``,
    averaging the whole image first gives the same patches, which is how it is done.

    The paper's text is ``PatchGrid(224, 32, 12, 32)``, the authors' released code
    ``PatchGrid(256, 64, 12, 32)``; both have 17 x 17 positions.

    Attributes:
        image_size: Side of an image, in pixels.
        window_size: Side of a window, in pixels of the image.
        stride: Step between neighbouring windows, in pixels of the image.
        patch_size: Side of a patch as it is compared, in pixels.

    Raises:
        GeometryError: If the windows do not cover the image to its border, or do not average
            down to the patch in whole blocks.
    """

    image_size: int
    window_size: int
    stride: int
    patch_size: int

    def __post_init__(self) -> None:
        if min(self.image_size, self.window_size, self.stride, self.patch_size) < 1:
            raise GeometryError(f"All sizes of a patch grid must be at least 1, but found {self}.")
        if self.window_size > self.image_size:
            raise GeometryError(
                f"A window of {self.window_size} pixels does not fit into an image of "
                f"{self.image_size}. Set patches.window_px to at most images.size_px."
            )
        if (self.image_size - self.window_size) % self.stride:
            raise GeometryError(
                f"Windows of {self.window_size} pixels at stride {self.stride} leave the border of "
                f"a {self.image_size}-pixel image uncovered. Choose patches.stride_px so that it "
                f"divides {self.image_size - self.window_size}."
            )
        if self.stride > self.window_size:
            raise GeometryError(
                f"Windows of {self.window_size} pixels at stride {self.stride} leave gaps. Set "
                "patches.stride_px to at most patches.window_px."
            )
        if self.window_size % self.patch_size or self.image_size % self.factor:
            raise GeometryError(
                f"A window of {self.window_size} pixels in a {self.image_size}-pixel image does "
                f"not average down to patches of {self.patch_size} in whole blocks."
            )
        if self.stride % self.factor:
            raise GeometryError(
                f"A stride of {self.stride} is not a multiple of {self.factor}, by which windows "
                "are averaged down. Choose another patches.stride_px."
            )

    @property
    def factor(self) -> int:
        """Side of the blocks that are averaged into one pixel of a patch."""
        return self.window_size // self.patch_size

    @property
    def positions_per_side(self) -> int:
        """Number of windows along one side of an image."""
        return (self.image_size - self.window_size) // self.stride + 1

    @property
    def num_positions(self) -> int:
        """Number of windows of one image."""
        return self.positions_per_side**2

    @property
    def dimension(self) -> int:
        """Length of a patch as a vector, three channels."""
        return 3 * self.patch_size**2

    def to_dict(self) -> GridSizes:
        """Returns the four sizes, for files."""
        return {
            "image_size": self.image_size,
            "window_size": self.window_size,
            "stride": self.stride,
            "patch_size": self.patch_size,
        }

    def with_stride(self, stride: int) -> "PatchGrid":
        """Returns the same grid at another stride, as queries may have."""
        return PatchGrid(self.image_size, self.window_size, stride, self.patch_size)

    def locate(
        self, ids: Int64[ndarray, "..."]
    ) -> tuple[Int64[ndarray, "..."], Int64[ndarray, "..."], Int64[ndarray, "..."]]:
        """Returns the images, rows and columns of patches.

        An identifier is ``image * num_positions + row * positions_per_side + col``, 64-bit.
        """
        images, positions = np.divmod(ids, self.num_positions)
        rows, cols = np.divmod(positions, self.positions_per_side)
        return images, rows, cols

    def corners_px(self) -> Int64[ndarray, "positions 2"]:
        """Returns the top-left corner (row, column) of each window, in pixels of the image."""
        steps = self.stride * np.arange(self.positions_per_side, dtype=np.int64)
        rows, cols = np.meshgrid(steps, steps, indexing="ij")
        return np.stack([rows.ravel(), cols.ravel()], axis=1)

    def reduce(self, images: UInt8[ndarray, "n side side 3"]) -> UInt8[ndarray, "n small small 3"]:
        """Averages blocks of ``factor`` x ``factor`` pixels, rounding half up; a view if 1."""
        if self.factor == 1:
            return images
        n, side, f = len(images), self.image_size // self.factor, self.factor
        sums = images.reshape(n, side, f, side, f, 3).sum(axis=(2, 4), dtype=np.uint32)
        return np.asarray(((2 * sums + f * f) // (2 * f * f)).astype(np.uint8))

    def patches(
        self, images: UInt8[ndarray, "n side side 3"]
    ) -> UInt8[ndarray, "n rows cols size size 3"]:
        """Returns all patches of ``images`` as a strided view, without copying a patch."""
        size, step = self.patch_size, self.stride // self.factor
        view = np.lib.stride_tricks.sliding_window_view(
            self.reduce(images), (size, size), axis=(1, 2)
        )
        return np.moveaxis(view[:, ::step, ::step], 3, -1)

    def canvas_windows(
        self, images: UInt8[ndarray, "n side side 3"]
    ) -> UInt8[ndarray, "n rows cols window window 3"]:
        """Returns the full-resolution windows of ``images`` as a strided view."""
        view = np.lib.stride_tricks.sliding_window_view(
            images, (self.window_size, self.window_size), axis=(1, 2)
        )
        return np.moveaxis(view[:, :: self.stride, :: self.stride], 3, -1)


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
