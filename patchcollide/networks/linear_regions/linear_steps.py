"""Linear and affine functions of a straight line's points, and what they do to the points' order.

Functions go by the names of PyTorch's operators (``torch.ops.aten``). What is linear is applied to
values and slopes alike; what is affine has a rule of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.piecewise import Line
from patchcollide.shapes import Tensor

Order: TypeAlias = Callable[..., bool]
"""Whether a result is in order, by the line that goes in and the function's other arguments."""


def _as_before(line: Line, /, *_: Any, **__: Any) -> bool:
    return line.in_order


def _lost(line: Line, /, *_: Any, **__: Any) -> bool:
    return line.bounds.points == 1


def _behind(dims: int) -> Order:
    """Of what only touches the last dimensions, when there are others before them."""
    return lambda line, *_, **__: line.bounds.points == 1 or (line.leads and line.value.ndim > dims)


def _along(*places: int, default: Any = None) -> Order:
    """Of what touches the dimensions that some arguments name."""

    def keeps(line: Line, /, *args: Any, **_: Any) -> bool:
        dims = [args[place] if place < len(args) else default for place in places]
        touched = [d for dim in dims for d in (dim if isinstance(dim, list) else [dim])]
        named = touched and None not in touched
        clear = named and all(dim % max(line.value.ndim, 1) for dim in touched)
        return line.bounds.points == 1 or bool(line.leads and clear)

    return keeps


def _permuted(line: Line, dims: Sequence[int], /) -> bool:
    first = dims[0] % len(dims) if dims else 0
    return line.bounds.points == 1 or (line.leads and first == 0)


def _expanded(line: Line, size: Sequence[int], /, **_: Any) -> bool:
    same = len(size) == line.value.ndim and size[0] in (-1, line.value.shape[0])
    return line.bounds.points == 1 or (line.leads and same)


def _repeated(line: Line, repeats: Sequence[int], /) -> bool:
    same = len(repeats) == line.value.ndim and repeats[0] == 1
    return line.bounds.points == 1 or (line.leads and same)


