"""What linear and affine functions do to the order of a straight line's points.

Functions go by the names of PyTorch's operators (``torch.ops.aten``). A result is in order
where the values of a point, read row by row, still follow those of the point before.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from patchcollide.networks.linear_regions.lines import Line
from patchcollide.shapes import Tensor

Order: TypeAlias = Callable[..., bool]
"""Whether a result is in order, by the line that goes in and the function's other arguments."""


def as_before(line: Line, /, *_: Any, **__: Any) -> bool:
    """Says that what touches each value by itself keeps the order there was."""
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
    "alias": as_before,
    "detach": as_before,
    "diagonal": _lost,
    "expand": _expanded,
    "permute": _permuted,
    "select": _along(0),
    "slice": _along(0, default=0),
    "split": _along(1, default=0),
    "split_with_sizes": _along(1, default=0),
    "squeeze": as_before,
    "t": _lost,
    "transpose": _along(0, 1),
    "unbind": _along(0, default=0),
    "unfold": _along(0),
    "unsqueeze": as_before,
    "view": as_before,
    "view_as_complex": as_before,
    "view_as_real": as_before,
}
"""What shows the same memory otherwise."""

COPIES: dict[str, Order] = {
    "_adaptive_avg_pool2d": _behind(2),
    "_adaptive_avg_pool3d": _behind(3),
    "_conj": as_before,
    "_conj_physical": as_before,
    "_fft_c2c": _along(0),
    "_fft_c2r": _along(0),
    "_fft_r2c": _along(0),
    "_reshape_alias": as_before,
    "_unsafe_view": as_before,
    "_upsample_bicubic2d_aa": _behind(2),
    "_upsample_bilinear2d_aa": _behind(2),
    "_upsample_nearest_exact1d": _behind(1),
    "_upsample_nearest_exact2d": _behind(2),
    "_upsample_nearest_exact3d": _behind(3),
    "avg_pool2d": _behind(2),
    "avg_pool3d": _behind(3),
    "channel_shuffle": _behind(1),
    "clone": as_before,
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
    "lift_fresh": as_before,
    "masked_select": _lost,
    "mean": _along(0),
    "native_channel_shuffle": _behind(1),
    "neg": as_before,
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


AFFINE: dict[str, tuple[tuple[int, ...], Callable[..., bool]]] = {
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

PRODUCTS: dict[str, Callable[[Line, bool, Tensor], bool]] = {
    "bmm": lambda line, *_: line.leads,
    "dot": lambda *_: False,
    "mm": lambda line, is_first, _: is_first and line.leads,
    "mul": lambda line, _, value: line.ordered_in(value.shape),
    "mv": lambda line, is_first, _: is_first and line.leads,
}
"""Linear in each of two arguments; the result's order."""
