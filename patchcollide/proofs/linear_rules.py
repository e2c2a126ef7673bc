"""What is affine in an image's values, operator by operator (``torch.ops.aten``).

Each rule takes a builder and the operator's arguments, with a :class:`Value` wherever they depend
on the image; what it cannot take is a NetworkError that only says why.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.orders import COPIES, VIEWS
from patchcollide.proofs.builder import Builder, Value, each, folded, is_value, refuse_values
from patchcollide.proofs.programs import Function
from patchcollide.shapes import Tensor


def same(_: Builder, x: Value, *__: Any, **kwargs: Any) -> Value:
    """Returns a value of which nothing but the layout or the type may change."""
    if kwargs.get("dtype") not in (None, torch.float64):
        raise NetworkError(f"to {kwargs['dtype']}, which rounds")
    return x


def _copied(name: str) -> Callable[..., Any]:
    """Returns the rule of what only copies numbers to other places."""

    def rule(build: Builder, x: Value, *args: Any, **kwargs: Any) -> Any:
        refuse_values(*args, *kwargs.values())
        function = getattr(torch.ops.aten, name)

        # A view takes only some orders in memory: that of images with channels last is another than
        # the one the network was traced in.
        def part(number: int) -> Function:
            return each(lambda value: function(value.contiguous(), *args, **kwargs)[number])

        found = function(torch.zeros(x.shape, dtype=torch.float64), *args, **kwargs)
        if isinstance(found, Tensor):
            run = each(lambda value: function(value.contiguous(), *args, **kwargs))
            return build.linear(run, x, spread=run)
        parts = [part(number) for number in range(len(found))]
        return [build.linear(run, x, spread=run) for run in parts]

    return rule


def _averaged(name: str) -> Callable[..., Value]:
    """Returns the rule of what adds numbers up with weights that are not negative."""

    def rule(build: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
        function = getattr(torch.ops.aten, name)
        run = each(lambda value: function(value, *args, **kwargs))
        return build.linear(run, x, spread=run, terms=math.prod(x.shape))

    return rule


def _avg_pool2d(build: Builder, x: Value, kernel: Any, *args: Any) -> Value:
    run = folded(lambda value: torch.ops.aten.avg_pool2d(value, kernel, *args))
    return build.linear(run, x, spread=run, terms=math.prod(kernel))


def negated(build: Builder, x: Value) -> Value:
    """Turns a value's sign."""
    return build.linear(torch.neg, x, spread=torch.clone)


def add(build: Builder, x: Any, y: Any, *, alpha: float = 1, sign: int = 1) -> Value:
    """Adds a multiple of the second to the first; either may be constant."""
    factor = sign * alpha
    if isinstance(x, Value) and isinstance(y, Value):
        spread = each(lambda v, w: v + abs(factor) * w)
        return build.linear(each(lambda v, w: v + factor * w), x, y, spread=spread, terms=2)
    if isinstance(x, Value):
        return build.linear(each(lambda v: v + factor * y), x, spread=_beside(y), terms=2)
    return build.linear(each(lambda v: x + factor * v), y, spread=_beside(x, abs(factor)), terms=2)


def _beside(constant: Any, factor: float = 1) -> Function:
    """Returns what multiplies values, and gives them the shape that they have with a constant."""
    nothing = 0 * torch.as_tensor(constant, dtype=torch.float64)
    return each(lambda v: factor * v + nothing)


def _rsub(build: Builder, x: Any, y: Any, alpha: float = 1) -> Value:
    return add(build, y, x, alpha=alpha, sign=-1)


def multiplied(build: Builder, x: Any, y: Any) -> Value:
    """Multiplies a value by what is constant."""
    if isinstance(x, Value):
        refuse_values(y)
        value, factor = x, y
    else:
        value, factor = y, x
    factor = torch.as_tensor(factor, dtype=torch.float64)
    size = factor.abs()
    return build.linear(each(lambda v: v * factor), value, spread=each(lambda v: v * size), terms=1)


def divided(build: Builder, x: Any, y: Any, *, rounding_mode: str | None = None) -> Value:
    """Divides a value by what is constant."""
    if not isinstance(x, Value) or is_value(y) or rounding_mode:
        raise NetworkError("of what is divided by the image's values, or rounded")
    size = torch.as_tensor(y, dtype=torch.float64).abs()
    return build.linear(each(lambda v: v / y), x, spread=each(lambda v: v / size), terms=1)


def _convolution(build: Builder, x: Any, weight: Any, bias: Any, *settings: Any) -> Value:
    refuse_values(weight, bias)
    convolve, is_transposed = torch.ops.aten.convolution, settings[3]
    terms = math.prod(weight.shape[2:]) * weight.shape[0 if is_transposed else 1]
    size = weight.abs()

    def transposed(coefficients: Tensor) -> Tensor:
        like = weight.new_empty(1).expand(len(coefficients), *x.shape[1:])
        found: Tensor = torch.ops.aten.convolution_backward(
            coefficients.flatten(0, 1), like, weight, None, *settings, [True, False, False]
        )[0]
        return found.reshape(*coefficients.shape[:2], *found.shape[1:])

    return build.linear(
        folded(lambda v: convolve(v, weight, bias, *settings)),
        x,
        spread=folded(lambda v: convolve(v, size, None, *settings)),
        terms=terms,
        transposed=transposed,
    )


