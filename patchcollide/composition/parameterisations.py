"""What is varied to find vertices: coefficients of patches, or free pixels."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from patchcollide.composition.contributions import Contributions, contributions_of
from patchcollide.composition.mixing import Tint, mix_patches, tent_logits
from patchcollide.composition.total_variation import coefficient_variation, total_variation
from patchcollide.errors import GeometryError
from patchcollide.geometry import Canvas, PatchGrid
from patchcollide.images.tensors import as_batch, resized
from patchcollide.shapes import Float, Tensor, UInt8, ndarray

CPU = torch.device("cpu")

NUM_BLOCKS = 28

MOST_CONTRIBUTORS = 6

# Of free pixels, beside preferences of whole patches.
_PARTING = 0.13

# Of what covers a pixel, in 0..1: eight grey levels.
_LEAST_SPREAD = 8 / 255


@runtime_checkable
class Parameterisation(Protocol):
    """Images as a function of one tensor of parameters.

    Attributes:
        parameter: What is optimised.
        unit: A small step of a parameter: what a learning rate and a noise of 1 mean.
        gradient_unit: What a rate of 1 means that multiplies a gradient, in the released code's
            units: logits, and pixels of 0..255.
        source: The image that all vertices start from, in ``[0, 1]``; None where there is no one
            such image.
        block: Side of the squares of pixels whose means should differ between vertices: smaller
            detail is not seen.
    """

    parameter: nn.Parameter
    unit: float
    gradient_unit: float
    source: Float[Tensor, "1 channels height width"] | None
    block: int

    def images(self, count: int | None = None) -> Float[Tensor, "vertices channels height width"]:
        """Returns the images of all vertices, in ``[0, 1]``, differentiable.

        Args:
            count: How many, from the first on; None for all.
        """
        ...

    def roughness(self) -> Float[Tensor, ""]:
        """Returns the total variation that the objective may penalise, differentiable."""
        ...

    def parting(self, generator: torch.Generator) -> Tensor:
        """Returns what parts equal vertices when added to the parameter, in its units.

        Args:
            generator: Draws it.
        """
        ...

    def project(self) -> None:
        """Brings the parameters back to where images are in range, after a step."""
        ...


class PatchMixture:
    """Compositions of neighbours: Section 4 of the paper.

    The parameters are logits relative to a tent over each patch. They start near zero, so that all
    neighbours of a location count alike and patches fade into each other.

    A patch may reach over its window by a margin on each side. Where all sizes stay whole the
    canvas is first scaled down to the images wanted, and mixed with fewer coefficients; else what
    was mixed is scaled.

    With a ``tint``, a field of three numbers a pixel is added: the logit of a patch at a pixel
    rises by their product with the patch's colour there. Any colour that some coefficients mix at a
    pixel, those of this form mix too: they are the ones of largest entropy. So few logits give the
    shapes, and three numbers a pixel what a coefficient for each pixel of each patch would.

    Args:
        patches: Neighbours of each location, in row order: their windows and the margin around.
        grid: The geometry of the locations.
        margin: What a patch has beside its window, on each side, in pixels of the grid's image.
        num_vertices: How many images to compose.
        coefficient_size: Logits along each side of a patch, 1 to its pixels on the canvas.
        output_size: Side of the images, in pixels.
        noise: Standard deviation of the first logits, by which vertices differ at the start.
        generator: Draws them.
        device: Where to compute.
        tint: By how much a unit of the field moves a pixel, in grey levels of 0..255, where its
            patches differ; 0 for no such field.

    Raises:
        GeometryError: If there are more coefficients than pixels along a patch.
    """

    unit = 1.0
    gradient_unit = 1.0
    source: Float[Tensor, "1 channels height width"] | None = None

    def __init__(
        self,
        patches: UInt8[ndarray, "locations k support support channels"],
        grid: PatchGrid,
        *,
        margin: int = 0,
        num_vertices: int,
        coefficient_size: int,
        output_size: int,
        noise: float,
        generator: torch.Generator,
        device: torch.device = CPU,
        tint: float = 0.0,
    ) -> None:
        self._canvas = _mixing_canvas(Canvas.of(grid, margin), coefficient_size, output_size)
        side = self._canvas.positions_per_side
        self._patches = _as_tiles(patches, side, self._canvas.support).to(device)
        self._output_size = output_size
        self.block = max(1, output_size // NUM_BLOCKS)
        self._tent = tent_logits(self._canvas.support).to(device)
        self._shape = (patches.shape[1], side, side, coefficient_size, coefficient_size)
        start = noise * torch.randn((num_vertices, *self._shape), generator=generator)
        self._tint_units: Tensor | None = None
        if tint:
            self._tint_units = self._units_of_tint(tint)
            unstained = torch.zeros(num_vertices, self._tint_units.numel())
            start = torch.cat([start.flatten(1), unstained], dim=1)
        self.parameter = nn.Parameter(start.to(device))

    def _units_of_tint(self, tint: float) -> Float[Tensor, "channels side side"]:
        """Returns what a unit of the field is, so that it moves every pixel alike.

        The slope of a mixture in the field is the variance of what covers the pixel. Where that is
        next to nothing the unit stays finite.
        """
        logits = self._patches.new_zeros((1, *self._shape[:-2], 1, 1))
        moments = [
            mix_patches(logits, self._patches**power, self._canvas.stride, self._tent)[0]
            for power in (1, 2)
        ]
        variance = (moments[1] - moments[0].square()).clamp(min=0)
        return (tint / 255) / (variance + _LEAST_SPREAD**2)

    def _logits(self, count: int | None = None) -> Float[Tensor, "vertices k rows cols size size"]:
        parameter = self.parameter[:count].flatten(1)
        return parameter[:, : math.prod(self._shape)].reshape(-1, *self._shape)

    def _tint(
        self, count: int | None = None
    ) -> Float[Tensor, "vertices channels side side"] | None:
        if self._tint_units is None:
            return None
        field = self.parameter[:count, math.prod(self._shape) :]
        return field.reshape(-1, *self._tint_units.shape) * self._tint_units

    def images(self, count: int | None = None) -> Float[Tensor, "vertices channels height width"]:
        """See :meth:`Parameterisation.images`."""
        crop, stride = self._canvas.crop, self._canvas.stride
        mixture = mix_patches(
            self._logits(count), self._patches, stride, self._tent, self._tint(count)
        )
        return resized(mixture[..., crop, crop], self._output_size)

    def roughness(self) -> Float[Tensor, ""]:
        """See :meth:`Parameterisation.roughness`: of the coefficients, as in the released code.

        Those of the logits alone: the field that tints is no coefficient's own.
        """
        return coefficient_variation(
            self._logits(), self._tent, self._canvas.stride, self._canvas.margin
        )

    def parting(self, generator: torch.Generator) -> Tensor:
        """See :meth:`Parameterisation.parting`: every vertex prefers other neighbours."""
        k, rows, cols, *_ = self._shape
        preferred = torch.randn((len(self.parameter), k, rows, cols, 1, 1), generator=generator)
        parted = torch.zeros(self.parameter.shape)
        logits = parted.flatten(1)[:, : math.prod(self._shape)]
        logits.view(-1, *self._shape).copy_(preferred)
        return parted

    def project(self) -> None:
        """Nothing to do: mixtures are always in range."""

    def contributions(self) -> Contributions:
        """Returns where the pixels of the images come from, on blocks of a 28th of a side."""
        field = self._tint()
        return contributions_of(
            self._logits(),
            self._tent,
            self._canvas,
            tint=None if field is None else Tint(field.detach(), self._patches),
            num_blocks=NUM_BLOCKS,
            most=MOST_CONTRIBUTORS,
        )


def _mixing_canvas(canvas: Canvas, coefficient_size: int, output_size: int) -> Canvas:
    """Returns the canvas in the fewest pixels that hold the coefficients."""
    if coefficient_size > canvas.support:
        raise GeometryError(
            f"composition.coefficient_size = {coefficient_size}, but a patch has only "
            f"{canvas.support} pixels along a side. Set it to at most {canvas.support}."
        )
    small = canvas.shrunk(output_size)
    return small if small and coefficient_size <= small.support else canvas


def _as_tiles(
    patches: UInt8[ndarray, "locations k side side channels"], per_side: int, support: int
) -> Float[Tensor, "k channels rows cols support support"]:
    """Brings patches into the order and the size in which they are mixed, in ``[0, 1]``."""
    k = patches.shape[1]
    tiles = torch.empty(k, patches.shape[-1], per_side, per_side, support, support)
    for location, neighbours in enumerate(patches):
        pixels = resized(as_batch(neighbours), support)
        tiles[:, :, location // per_side, location % per_side] = pixels
    return tiles


class FreePixels:
    """Every pixel on its own: Section 3 of the paper.

    Args:
        source: The image all vertices start from.
        num_vertices: How many images to vary.
        output_size: Side of the images, in pixels.
        noise: Standard deviation of what is added at the start, in units of a hundredth of the
            value range.
        generator: Draws it.
        device: Where to compute.
    """

    unit = 0.01
    block = 1
    # Pixels of 0..1 have gradients 255 times as large, and want steps 255 times as small.
    gradient_unit = 1 / 255**2

    def __init__(
        self,
        source: UInt8[ndarray, "height width channels"],
        *,
        num_vertices: int,
        output_size: int,
        noise: float,
        generator: torch.Generator,
        device: torch.device = CPU,
    ) -> None:
        begun = resized(as_batch(source[None]), output_size)
        self.source: Float[Tensor, "1 channels height width"] | None = begun.to(device)
        start = begun.repeat(num_vertices, 1, 1, 1)
        start += self.unit * noise * torch.randn(start.shape, generator=generator)
        self.parameter = nn.Parameter(start.clamp_(0, 1).to(device))

    def images(self, count: int | None = None) -> Float[Tensor, "vertices channels height width"]:
        """See :meth:`Parameterisation.images`."""
        return self.parameter[:count]

    def roughness(self) -> Float[Tensor, ""]:
        """See :meth:`Parameterisation.roughness`: of the pixels."""
        return total_variation(self.parameter)

    def parting(self, generator: torch.Generator) -> Tensor:
        """See :meth:`Parameterisation.parting`: noise."""
        return _PARTING * torch.randn(self.parameter.shape, generator=generator)

    def project(self) -> None:
        """Clips the pixels to ``[0, 1]``, as the released code does after each step."""
        with torch.no_grad():
            self.parameter.clamp_(0, 1)
