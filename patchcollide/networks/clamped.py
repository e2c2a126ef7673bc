"""Convolutions with the clamp behind them, as a ReLU is, in one operation: the same values, sooner.

An activation on its own reads and writes all that a convolution has just written; one that is
applied in place and asked for a gradient copies it besides. oneDNN clamps what it writes anyway.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from patchcollide.networks.curves import curve_of
from patchcollide.shapes import Float, Tensor


class ClampedConvolution(nn.Module):
    """A convolution and what clamps its output; equal to the two, bit for bit, gradients too.

    Args:
        conv: The convolution, whose parameters need no gradient.
        low: Nothing that comes out is below this.
        high: Nor above this.
    """

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.conv, self.low, self.high = conv, low, high
        self.train(conv.training)

    def forward(
        self, images: Float[Tensor, "*batch channels height width"]
    ) -> Float[Tensor, "*batch kernels rows columns"]:
        """Returns the clamped convolution."""
        if _by_onednn(self.conv, images):
            clamped: Tensor = _Clamped.apply(images, self.conv, self.low, self.high)
        else:
            clamped = self.conv(images).clamp(self.low, self.high)
        return clamped


class _Clamped(torch.autograd.Function):
    """The operation, and its gradient in the images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, conv: nn.Conv2d, low: float, high: float) -> Tensor:
        clamped: Tensor = torch.ops.mkldnn._convolution_pointwise(
            images,
            conv.weight,
            conv.bias,
            conv.padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            "hardtanh",
            [low, high],
            "",
        )
        ctx.save_for_backward(images, conv.weight, clamped)
        ctx.how = conv, low, high
        return clamped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        images, weight, clamped = ctx.saved_tensors
        conv, low, high = ctx.how
        # What was clamped lies on an end, where this has no slope either.
        inside = torch.ops.aten.hardtanh_backward(gradients[0], clamped, low, high)
        geometry = conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups
        found = torch.ops.aten.convolution_backward(
            inside, images, weight, None, *geometry, (True, False, False)
        )
        return found[0], None, None, None


def can_clamp() -> bool:
    """Says whether this PyTorch has the operation."""
    return (
        torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C, "_select_conv_backend")
    )


def clamped_together(conv: nn.Module, activation: nn.Module) -> ClampedConvolution | None:
    """Returns both in one; None unless it is a convolution of images and something that clamps."""
    curve = curve_of(activation)
    if curve is None or curve.name != "clamp":
        return None
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    if conv.weight.device.type != "cpu" or conv.weight.dtype != torch.float32 or not can_clamp():
        return None
    return ClampedConvolution(conv, *curve.parameters)


def _by_onednn(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether PyTorch would have oneDNN compute the convolution: another would round otherwise."""
    if images.ndim != 4 or images.device.type != "cpu" or images.dtype != torch.float32:
        return False
    if conv.weight.dtype != torch.float32:
        return False
    backend = torch._C._select_conv_backend(
        images,
        conv.weight,
        conv.bias,
        conv.stride,
        conv.padding,
        conv.dilation,
        False,
        (0, 0),
        conv.groups,
        None,
    )
    return bool(backend.name == "Mkldnn")
