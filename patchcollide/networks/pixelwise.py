"""Convolutions of one pixel, computed where that is fastest on a processor."""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.shapes import Float, Tensor

_FEW_VALUES = 20_480
"""PyTorch does not give oneDNN a single image of no more values."""


class PixelConvolution(nn.Conv2d):
    """A convolution with a kernel of one pixel; the same to rounding.

    By oneDNN on one thread too, as it is on several. PyTorch asks for it where a kernel is dilated,
    which changes nothing of a single pixel. A small image alone it would then give to a slow way
    of its own; as a product of matrices it takes a quarter of the time.

    Args:
        conv: What :func:`is_pixelwise` says yes of; its parameters are shared.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 1, dilation=2, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def forward(
        self, images: Float[Tensor, "*batch channels height width"]
    ) -> Float[Tensor, "*batch kernels height width"]:
        """Returns the convolution."""
        if images.ndim == 4 and len(images) == 1 and images.numel() <= _FEW_VALUES:
            pixels = images.permute(0, 2, 3, 1)
            return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(images)


def is_pixelwise(part: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Says whether a part is a plain convolution of single pixels that a processor computes."""
    return (
        type(part) is nn.Conv2d
        and (part.kernel_size, part.stride, part.groups) == ((1, 1), (1, 1), 1)
        and part.padding in ((0, 0), "valid", "same")
        and not (part._forward_hooks or part._forward_pre_hooks)
        and part.weight.device.type == "cpu"
        and part.weight.dtype == torch.float32
        and torch._C._has_mkldnn
    )