def _padded(line: Line, pad: Sequence[int], /, *_: Any) -> bool:
    return line.bounds.points == 1 or (line.leads and len(pad) // 2 < line.value.ndim)


VIEWS: dict[str, Order] = {
    "alias": _as_before,
    "detach": _as_before,
    "diagonal": _lost,
    "expand": _expanded,
    "permute": _permuted,
    "select": _along(0),
    "slice": _along(0, default=0),
    "split": _along(1, default=0),
    "split_with_sizes": _along(1, default=0),
    "squeeze": _as_before,
    "t": _lost,
    "transpose": _along(0, 1),
    "unbind": _along(0, default=0),
    "unfold": _along(0),
    "unsqueeze": _as_before,
    "view": _as_before,
    "view_as_complex": _as_before,
    "view_as_real": _as_before,
}
"""What shows the same memory otherwise."""

COPIES: dict[str, Order] = {
    "_adaptive_avg_pool2d": _behind(2),
    "_adaptive_avg_pool3d": _behind(3),
    "_conj": _as_before,
    "_conj_physical": _as_before,
    "_fft_c2c": _along(0),
    "_fft_c2r": _along(0),
    "_fft_r2c": _along(0),
    "_reshape_alias": _as_before,
    "_unsafe_view": _as_before,
    "_upsample_bicubic2d_aa": _behind(2),
    "_upsample_bilinear2d_aa": _behind(2),
    "_upsample_nearest_exact1d": _behind(1),
    "_upsample_nearest_exact2d": _behind(2),
    "_upsample_nearest_exact3d": _behind(3),
    "avg_pool2d": _behind(2),
    "avg_pool3d": _behind(3),
    "channel_shuffle": _behind(1),
    "clone": _as_before,
    "col2im": _behind(2),
    "cumsum": _along(0),
    "diag_embed": _lost,
    "flip": _along(0),
    "gather": _lost,
    "grid_sampler_2d": _behind(2),
    "grid_sampler_3d": _behind(3),
    "im2col": _behind(3),
    "index": _lost,
    "index_select": _along(0),
    "lift_fresh": _as_before,
    "masked_select": _lost,
    "mean": _along(0),
    "native_channel_shuffle": _behind(1),
    "neg": _as_before,
    "pixel_shuffle": _behind(3),
    "pixel_unshuffle": _behind(3),
    "reflection_pad1d": _behind(1),
    "reflection_pad2d": _behind(2),
    "reflection_pad3d": _behind(3),
    "repeat": _repeated,
    "replication_pad1d": _behind(1),
    "replication_pad2d": _behind(2),
    "replication_pad3d": _behind(3),
    "roll": _along(1),
    "sum": _along(0),
    "trace": _lost,
    "tril": _behind(2),
    "triu": _behind(2),
    "upsample_bicubic2d": _behind(2),
    "upsample_bilinear2d": _behind(2),
    "upsample_linear1d": _behind(1),
    "upsample_nearest1d": _behind(1),
    "upsample_nearest2d": _behind(2),
    "upsample_nearest3d": _behind(3),
    "upsample_trilinear3d": _behind(3),
}
"""What is linear in its first argument, the others being constant."""


def _each(lines: Sequence[Line], value: Tensor, _: tuple[Any, ...]) -> bool:
    return all(line.ordered_in(value.shape) for line in lines)


def _side_by_side(lines: Sequence[Line], value: Tensor, args: tuple[Any, ...]) -> bool:
    clear = (args[1] if len(args) > 1 else 0) % value.ndim != 0
    return all(line.bounds.points == 1 or (line.leads and clear) for line in lines)


def _around(lines: Sequence[Line], _: Tensor, args: tuple[Any, ...]) -> bool:
    return _padded(lines[0], args[1])


def _alone(lines: Sequence[Line], *_: Any) -> bool:
    return lines[0].bounds.points == 1


_AFFINE: dict[str, tuple[tuple[int, ...], Callable[..., bool]]] = {
    "add": ((0, 1), _each),
    "cat": ((0,), _side_by_side),
    "constant_pad_nd": ((0, 2), _around),
    "copy": ((0, 1), _each),
    "fill": ((0, 1), _each),
    "index_put": ((0, 2), _alone),
    "lerp": ((0, 1), _each),
    "masked_fill": ((0, 2), _each),
    "rsub": ((0, 1), _each),
    "select_scatter": ((0, 1), _alone),
    "slice_scatter": ((0, 1), _alone),
    "stack": ((0,), _side_by_side),
    "sub": ((0, 1), _each),
    "where": ((1, 2), _each),
    "zero": ((0,), _each),
}
"""Where a function's arguments are that it is linear in together, and the result's order."""

_PRODUCTS: dict[str, Callable[[Line, bool, Tensor], bool]] = {
    "bmm": lambda line, *_: line.leads,
    "dot": lambda *_: False,
    "mm": lambda line, is_first, _: is_first and line.leads,
    "mul": lambda line, _, value: line.ordered_in(value.shape),
    "mv": lambda line, is_first, _: is_first and line.leads,
}
"""Linear in each of two arguments; the result's order."""

_SUMS_WITH_PRODUCTS = {"addmm": "mm", "addmv": "mv", "baddbmm": "bmm"}

FACTORIES = {"empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros"}
FACTORIES |= {"ones_like", "zeros_like"}
"""What takes only shape and type from its first argument."""


def linear_step(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Line | list[Line] | None:
    """Applies a linear or affine function.

    Args:
        name: Its operator's.
        function: Itself.
        args: With a :class:`Line` wherever values depend on the input.
        kwargs: Likewise.

    Returns:
        The result, or results; None if the function is none of these, or is not linear in all that
        depends on the input.
    """
    lines = list(lines_in([*args, *kwargs.values()]))
    first: Any = args[0]
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
        return _linear(function, args, kwargs, order) if lines == [first] else None
    if name in _AFFINE:
        return _affine(function, args, kwargs, *_AFFINE[name])
    if name == "div" and lines == [first] and not kwargs.get("rounding_mode"):
        return _linear(function, args, {}, _as_before)
    if name in _PRODUCTS and len(lines) == 1:
        value = function(*(_part(arg, "value") for arg in args))
        slope, order = _slope_of_product(name, *args)
        return lines[0].to(value, slope, order(value))
    if name in _SUMS_WITH_PRODUCTS and len(list(lines_in(args[1:3]))) < 2:
        return _sum_with_product(name, function, *args, **kwargs)
    if name == "convolution" and lines == [first]:
        value = function(first.value, *args[1:])
        slope = function(first.slope, args[1], None, *args[3:])
        return lines[0].to(value, slope, first.leads and first.value.ndim > 2)
    if name in _BATCH_NORMS and lines == [first]:
        return _batch_norm(*args)
    return None


def lines_in(arguments: Any) -> Iterator[Line]:
    """Yields the lines among arguments, also those in lists."""
    for argument in arguments:
        if isinstance(argument, list | tuple):
            yield from lines_in(argument)
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
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], order: Order
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
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    places: tuple[int, ...],
    order: Callable[..., bool],
) -> Line | None:
    linear = [arg for place, arg in enumerate(args) if place in places]
    lines = list(lines_in(linear))
    if len(lines) != len(list(lines_in([*args, *kwargs.values()]))):
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
        lambda value: line.bounds.points == 1 or bool(_PRODUCTS[name](line, is_first, value)),
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
    slope, kept = torch.zeros_like(value), True
    if isinstance(first, Line) or isinstance(second, Line):
        slope, order = _slope_of_product(_SUMS_WITH_PRODUCTS[name], first, second)
        slope, kept = slope if alpha == 1 else alpha * slope, order(value)
    if isinstance(added, Line):
        slope = torch.add(slope, added.slope, alpha=beta)
        kept = kept and added.ordered_in(value.shape)
    return next(lines_in((added, first, second))).to(value, slope, kept)


_BATCH_NORMS = {"cudnn_batch_norm", "miopen_batch_norm", "native_batch_norm"}


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
