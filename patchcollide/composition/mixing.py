"""Mixing patches into images: softmax coefficients over everything that covers a pixel.

Tiles are windows at their locations: ``(..., rows, cols, window, window)``. Overlap-add is
separable, so it takes one slice a row and one a column instead of one a location.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from patchcollide.shapes import Float, Tensor

_MOST_KEPT = 2**25
"""Logits at pixels: those of five vertices, as they are by default, are 15 million."""


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
    return _join(strips, stride, empty, combine)


def _join(strips: Tensor, stride: int, empty: float, combine: Any) -> Tensor:
    """Combines strips, one for each column of locations, into a canvas."""
    *batch, cols, height, window = strips.shape
    canvas = strips.new_full((*batch, height, stride * (cols - 1) + window), empty)
    for col in range(cols):
        combine(canvas[..., col * stride : col * stride + window], strips[..., col, :, :])
    return canvas


class _Mix(torch.autograd.Function):
    """The mixture and its gradient in the logits, a row of locations at a time.

    With ``e`` the exponentials, ``s`` their sum at a pixel and ``m`` the mixture, the gradient of a
    logit is ``e / s * <grad, patch - m>``. The exponentials are kept for it, unless they are more
    than :data:`_MOST_KEPT`: then they are made again, and nothing larger than the logits is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        patches: Tensor,
        frame: Tensor,
        stride: int,
        field: Tensor | None,
    ) -> Tensor:
        tint = None if field is None else Tint(field.detach(), patches)
        rows: list[Tensor] = []
        tiles = LogitTiles.of(logits, frame, stride, tint, rows)
        channels = patches.shape[1]
        strips = tiles.new_strips(channels + 1)
        for row in range(tiles.num_rows):
            exponentials = tiles.exponentials(row, rows)
            place = tiles.place(strips, row)
            for rank in range(len(patches)):
                place[:, :channels].addcmul_(exponentials[:, rank, None], patches[rank, :, row])
            place[:, channels] += exponentials.sum(dim=1)
        canvas = _join(strips, stride, 0.0, torch.Tensor.add_)
        sums = canvas[:, channels:]
        mixture = canvas[:, :channels] / sums
        ctx.save_for_backward(logits, sums, mixture, patches)
        ctx.tiles, ctx.exponentials = tiles, rows
        return mixture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, Tensor | None]:
        logits, sums, mixture, patches = ctx.saved_tensors
        tiles, kept = ctx.tiles, ctx.exponentials
        scaled = gradients[0] / sums
        weights = cut_windows(scaled, tiles.window, tiles.stride)
        offsets = cut_windows((scaled * mixture).sum(dim=1), tiles.window, tiles.stride).neg()
        result = torch.empty_like(logits)
        channels = patches.shape[1]
        strips = None if tiles.tint is None else tiles.new_strips(channels)
        for row in range(tiles.num_rows):
            # Copied once: the strided views would be read again for every neighbour.
            weight = weights[:, :, row, None].contiguous()
            inner = torch.addcmul(offsets[:, row, None], weight[:, 0], patches[:, 0, row])
            for channel in range(1, channels):
                inner.addcmul_(weight[:, channel], patches[:, channel, row])
            inner.mul_(kept[row] if kept else tiles.exponentials(row))
            if strips is not None:
                place = tiles.place(strips, row)
                for rank in range(len(patches)):
                    place.addcmul_(inner[:, rank, None], patches[rank, :, row])
            tiles.put_gradient(result, row, inner)
        tinted = None if strips is None else _join(strips, tiles.stride, 0.0, torch.Tensor.add_)
        return result, None, None, None, tinted


