"""What bends, operator by operator (``torch.ops.aten``), made of floors, caps and largest values.

Rules are as in :mod:`patchcollide.proofs.linear_rules`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.piecewise import pair, pooled_windows
from patchcollide.proofs.bends import NEVER, Cap, Floor, Largest, Smooth
from patchcollide.proofs.builder import Builder, Value, each, folded, refuse_values
from patchcollide.proofs.linear_rules import add, divided, joined, multiplied, negated
from patchcollide.shapes import Tensor


def _clamp(build: Builder, x: Value, low: Any = None, high: Any = None) -> Value:
    refuse_values(low, high)
    if low is not None and not _is_infinite(low):
        x = build.bend(Floor(low), x)
    if high is not None and not _is_infinite(high):
        x = build.bend(Cap(high), x)
    return x


def _is_infinite(bound: Any) -> bool:
    return isinstance(bound, int | float) and math.isinf(bound)


def _threshold(build: Builder, x: Value, threshold: float, value: float) -> Value:
    if threshold != value:
        raise NetworkError("with another value than its threshold, where it jumps")
    return _clamp(build, x, threshold)


def _leaky_relu(build: Builder, x: Value, slope: Any = 0.01) -> Value:
    slope = torch.as_tensor(slope, dtype=torch.float64)
    scaled = multiplied(build, x, slope)
    if bool(((slope >= 0) & (slope <= 1)).all()):
        bent = multiplied(build, build.bend(Floor(0.0), x), 1 - slope)
        return add(build, scaled, bent)
    if bool((slope <= 1).all()):
        return _largest_of(build, x, scaled)
    raise NetworkError("with a slope above 1")


def _largest_of(build: Builder, x: Any, y: Any) -> Value:
    """Takes the larger of two values, of which one may be constant."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    both = [
        build.linear(each(lambda v: v.expand(shape)), part)
        if isinstance(part, Value)
        else part.double().expand(shape)
        for part in (x, y)
    ]
    return build.bend(Largest(), joined(build, both, -1, join=torch.stack))


def _smallest_of(build: Builder, x: Any, y: Any) -> Value:
    turned = [negated(build, part) if isinstance(part, Value) else -part for part in (x, y)]
    return negated(build, _largest_of(build, *turned))


def _abs(build: Builder, x: Value) -> Value:
    return _largest_of(build, x, negated(build, x))


def _hardsigmoid(build: Builder, x: Value) -> Value:
    return _clamp(build, add(build, divided(build, x, 6.0), 0.5), 0.0, 1.0)


def _amax(build: Builder, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
    count = len(x.shape)
    dims = [number % count for number in ([dim] if isinstance(dim, int) else dim or range(count))]
    kept = [number for number in range(count) if number not in dims]
    gathered = build.linear(each(lambda v: v.permute(*kept, *dims).flatten(len(kept))), x)
    found = build.bend(Largest(), gathered)
    shape = [1 if number in dims else x.shape[number] for number in range(count)]
    return build.linear(each(lambda v: v.reshape(shape)), found) if keepdim else found


def _max_pool2d(
    build: Builder,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> list[Any]:
    kernel, stride, padding, dilation = map(pair, (kernel, stride or kernel, padding, dilation))
    size = F.max_pool2d(
        torch.zeros(x.shape, dtype=torch.float64), kernel, stride, padding, dilation, ceil_mode
    ).shape[-2:]
    tiled = tuple(n * k for n, k in zip(size, kernel, strict=True)) == tuple(x.shape[-2:])
    is_tiled = tiled and kernel == stride and padding == (0, 0) and dilation == (1, 1)

    def windows(v: Tensor, fill: float = NEVER) -> Tensor:
        if is_tiled:
            # The same, whose adjoint is far faster.
            tiles = v.reshape(*v.shape[:-2], size[0], kernel[0], size[1], kernel[1])
            return tiles.transpose(-3, -2).flatten(-2)
        return pooled_windows(v, fill, size, kernel, stride, padding, dilation)

    spread = functools.partial(windows, fill=0.0)
    found = build.linear(folded(windows), x, spread=folded(spread))
    return [build.bend(Largest(), found), None]


def _adaptive_max_pool2d(build: Builder, x: Value, size: Any) -> list[Any]:
    (height, rows), (width, columns) = zip(x.shape[-2:], pair(size), strict=True)
    if height % rows or width % columns:
        raise NetworkError(
            f"from {height} x {width} to {rows} x {columns}, which does not divide it"
        )
    return _max_pool2d(build, x, (height // rows, width // columns))


def _smooth(function: Callable[..., Tensor], curvature: float) -> Callable[..., Value]:
    """Returns the rule of a smooth function with a bound on its second derivative."""

    def rule(build: Builder, x: Value, **settings: Any) -> Value:
        return build.bend(Smooth(functools.partial(function, **settings), curvature), x)

    return rule


BEND_RULES: dict[str, Callable[..., Any]] = {
    "_prelu_kernel": _leaky_relu,
    "abs": _abs,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "amax": _amax,
    "clamp": _clamp,
    "clamp_max": lambda build, x, high: _clamp(build, x, None, high),
    "clamp_min": _clamp,
    "gelu": _smooth(F.gelu, 0.8),
    "hardsigmoid": _hardsigmoid,
    "hardtanh": lambda build, x, low=-1.0, high=1.0: _clamp(build, x, low, high),
    "leaky_relu": _leaky_relu,
    "max_pool2d_with_indices": _max_pool2d,
    "maximum": _largest_of,
    "minimum": _smallest_of,
    "relu": lambda build, x: _clamp(build, x, 0.0),
    "sigmoid": _smooth(torch.sigmoid, 0.0963),
    "silu": _smooth(F.silu, 0.5),
    "tanh": _smooth(torch.tanh, 0.77),
    "threshold": _threshold,
}
"""By the operator's name."""
