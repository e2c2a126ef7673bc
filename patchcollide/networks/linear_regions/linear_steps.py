"""Linear and affine functions of a straight line's points.

Functions go by the names of PyTorch's operators (``torch.ops.aten``). What is linear is applied to
values and slopes alike; what is affine has a rule of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.lines import Line
from patchcollide.networks.linear_regions.orders import (
    AFFINE,
    COPIES,
    PRODUCTS,
    VIEWS,
    Order,
    as_before,
)
from patchcollide.shapes import Tensor

_BATCH_NORMS = {"cudnn_batch_norm", "miopen_batch_norm", "native_batch_norm"}

_SUMS_WITH_PRODUCTS = {"addmm": "mm", "addmv": "mv", "baddbmm": "bmm"}

FACTORIES = {"empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros"}
FACTORIES |= {"ones_like", "zeros_like"}
"""What takes only shape and type from its first argument."""


def linear_step(
    name: str, function: Callable[..., Any], lines: Sequence[Line], args: Any, kwargs: Any
) -> Line | list[Line] | None:
    """Applies a linear or affine function.

    Args:
        name: Its operator's.
        function: Itself.
        lines: Those among its arguments, in order.
        args: With a :class:`Line` wherever values depend on the input.
        kwargs: Likewise.

    Returns:
        The result, or results; None if the function is none of these, or is not linear in all that
        depends on the input.
    """
    first: Any = args[0]
    is_alone = len(lines) == 1 and lines[0] is first
    if name == "_conj":
        # PyTorch only marks a tensor as conjugate, which a wrapper of it does not show.
        function = torch.conj_physical
    if name in FACTORIES and len(lines) == 1:
        value = function(first.value, *args[1:], **kwargs)
        # What is not written yet may be anything, also NaN.
        value = torch.zeros_like(value) if "empty" in name else value
        return lines[0].to(value, torch.zeros_like(value), True)
    if name in VIEWS or name in COPIES:
        order = VIEWS.get(name) or COPIES[name]
        return _linear(function, args, kwargs, order) if is_alone else None
    if name in AFFINE:
        return _affine(function, lines, args, kwargs, *AFFINE[name])
    if name == "div" and is_alone and not kwargs.get("rounding_mode"):
        return _linear(function, args, {}, as_before)
    if name in PRODUCTS and len(lines) == 1:
        value = function(*(_part(arg, "value") for arg in args))
        slope, order = _slope_of_product(name, *args)
        return lines[0].to(value, slope, order(value))
    if name in _SUMS_WITH_PRODUCTS and not all(isinstance(arg, Line) for arg in args[1:3]):
        return _sum_with_product(name, function, *args, **kwargs)
    if name == "convolution" and is_alone:
        value = function(first.value, *args[1:])
        slope = function(first.slope, args[1], None, *args[3:])
        return lines[0].to(value, slope, first.leads and first.value.ndim > 2)
    if name in _BATCH_NORMS and is_alone:
        return _batch_norm(*args)
    return None


def _lines_in(arguments: Any) -> Iterator[Line]:
    """Yields the lines among arguments, also those in lists."""
    for argument in arguments:
        if isinstance(argument, list | tuple):
            yield from _lines_in(argument)
        elif isinstance(argument, Line):
            yield argument


def _part(argument: Any, part: str, constant: Callable[[Any], Any] = lambda value: value) -> Any:
    """Returns an argument with each line replaced by its values or its slopes.

    Args:
        argument: Of a function.
        part: ``value`` or ``slope``.
        constant: What becomes of the rest.
    """
    if isinstance(argument, list | tuple):
        return [_part(inner, part, constant) for inner in argument]
    return getattr(argument, part) if isinstance(argument, Line) else constant(argument)


def _nought(constant: Any) -> Any:
    return torch.zeros_like(constant) if isinstance(constant, Tensor) else 0


def _linear(
    function: Callable[..., Any], args: Any, kwargs: Any, order: Order
) -> Line | list[Line]:
    line: Line = args[0]
    rest = args[1:]
    value, slope = (function(part, *rest, **kwargs) for part in (line.value, line.slope))
    in_order = order(line, *rest, **kwargs)
    if isinstance(value, Tensor):
        # Broadcasting, as of a quotient, may add dimensions before the first.
        kept = in_order and (value.ndim > 0 or line.bounds.points == 1)
        return line.to(value, slope, kept)
    return [line.to(*both, in_order) for both in zip(value, slope, strict=True)]


def _affine(
    function: Callable[..., Any],
    lines: Sequence[Line],
    args: Any,
    kwargs: Any,
    places: tuple[int, ...],
    order: Callable[..., bool],
) -> Line | None:
    linear = [arg for place, arg in enumerate(args) if place in places]
    if len(list(_lines_in(linear))) != len(lines):
        return None
    value = function(*_part(args, "value"), **kwargs)
    slopes = [
        _part(arg, "slope", _nought) if place in places else arg for place, arg in enumerate(args)
    ]
    return lines[0].to(value, function(*slopes, **kwargs), order(lines, value, args))


def _slope_of_product(
    name: str, first: Any, second: Any
) -> tuple[Tensor, Callable[[Tensor], bool]]:
    """Returns the slope of a product of a line and a constant, and its order by its values."""
    is_first = isinstance(first, Line)
    line = first if is_first else second
    slope = getattr(torch, name)(_part(first, "slope"), _part(second, "slope"))
    return (
        slope,
        lambda value: line.bounds.points == 1 or bool(PRODUCTS[name](line, is_first, value)),
    )


def _sum_with_product(
    name: str,
    function: Callable[..., Any],
    added: Line | Tensor,
    first: Line | Tensor,
    second: Line | Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> Line:
    terms = [_part(term, "value") for term in (added, first, second)]
    value = function(*terms, beta=beta, alpha=alpha)
    if isinstance(first, Line) or isinstance(second, Line):
        slope, order = _slope_of_product(_SUMS_WITH_PRODUCTS[name], first, second)
        slope, kept = slope if alpha == 1 else alpha * slope, order(value)
    else:
        slope, kept = torch.zeros_like(value), True
    if isinstance(added, Line):
        slope = torch.add(slope, added.slope, alpha=beta)
        kept = kept and added.ordered_in(value.shape)
    return next(_lines_in((added, first, second))).to(value, slope, kept)


def _batch_norm(
    line: Line,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Line:
    del momentum
    if training or running_mean is None or running_var is None:
        raise NetworkError("batch_norm with the statistics of a batch is not piecewise linear")
    shape = (1, -1) + (1,) * (line.value.ndim - 2)
    scale = (running_var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - running_mean * scale
    value = torch.addcmul(shift.reshape(shape), line.value, scale.reshape(shape))
    return line.to(value, line.slope * scale.reshape(shape))