@dataclass(frozen=True)
class Tint:
    """A field by which the logits of patches rise with their colour.

    Attributes:
        field: By how much, for each channel of 0..1 at each pixel of the canvas.
        patches: The neighbours, as they are mixed.
    """

    field: Float[Tensor, "vertices channels side side"]
    patches: Float[Tensor, "k channels rows cols window window"]

    def add_to(
        self, logits: Float[Tensor, "vertices k cols window window"], row: int, stride: int
    ) -> Float[Tensor, "vertices k cols window window"]:
        """Returns the logits of a row of locations, tinted."""
        windows = cut_windows(self.field, self.patches.shape[-1], stride)
        field = windows[:, :, row, None].contiguous()
        tinted = torch.addcmul(logits, field[:, 0], self.patches[:, 0, row])
        for channel in range(1, self.patches.shape[1]):
            tinted.addcmul_(field[:, channel], self.patches[:, channel, row])
        return tinted


@dataclass(frozen=True)
class LogitTiles:
    """The exponentials of logits at each pixel, made a row of locations at a time.

    Attributes:
        logits: As they are optimised: of a field that may be coarser than a window.
        enlarge: What interpolates a side of the field to that of a window; None if it has it.
        offsets: What is added before exponentials are taken: the frame, less the largest logit of
            all that cover the pixel.
        stride: Step between locations, in pixels.
        tint: What is added to the logits at each pixel; None for nothing.
    """

    logits: Float[Tensor, "vertices k rows cols size size"]
    enlarge: Float[Tensor, "window size"] | None
    offsets: Float[Tensor, "vertices rows cols window window"]
    stride: int
    tint: Tint | None = None

    @classmethod
    def of(
        cls,
        logits: Float[Tensor, "vertices k rows cols size size"],
        frame: Float[Tensor, "window window"],
        stride: int,
        tint: Tint | None = None,
        rows: list[Tensor] | None = None,
    ) -> "LogitTiles":
        """Finds the largest logit at each pixel; ``frame`` is added to the logits of each patch.

        Args:
            logits: As they are optimised.
            frame: See above.
            stride: Step between locations, in pixels.
            tint: What is added to the logits at each pixel; None for nothing.
            rows: Gets the logits at each pixel, row by row, for :meth:`exponentials` to use up. It
                stays empty where they would be more than :data:`_MOST_KEPT`, or are ``logits``.
        """
        # Not the graph's tensor, which would keep itself alive.
        logits, window = logits.detach(), len(frame)
        enlarge = _enlarging(logits, window)
        num_vertices, _, num_rows, cols, _, _ = logits.shape
        offsets = logits.new_empty((num_vertices, num_rows, cols, window, window))
        tiles = cls(logits, enlarge, offsets, stride, tint)
        keeps = rows is not None and tiles._is_worth_keeping
        for row in range(num_rows):
            field = tiles._field(row)
            torch.add(field.amax(dim=1), frame, out=offsets[:, row])
            if rows is not None and keeps:
                rows.append(field)
        largest = overlap_maximum(offsets, stride)
        torch.sub(frame, cut_windows(largest, window, stride), out=offsets)
        return tiles

    @property
    def window(self) -> int:
        """Side of a tile, in pixels."""
        return self.offsets.shape[-1]

    @property
    def num_rows(self) -> int:
        """Number of locations along a side of the canvas."""
        return self.offsets.shape[1]

    @property
    def _is_worth_keeping(self) -> bool:
        """Whether logits at pixels are others than the parameters, and not too many."""
        is_made = self.enlarge is not None or self.tint is not None
        return is_made and self.offsets.numel() * self.logits.shape[1] <= _MOST_KEPT

    def exponentials(
        self, row: int, rows: Sequence[Tensor] = ()
    ) -> Float[Tensor, "vertices k cols window window"]:
        """Returns exp(logit - largest logit at the pixel) of a row of locations.

        Args:
            row: Which.
            rows: What :meth:`of` gave, in whose place they come; none to make the logits again.
        """
        offsets = self.offsets[:, row, None]
        logits = rows[row].add_(offsets) if rows else self._field(row) + offsets
        return logits.exp_()

    def _field(self, row: int) -> Tensor:
        field = _enlarged(self.logits[:, :, row], self.enlarge)
        return field if self.tint is None else self.tint.add_to(field, row, self.stride)

    def normalised(self) -> "LogitTiles":
        """Returns tiles whose exponentials are the coefficients: they sum to 1 at each pixel."""
        sums = torch.empty_like(self.offsets)
        for row in range(self.num_rows):
            torch.sum(self.exponentials(row), dim=1, out=sums[:, row])
        logarithms = overlap_add(sums, self.stride).log_()
        offsets = self.offsets - cut_windows(logarithms, self.window, self.stride)
        return replace(self, offsets=offsets)

    def put_gradient(self, gradient: Tensor, row: int, at_pixels: Tensor) -> None:
        """Writes a row of the gradient in the logits, from what it is at each pixel."""
        gradient[:, :, row] = (
            at_pixels if self.enlarge is None else _enlarged(at_pixels, self.enlarge.T)
        )

    def new_strips(self, channels: int) -> Float[Tensor, "vertices channels cols height window"]:
        """Returns zeros to which to add rows up: a strip for each column of locations."""
        num_vertices, rows, cols, window, _ = self.offsets.shape
        height = self.stride * (rows - 1) + window
        return self.offsets.new_zeros((num_vertices, channels, cols, height, window))

    def place(self, strips: Tensor, row: int) -> Tensor:
        """Returns where a row of locations lies in the strips."""
        return strips[:, :, :, row * self.stride : row * self.stride + self.window]


