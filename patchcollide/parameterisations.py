"""What is varied to find vertices: coefficients of patches, or free pixels."""

from typing import Protocol, runtime_checkable

import torch
from torch import nn

from patchcollide.errors import GeometryError
from patchcollide.geometry import PatchGrid
from patchcollide.losses import total_variation
from patchcollide.mixing import mix_patches, mixing_coefficients, tent_logits, upsample_logits
from patchcollide.shapes import Float, Tensor, UInt8, ndarray


@runtime_checkable
class Parameterisation(Protocol):
    """Images as a function of one tensor of parameters.

    Attributes:
        parameter: What is optimised.
        unit: A small step of a parameter: what a learning rate and a noise of 1 mean.
        gradient_unit: What a rate of 1 means that multiplies a gradient, in the released code's
            units: logits, and pixels of 0..255.
    """

    parameter: nn.Parameter
    unit: float
    gradient_unit: float

    def images(self) -> Float[Tensor, "vertices 3 height width"]:
        """Returns the images of all vertices, RGB in ``[0, 1]``, differentiable."""
        ...

    def roughness(self) -> Float[Tensor, ""]:
        """Returns the total variation that the objective may penalise, differentiable."""
        ...

    def project(self) -> None:
        """Brings the parameters back to where images are in range, after a step."""
        ...


class PatchMixture:
    """Compositions of neighbours: Section 4 of the paper.

    The parameters are logits relative to a tent over each window. They start near zero, so that all
    neighbours of a location count alike and windows fade into each other.

    Args:
        patches: Neighbours of each location, in row order.
        grid: The geometry of the locations.
        num_vertices: How many images to compose.
        coefficient_size: Logits along each side of a patch, 1 to the window's size.
        output_size: Side of the images, in pixels; the canvas is resized when it differs.
        noise: Standard deviation of the first logits, by which vertices differ at the start.
        generator: Draws them.

    Raises:
        GeometryError: If there are more coefficients than pixels along a window.
    """

    unit = 1.0
    gradient_unit = 1.0

    def __init__(
        self,
        patches: UInt8[ndarray, "locations k window window 3"],
        grid: PatchGrid,
        *,
        num_vertices: int,
        coefficient_size: int,
        output_size: int,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        if coefficient_size > grid.window_size:
            raise GeometryError(
                f"composition.coefficient_size = {coefficient_size}, but a window has only "
                f"{grid.window_size} pixels along a side. Set it to at most {grid.window_size}."
            )
        side = grid.positions_per_side
        # Copied, because patches read from a file may be read-only.
        pixels = torch.from_numpy(patches.copy()).float().div_(255)
        self._patches = (
            pixels.reshape(side, side, *pixels.shape[1:]).permute(2, 5, 0, 1, 3, 4).contiguous()
        )
        self._grid = grid
        self._output_size = output_size
        self._tent = tent_logits(grid.window_size)
        shape = (num_vertices, patches.shape[1], side, side, coefficient_size, coefficient_size)
        self.parameter = nn.Parameter(noise * torch.randn(shape, generator=generator))

    def _logits(self) -> Tensor:
        return upsample_logits(self.parameter, self._grid.window_size) + self._tent

    def images(self) -> Float[Tensor, "vertices 3 height width"]:
        """See :meth:`Parameterisation.images`."""
        mixture = mix_patches(self._logits(), self._patches, self._grid.stride)
        return resized(mixture, self._output_size)

    def roughness(self) -> Float[Tensor, ""]:
        """See :meth:`Parameterisation.roughness`: of the coefficients, as in the released code."""
        return total_variation(mixing_coefficients(self._logits(), self._grid.stride))

    def project(self) -> None:
        """Nothing to do: mixtures are always in range."""


class FreePixels:
    """Every pixel on its own: Section 3 of the paper.

    Args:
        source: The image all vertices start from.
        num_vertices: How many images to vary.
        output_size: Side of the images, in pixels.
        noise: Standard deviation of what is added at the start, in units of a hundredth of the
            value range.
        generator: Draws it.
    """

    unit = 0.01
    # Pixels of 0..1 have gradients 255 times as large, and want steps 255 times as small.
    gradient_unit = 1 / 255**2

    def __init__(
        self,
        source: UInt8[ndarray, "height width 3"],
        *,
        num_vertices: int,
        output_size: int,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        start = torch.from_numpy(source.copy()).permute(2, 0, 1)[None].float() / 255
        start = resized(start, output_size).repeat(num_vertices, 1, 1, 1)
        start += self.unit * noise * torch.randn(start.shape, generator=generator)
        self.parameter = nn.Parameter(start.clamp_(0, 1))

    def images(self) -> Float[Tensor, "vertices 3 height width"]:
        """See :meth:`Parameterisation.images`."""
        return self.parameter

    def roughness(self) -> Float[Tensor, ""]:
        """See :meth:`Parameterisation.roughness`: of the pixels."""
        return total_variation(self.parameter)

    def project(self) -> None:
        """Clips the pixels to ``[0, 1]``, as the released code does after each step."""
        with torch.no_grad():
            self.parameter.clamp_(0, 1)


def resized(
    images: Float[Tensor, "batch 3 height width"], size: int
) -> Float[Tensor, "batch 3 size size"]:
    """Scales square images, bilinearly with antialiasing; as they are when they fit."""
    if images.shape[-2:] == (size, size):
        return images
    return nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
