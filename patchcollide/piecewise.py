"""Piecewise linear functions along a straight line: values, slopes, and how far they hold.

Each function takes the values at some points of a line and their derivative along it, and returns
those of its output. An activation takes note of where a unit would reach its next corner: up to
there, everything is affine.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from patchcollide.errors import NetworkError
from patchcollide.shapes import Tensor


class Bounds:
    """How far from each of some points a network stays on one linear piece.

    Attributes:
        forward: The distance along the line to the next breakpoint, for each point.
        backward: The distance to the one before.
    """

    def __init__(self, points: int, device: torch.device) -> None:
        self.forward = torch.full((points,), torch.inf, dtype=torch.float64, device=device)
        self.backward = self.forward.clone()

    def narrow(self, speed: Tensor, distance: Tensor) -> bool:
        """Takes note of the breakpoints of units, ``(points, ...)``.

        Args:
            speed: How fast each unit's value rises along the line.
            distance: How far its breakpoint is above its value.

        Returns:
            Whether a unit is on its breakpoint and leaves it. It counts as one behind: a piece
            begins with its breakpoint.
        """
        self._require_batch(speed)
        low, high = (speed / distance).flatten(start_dim=1).aminmax(dim=1)
        if not (low.isfinite() & high.isfinite()).all():
            return self._narrow_on_breakpoints(speed, distance)
        ahead = torch.where(high > 0, 1 / high, torch.inf)
        self._take(ahead, torch.where(low < 0, -1 / low, torch.inf))
        return False

    def _narrow_on_breakpoints(self, speed: Tensor, distance: Tensor) -> bool:
        # A unit that does not move has no breakpoint anywhere: NaN, or infinitely far.
        reach = (distance / speed).flatten(start_dim=1)
        ahead = torch.where(reach > 0, reach, torch.inf).amin(dim=1)
        behind = torch.where(reach <= 0, -reach, torch.inf).amin(dim=1)
        self._take(ahead, behind)
        return bool((behind == 0).any())

    def _take(self, ahead: Tensor, behind: Tensor) -> None:
        self.forward = torch.minimum(self.forward, ahead)
        self.backward = torch.minimum(self.backward, behind)

    def _require_batch(self, values: Tensor) -> None:
        if len(values) != len(self.forward):
            raise NetworkError(
                f"an activation should see a batch of {len(self.forward)} first, but sees "
                f"{tuple(values.shape)}, so the points of the line cannot be told apart"
            )


class Line(NamedTuple):
    """Values at points of a line, ``(points, ...)``, their slopes, and how far these hold."""

    value: Tensor
    slope: Tensor
    bounds: Bounds


def _affine(function: Callable[..., Tensor]) -> Callable[..., Line]:
    """Of a function of input, weight and bias: slopes do not feel the bias."""

    def rule(
        line: Line, /, weight: Tensor, bias: Tensor | None = None, *rest: Any, **more: Any
    ) -> Line:
        value = function(line.value, weight, bias, *rest, **more)
        return Line(value, function(line.slope, weight, None, *rest, **more), line.bounds)

    return rule


def _batch_norm(
    line: Line,
    /,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Line:
    del momentum
    if training or running_mean is None or running_var is None:
        raise NetworkError("batch_norm with the statistics of a batch is not piecewise linear")
    shape = (1, -1) + (1,) * (line.value.ndim - 2)
    scale = (running_var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - running_mean * scale
    value = torch.addcmul(shift.reshape(shape), line.value, scale.reshape(shape))
    return Line(value, line.slope * scale.reshape(shape), line.bounds)


def _pad(
    line: Line, /, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Line:
    padded = F.pad(line.value, pad, mode, value)
    return Line(padded, F.pad(line.slope, pad, mode), line.bounds)


def _bent(
    line: Line, result: Tensor, corners: Sequence[float], factors: Sequence[float], slope: Tensor
) -> Line:
    """Applies an activation that is linear between its corners.

    Args:
        line: Its input.
        result: Its output.
        corners: Where it bends, in rising order.
        factors: Its slope below the first corner, between each two, and above the last.
        slope: The slope of the output, as PyTorch has it: any on a corner.
    """
    leaves = [line.bounds.narrow(line.slope, corner - line.value) for corner in corners]
    if any(leaves):
        factor = torch.full_like(line.slope, factors[0])
        for corner, above in zip(corners, factors[1:], strict=True):
            # On a corner, the side that the line is heading for.
            reached = (line.value > corner) | ((line.value == corner) & (line.slope > 0))
            factor = torch.where(reached, above, factor)
        slope = line.slope * factor
    return Line(result, slope, line.bounds)


def _relu(line: Line, /) -> Line:
    slope = torch.ops.aten.threshold_backward(line.slope, line.value, 0)
    return _bent(line, F.relu(line.value), (0.0,), (0.0, 1.0), slope)


def _leaky_relu(line: Line, /, negative_slope: float = 0.01) -> Line:
    value, factors = line.value, (negative_slope, 1.0)
    slope = torch.ops.aten.leaky_relu_backward(line.slope, value, negative_slope, False)
    return _bent(line, F.leaky_relu(value, negative_slope), (0.0,), factors, slope)


def _hardtanh(line: Line, /, min_val: float = -1.0, max_val: float = 1.0) -> Line:
    slope = torch.ops.aten.hardtanh_backward(line.slope, line.value, min_val, max_val)
    result = F.hardtanh(line.value, min_val, max_val)
    return _bent(line, result, (min_val, max_val), (0.0, 1.0, 0.0), slope)


def _relu6(line: Line, /) -> Line:
    return _hardtanh(line, 0.0, 6.0)


def _max_pool2d(
    line: Line,
    /,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **_: Any,
) -> Line:
    settings = [_pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation)]
    result = F.max_pool2d(line.value, kernel_size, stride, padding, dilation, ceil_mode)
    values = _windows(line.value, -torch.inf, result.shape[-2:], *settings)
    slopes = _windows(line.slope, 0.0, result.shape[-2:], *settings)
    behind = result[..., None] - values
    # Of several largest, the one that will be ahead.
    slope = torch.where(behind == 0, slopes, -torch.inf).amax(dim=-1)
    line.bounds.narrow(slopes - slope[..., None], behind)
    return Line(result, slope, line.bounds)


def _pair(number: Any) -> tuple[int, int]:
    return (number, number) if isinstance(number, int) else (number[0], number[-1])


def _windows(
    images: Tensor,
    fill: float,
    size: Iterable[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Returns the pixels of each window of a pooling in a last dimension."""
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    ends = [
        (n - 1) * s + extent - side - p
        for n, s, extent, side, p in zip(
            size, stride, extents, images.shape[-2:], padding, strict=True
        )
    ]
    padded = F.pad(images, (padding[1], ends[1], padding[0], ends[0]), value=fill)
    rows = padded.unfold(-2, extents[0], stride[0])[..., :: dilation[0]]
    return rows.unfold(-2, extents[1], stride[1])[..., :: dilation[1]].flatten(start_dim=-2)


RULES: dict[str, Callable[..., Line]] = {
    "batch_norm": _batch_norm,
    "conv1d": _affine(F.conv1d),
    "conv2d": _affine(F.conv2d),
    "conv3d": _affine(F.conv3d),
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "linear": _affine(F.linear),
    "max_pool2d": _max_pool2d,
    "pad": _pad,
    "relu": _relu,
    "relu6": _relu6,
}
"""By the name of PyTorch's function."""
