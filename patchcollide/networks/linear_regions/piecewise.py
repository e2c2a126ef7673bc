"""Piecewise linear functions along a straight line: values, slopes, and how far they hold.

Each function takes the values at some points of a line and their derivative along it, and returns
those of its output. What bends takes note of where a unit would reach its next corner: up to there,
everything is affine. Functions go by the names of PyTorch's operators (``torch.ops.aten``).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.lines import Bounds, Line
from patchcollide.shapes import Tensor


def _bent(
    line: Line,
    result: Tensor,
    corners: Sequence[float | Tensor],
    factors: Sequence[float | Tensor],
    slope: Tensor | None = None,
) -> Line:
    """Applies an activation that is linear between its corners.

    Args:
        line: Its input.
        result: Its output.
        corners: Where it bends, in rising order.
        factors: Its slope below the first corner, between each two, and above the last.
        slope: The slope of the output, if PyTorch has it: any on a corner.
    """
    line = line.broadcast(result.shape)
    leaves = [
        line.bounds.narrow(line.slope, line.value, corner, line.in_order) for corner in corners
    ]
    if slope is None or any(leaves):
        factor: Tensor = torch.ones_like(line.slope) * factors[0]
        for corner, above in zip(corners, factors[1:], strict=True):
            # On a corner, the side that the line is heading for.
            reached = (line.value > corner) | ((line.value == corner) & (line.slope > 0))
            factor = torch.where(reached, above, factor)
        slope = line.slope * factor
    return line.to(result, slope)


def _relu(line: Line, /) -> Line:
    slope = torch.ops.aten.threshold_backward(line.slope, line.value, 0)
    return _bent(line, F.relu(line.value), (0.0,), (0.0, 1.0), slope)


def _leaky_relu(line: Line, /, negative_slope: float = 0.01) -> Line:
    value, factors = line.value, (negative_slope, 1.0)
    slope = torch.ops.aten.leaky_relu_backward(line.slope, value, negative_slope, False)
    return _bent(line, F.leaky_relu(value, negative_slope), (0.0,), factors, slope)


def _prelu(line: Line, weight: Tensor, /) -> Line:
    result = torch.where(line.value > 0, line.value, weight * line.value)
    return _bent(line, result, (0.0,), (weight, 1.0))


def _hardtanh(line: Line, /, min_val: float = -1.0, max_val: float = 1.0) -> Line:
    slope = torch.ops.aten.hardtanh_backward(line.slope, line.value, min_val, max_val)
    result = F.hardtanh(line.value, min_val, max_val)
    return _bent(line, result, (min_val, max_val), (0.0, 1.0, 0.0), slope)


def _clamp(line: Line, /, low: Any = None, high: Any = None) -> Line:
    result = line.value.clamp(low, high)
    if low is not None and high is not None:
        # Where the bounds are crossed, PyTorch gives the upper one.
        low = torch.minimum(
            *(
                torch.as_tensor(bound, dtype=result.dtype, device=result.device)
                for bound in (low, high)
            )
        )
    corners = [bound for bound in (low, high) if bound is not None]
    factors = [*([] if low is None else [0.0]), 1.0, *([] if high is None else [0.0])]
    return _bent(line, result, corners, factors)


def _clamp_max(line: Line, high: Any, /) -> Line:
    return _clamp(line, None, high)


def _threshold(line: Line, threshold: float, value: float, /) -> Line:
    if threshold != value:
        raise NetworkError("threshold with another value than its threshold jumps")
    return _clamp(line, threshold)


def _abs(line: Line, /) -> Line:
    if line.value.is_complex():
        raise NetworkError("abs of complex values is not piecewise linear")
    return _bent(line, line.value.abs(), (0.0,), (-1.0, 1.0))


def _softshrink(line: Line, /, lambd: float = 0.5) -> Line:
    return _bent(line, F.softshrink(line.value, lambd), (-lambd, lambd), (1.0, 0.0, 1.0))


def _hardsigmoid(line: Line, /) -> Line:
    return _bent(line, F.hardsigmoid(line.value), (-3.0, 3.0), (0.0, 1 / 6, 0.0))


def _maximum(first: Line | Tensor, second: Line | Tensor, /, sign: int = 1) -> Line:
    """Takes the larger of two values, or with ``sign`` -1 the smaller."""
    lines = [term for term in (first, second) if isinstance(term, Line)]
    values = [term.value if isinstance(term, Line) else term for term in (first, second)]
    value = (torch.maximum if sign > 0 else torch.minimum)(*values)
    bounds, shape = lines[0].bounds, value.shape
    in_order = all(line.ordered_in(shape) for line in lines)
    one, other = (_as_line(term, bounds).broadcast(shape) for term in (first, second))
    ahead, faster = sign * (one.value - other.value), sign * (one.slope - other.slope)
    bounds.narrow(faster, ahead, 0.0, in_order)
    takes_one = (ahead > 0) | ((ahead == 0) & (faster > 0))
    return Line(value, torch.where(takes_one, one.slope, other.slope), bounds, in_order)


def _minimum(first: Line | Tensor, second: Line | Tensor, /) -> Line:
    return _maximum(first, second, sign=-1)


def _as_line(term: Line | Tensor, bounds: Bounds) -> Line:
    return term if isinstance(term, Line) else Line(term, torch.zeros_like(term), bounds)


def _amax(line: Line, /, dim: Any = (), keepdim: bool = False, *, sign: int = 1) -> Line:
    dims = [dim] if isinstance(dim, int) else list(dim) or list(range(line.value.ndim))
    result = sign * (sign * line.value).amax(dims, keepdim=True)
    behind, slopes = sign * (result - line.value), sign * line.slope
    # Of several largest, the one that will be ahead.
    slope = torch.where(behind == 0, slopes, -torch.inf).amax(dims, keepdim=True)
    line.bounds.narrow(slopes - slope, -behind, 0.0, line.in_order)
    in_order = line.bounds.points == 1 or (
        line.leads and 0 not in [number % line.value.ndim for number in dims]
    )
    if not keepdim:
        result, slope = result.squeeze(dims), slope.squeeze(dims)
    return line.to(result, sign * slope, in_order)


def _amin(line: Line, /, dim: Any = (), keepdim: bool = False) -> Line:
    return _amax(line, dim, keepdim, sign=-1)


def _max_pool2d(
    line: Line,
    /,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Line:
    settings = [pair(kernel_size), pair(stride or kernel_size), pair(padding), pair(dilation)]
    result = F.max_pool2d(line.value, kernel_size, stride or None, padding, dilation, ceil_mode)
    values = pooled_windows(line.value, -torch.inf, result.shape[-2:], *settings)
    slopes = pooled_windows(line.slope, 0.0, result.shape[-2:], *settings)
    if settings[0] == (1, 1):
        return line.to(result, slopes[..., 0], line.leads)
    behind = result[..., None] - values
    # Of several largest, the one that will be ahead.
    slope = torch.where(behind == 0, slopes, -torch.inf).amax(dim=-1)
    in_order = line.leads and line.value.ndim > 2
    line.bounds.narrow(slopes - slope[..., None], -behind, 0.0, in_order)
    return line.to(result, slope, in_order)


def _adaptive_max_pool2d(line: Line, size: Any, /) -> Line:
    (height, rows), (width, columns) = zip(line.value.shape[-2:], pair(size), strict=True)
    if height % rows or width % columns:
        raise NetworkError(
            f"adaptive_max_pool2d from {height} x {width} to {rows} x {columns}, which does not "
            "divide it, is not known"
        )
    return _max_pool2d(line, (height // rows, width // columns))


def pair(number: Any) -> tuple[int, int]:
    """Returns a size of both directions, given one for both or one for each."""
    return (number, number) if isinstance(number, int) else (number[0], number[-1])


def pooled_windows(
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


BENDS: dict[str, Callable[..., Line]] = {
    "_prelu_kernel": _prelu,
    "abs": _abs,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "amax": _amax,
    "amin": _amin,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp,
    "hardsigmoid": _hardsigmoid,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "max": _amax,
    "max_pool2d_with_indices": _max_pool2d,
    "min": _amin,
    "relu": _relu,
    "softshrink": _softshrink,
    "threshold": _threshold,
}
"""Functions of one line; those that also return indices are named below."""

BENDS_OF_TWO: dict[str, Callable[..., Line]] = {"maximum": _maximum, "minimum": _minimum}
"""Functions of two, of which one may be constant."""
