"""Total variation of mixing coefficients, without keeping the coefficients."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from patchcollide.composition.mixing import LogitTiles, cut_windows, overlap_add
from patchcollide.shapes import Float, Tensor


def coefficient_variation(
    logits: Float[Tensor, "vertices k rows cols size size"],
    frame: Float[Tensor, "window window"],
    stride: int,
    margin: int = 0,
) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring coefficients of a patch, down plus across.

    It is :func:`patchcollide.composition.total_variation.total_variation` of the coefficients by
    which :func:`patchcollide.composition.mixing.mix_patches` mixes, over all pairs of pixels
    inside the image.

    Args:
        logits: Unnormalised coefficients, as for mixing.
        frame: What is added to the logits of every patch.
        stride: Step between locations, in pixels.
        margin: How far the tiles reach over the image's border.

    Returns:
        The variation, differentiable in ``logits``; 0 for tiles of one pixel.
    """
    variation: Tensor = _Variation.apply(logits, frame, stride, margin)
    return variation


class _Variation(torch.autograd.Function):
    """The variation and its gradient in the logits, a row of locations at a time.

    With ``c`` the coefficients and ``u`` their slopes, the variation's gradient in ``c``, the
    variation is ``<c, u>`` and the gradient in a logit ``c * (u - sum of c * u at the pixel)``.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, frame: Tensor, stride: int, margin: int) -> Tensor:
        tiles = LogitTiles.of(logits, frame, stride).normalised()
        pairs = _Pairs(tiles, margin)
        products = torch.empty_like(tiles.offsets)
        for row in range(tiles.num_rows):
            coefficients = tiles.exponentials(row)
            slopes = pairs.slopes(coefficients, row)
            torch.sum(slopes.mul_(coefficients), dim=1, out=products[:, row])
        ctx.scale = 1 / max(1, pairs.count * logits.shape[0] * logits.shape[1])
        ctx.tiles, ctx.pairs = tiles, pairs
        ctx.save_for_backward(logits, overlap_add(products, stride))
        variation: Tensor = products.sum() * ctx.scale
        return variation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, products = ctx.saved_tensors
        tiles = ctx.tiles
        scale = ctx.scale * gradients[0]
        at_pixel = cut_windows(products, tiles.window, tiles.stride)
        result = torch.empty_like(logits)
        for row in range(tiles.num_rows):
            coefficients = tiles.exponentials(row)
            slopes = ctx.pairs.slopes(coefficients, row)
            inner = slopes.sub_(at_pixel[:, row, None]).mul_(scale)
            tiles.put_gradient(result, row, inner.mul_(coefficients))
        return result, None, None, None


class _Pairs:
    """Which pairs of neighbouring pixels of a tile count: those inside the image.

    Attributes:
        count: How many there are in all tiles, down; and across.
    """

    def __init__(self, tiles: LogitTiles, margin: int) -> None:
        side = tiles.stride * (tiles.num_rows - 1) + tiles.window
        inside = tiles.offsets.new_zeros(side)
        inside[margin : side - margin] = 1
        self._inside = inside.unfold(0, tiles.window, tiles.stride)
        self._both = self._inside[:, 1:] * self._inside[:, :-1]
        self._masked = margin > 0
        self.count = int(self._inside.sum()) * int(self._both.sum())

    def slopes(
        self, coefficients: Float[Tensor, "vertices k cols window window"], row: int
    ) -> Float[Tensor, "vertices k cols window window"]:
        """Returns the gradient of the sum of absolute differences in a row of tiles."""
        slopes = torch.zeros_like(coefficients)
        across = self._inside[row][:, None] * self._both[:, None, :]
        down = self._both[row][:, None] * self._inside[:, None, :]
        for dim, mask in ((-1, across), (-2, down)):
            signs = coefficients.diff(dim=dim).sign_()
            if self._masked:
                signs *= mask
            last = coefficients.shape[dim] - 1
            slopes.narrow(dim, 1, last).add_(signs)
            slopes.narrow(dim, 0, last).sub_(signs)
        return slopes


def total_variation(
    field: Float[Tensor, "*batch height width"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring values, down plus across; 0 for a constant."""
    total = field.new_zeros(())
    for dim in (-1, -2):
        if field.shape[dim] > 1:
            total = total + field.diff(dim=dim).abs().mean()
    return total