def mix_patches(
    logits: Float[Tensor, "vertices k rows cols size size"],
    patches: Float[Tensor, "k channels rows cols window window"],
    stride: int,
    frame: Float[Tensor, "window window"] | None = None,
    tint: Float[Tensor, "vertices channels side side"] | None = None,
) -> Float[Tensor, "vertices channels side side"]:
    """Mixes the patches of all locations into images, pixel by pixel.

    The coefficients are a softmax over all patches that cover a pixel, so each pixel of a mixture
    lies between the smallest and the largest value found there and needs no clipping.

    Args:
        logits: Unnormalised coefficients; finite. A field smaller than a window is interpolated
            bilinearly: of size 1 it gives one coefficient a patch, of the window's one a pixel.
        patches: The ``k`` neighbours of each location, RGB in ``[0, 1]``.
        stride: Step between locations, in pixels.
        frame: What is added to the logits of every patch, such as :func:`tent_logits`.
        tint: A field whose product with a patch's colour at a pixel is added to its logit there;
            None for none.

    Returns:
        One mixture for each vertex, differentiable in ``logits`` and in ``tint``.

    Source:
        Li, Zhang and Malik 2019, Section 4. The released code gives every vertex a logit for each
        location and *canvas* pixel; only those that cover a pixel matter, and only they are kept.
    """
    if frame is None:
        frame = patches.new_zeros(patches.shape[-2:])
    mixture: Tensor = _Mix.apply(logits, patches, frame, stride, tint)
    return mixture


def _enlarging(logits: Tensor, window: int) -> Tensor | None:
    """Returns the matrix that interpolates a side of the field; None if it has every pixel."""
    size = logits.shape[-1]
    if size == window:
        return None
    identity = torch.eye(size, dtype=logits.dtype, device=logits.device)[None]
    return nn.functional.interpolate(identity, size=window, mode="linear", align_corners=False)[0].T


def _enlarged(field: Tensor, enlarge: Tensor | None) -> Tensor:
    return field if enlarge is None else enlarge @ field @ enlarge.T


def tent_logits(window: int) -> Float[Tensor, "window window"]:
    """Returns the logarithm of a tent over a window: the start, and the frame, of a mixture.

    Equal neighbours then fade into each other without seams, as in the released code.
    """
    pixels = torch.arange(window, dtype=torch.float64) + 0.5
    side = torch.minimum(pixels, window - pixels) / (window / 2)
    return side.outer(side).log().float()
