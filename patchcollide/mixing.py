"""Mixing patches into images: softmax coefficients over everything that covers a pixel.

Tiles are windows at their locations: ``(..., rows, cols, window, window)``. Overlap-add is
separable, so it takes one slice a row and one a column instead of one a location.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from patchcollide.shapes import Float, Tensor


def overlap_add(
    tiles: Float[Tensor, "*batch rows cols window window"], stride: int
) -> Float[Tensor, "*batch side side"]:
    """Adds tiles up on a canvas, where they overlap."""
    return _onto_canvas(tiles, stride, 0.0, torch.Tensor.add_)


def overlap_maximum(
    tiles: Float[Tensor, "*batch rows cols window window"], stride: int
) -> Float[Tensor, "*batch side side"]:
    """Takes the largest of all tiles that cover a pixel; not differentiable."""
    with torch.no_grad():
        return _onto_canvas(
            tiles, stride, -math.inf, lambda out, tile: torch.maximum(out, tile, out=out)
        )


def cut_windows(
    canvas: Float[Tensor, "*batch side side"], window: int, stride: int
) -> Float[Tensor, "*batch rows cols window window"]:
    """Returns the windows of a canvas as a strided view: the transpose of :func:`overlap_add`."""
    return canvas.unfold(-2, window, stride).unfold(-2, window, stride)


def _onto_canvas(tiles: Tensor, stride: int, empty: float, combine: Any) -> Tensor:
    *batch, rows, cols, window, _ = tiles.shape
    strips = tiles.new_full((*batch, cols, stride * (rows - 1) + window, window), empty)
    for row in range(rows):
        combine(strips[..., row * stride : row * stride + window, :], tiles[..., row, :, :, :])
    side = stride * (cols - 1) + window
    canvas = tiles.new_full((*batch, strips.shape[-2], side), empty)
    for col in range(cols):
        combine(canvas[..., col * stride : col * stride + window], strips[..., col, :, :])
    return canvas


class _Mix(torch.autograd.Function):
    """The mixture and its gradient in the logits, without keeping coefficients for autograd.

    With ``e`` the exponentials, ``s`` their sum at a pixel and ``m`` the mixture, the gradient of a
    logit is ``e / s * <grad, patch - m>``.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, patches: Tensor, stride: int) -> Tensor:
        exponentials, sums = _exponentials(logits, stride)
        window = logits.shape[-1]
        channels = []
        for channel in range(patches.shape[1]):
            tile = exponentials[:, 0] * patches[0, channel]
            for rank in range(1, len(patches)):
                tile.addcmul_(exponentials[:, rank], patches[rank, channel])
            channels.append(overlap_add(tile, stride))
        mixture = torch.stack(channels, dim=1) / sums[:, None]
        ctx.save_for_backward(exponentials, sums, mixture, patches)
        ctx.geometry = window, stride
        return mixture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        exponentials, sums, mixture, patches = ctx.saved_tensors
        window, stride = ctx.geometry
        scaled = gradients[0] / sums[:, None]
        # Copied once: the strided views would be read again for every neighbour.
        tiles = cut_windows(scaled, window, stride).contiguous()
        offset = cut_windows((scaled * mixture).sum(dim=1), window, stride).contiguous()
        result = torch.empty_like(exponentials)
        for rank in range(len(patches)):
            inner = torch.addcmul(-offset, tiles[:, 0], patches[rank, 0])
            for channel in range(1, patches.shape[1]):
                inner.addcmul_(tiles[:, channel], patches[rank, channel])
            torch.mul(inner, exponentials[:, rank], out=result[:, rank])
        return result, None, None


def _exponentials(logits: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Returns exp(logit - largest logit at the pixel) and its sum over all that cover the pixel."""
    window = logits.shape[-1]
    largest = overlap_maximum(logits.detach().amax(dim=1), stride)
    exponentials = (logits - cut_windows(largest, window, stride)[:, None]).exp()
    return exponentials, overlap_add(exponentials.sum(dim=1), stride)


def mix_patches(
    logits: Float[Tensor, "vertices k rows cols window window"],
    patches: Float[Tensor, "k channels rows cols window window"],
    stride: int,
) -> Float[Tensor, "vertices channels side side"]:
    """Mixes the patches of all locations into images, pixel by pixel.

    The coefficients are a softmax over all patches that cover a pixel, so each pixel of a mixture
    lies between the smallest and the largest value found there and needs no clipping.

    Args:
        logits: Unnormalised coefficients; finite.
        patches: The ``k`` neighbours of each location, RGB in ``[0, 1]``.
        stride: Step between locations, in pixels.

    Returns:
        One mixture for each vertex, differentiable in ``logits``.

    Source:
        Li, Zhang and Malik 2019, Section 4. The released code gives every vertex a logit for each
        location and *canvas* pixel; only those that cover a pixel matter, and only they are kept.
    """
    mixture: Tensor = _Mix.apply(logits, patches, stride)
    return mixture


def mixing_coefficients(
    logits: Float[Tensor, "vertices k rows cols window window"], stride: int
) -> Float[Tensor, "vertices k rows cols window window"]:
    """Returns the coefficients themselves, which sum to 1 at each pixel; differentiable."""
    exponentials, sums = _exponentials(logits, stride)
    return exponentials / cut_windows(sums, logits.shape[-1], stride)[:, None]


def upsample_logits(
    logits: Float[Tensor, "*batch size size"], window: int
) -> Float[Tensor, "*batch window window"]:
    """Interpolates a coarse field of logits to each pixel of a window, bilinearly.

    Size 1 gives one coefficient a patch, size ``window`` one a pixel.
    """
    size = logits.shape[-1]
    if size == window:
        return logits
    identity = torch.eye(size, dtype=logits.dtype, device=logits.device)[None]
    rows = nn.functional.interpolate(identity, size=window, mode="linear", align_corners=False)[0].T
    return rows @ logits @ rows.T


def tent_logits(window: int) -> Float[Tensor, "window window"]:
    """Returns the logarithm of a tent over a window: the start, and the frame, of a mixture.

    Equal neighbours then fade into each other without seams, as in the released code.
    """
    pixels = torch.arange(window, dtype=torch.float64) + 0.5
    side = torch.minimum(pixels, window - pixels) / (window / 2)
    return side.outer(side).log().float()