def _product(build: Builder, x: Any, y: Any) -> Value:
    if not isinstance(x, Value):
        size = x.abs()
        return build.linear(lambda v: x @ v, y, spread=lambda v: size @ v, terms=x.shape[-1])
    refuse_values(y)
    return _affine(build, x, y, 0)


def _affine(build: Builder, x: Value, matrix: Tensor, offset: Any) -> Value:
    size = matrix.abs()
    return build.linear(
        lambda v: v @ matrix + offset,
        x,
        spread=lambda v: v @ size,
        terms=matrix.shape[-2] + 1,
        transposed=lambda coefficients: coefficients @ matrix.mT,
    )


def _sum_with_product(
    build: Builder, added: Any, x: Any, y: Any, *, beta: float = 1, alpha: float = 1
) -> Value:
    if (alpha, beta) == (1, 1) and isinstance(x, Value) and not is_value(added, y):
        return _affine(build, x, y, added)
    found = multiplied(build, _product(build, x, y), alpha)
    more = multiplied(build, added, beta) if is_value(added) else beta * added
    return add(build, found, more)


def _batch_norm(
    build: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> list[Any]:
    training, _, eps = rest
    if training or mean is None or variance is None:
        raise NetworkError("with the statistics of a batch")
    shape = (1, -1) + (1,) * (len(x.shape) - 2)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift = -mean * scale + (0 if bias is None else bias)
    size = (mean * scale).abs() + (0 if bias is None else bias.abs())
    scale, shift, size = (value.reshape(shape) for value in (scale, shift, size))
    found = build.linear(
        each(lambda v: v * scale + shift),
        x,
        spread=each(lambda v: v * scale.abs()),
        terms=8,
        offset_size=size.expand(x.shape),
    )
    return [found, None, None]


def _batch_norm_in_evaluation(
    build: Builder, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> list[Any]:
    return _batch_norm(build, x, weight, bias, mean, variance, False, *rest)


def joined(build: Builder, parts: Sequence[Any], dim: int = 0, *, join: Any = torch.cat) -> Value:
    """Puts values side by side, some of them constant; ``join`` may also stack them."""
    values = [part for part in parts if isinstance(part, Value)]

    def run(*found: Tensor, empty: bool = False) -> Tensor:
        rest = iter(found)
        filled = [
            next(rest)
            if isinstance(part, Value)
            else (torch.zeros_like(part) if empty else part.double())
            for part in parts
        ]
        joined: Tensor = join(filled, dim)
        return joined

    return build.linear(each(run), *values, spread=each(functools.partial(run, empty=True)))


def _pad(build: Builder, x: Value, pad: Sequence[int], value: float = 0) -> Value:
    return build.linear(
        each(lambda v: F.pad(v, pad, value=value)), x, spread=each(lambda v: F.pad(v, pad))
    )


_SAME = ("_to_copy", "alias", "clone", "detach", "lift_fresh")

_NOT_POSITIVE = {
    *("_conj", "_conj_physical", "_fft_c2c", "_fft_c2r", "_fft_r2c", "_upsample_bicubic2d_aa"),
    *("grid_sampler_2d", "grid_sampler_3d", "neg", "upsample_bicubic2d", "view_as_complex"),
    *("view_as_real", "masked_select"),
}
"""What is linear, but with weights that may be negative, or of other numbers."""

_AVERAGES = {
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_upsample_bilinear2d_aa", "avg_pool3d"),
    *("col2im", "cumsum", "mean", "sum", "trace", "upsample_bilinear2d", "upsample_linear1d"),
    "upsample_trilinear3d",
}

LINEAR_RULES: dict[str, Callable[..., Any]] = {
    **{name: _copied(name) for name in (VIEWS | COPIES).keys() - _NOT_POSITIVE - _AVERAGES},
    **{name: _averaged(name) for name in _AVERAGES},
    **dict.fromkeys(_SAME, same),
    "_native_batch_norm_legit_no_training": _batch_norm_in_evaluation,
    "add": add,
    "addmm": _sum_with_product,
    "avg_pool2d": _avg_pool2d,
    "baddbmm": _sum_with_product,
    "bmm": _product,
    "cat": joined,
    "constant_pad_nd": _pad,
    "convolution": _convolution,
    "cudnn_batch_norm": _batch_norm,
    "div": divided,
    "mm": _product,
    "mul": multiplied,
    "native_batch_norm": _batch_norm,
    "neg": negated,
    "rsub": _rsub,
    "stack": functools.partial(joined, join=torch.stack),
    "sub": functools.partial(add, sign=-1),
}
"""By the operator's name."""
