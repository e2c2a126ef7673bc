"""A straight line through a network, in place of a batch of images.

A :class:`Ray` goes through any module that PyTorch can run. What the module does to it is either
linear, one of :data:`patchcollide.piecewise.RULES`, or refused: nothing passes unnoticed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.piecewise import RULES, Bounds, Line
from patchcollide.shapes import Float64, Tensor
from patchcollide.torch_modes import proof_modes

_METADATA = {"__get__", "__len__", "dim", "ndimension", "numel", "size", "stride", "type"}
_METADATA |= {"is_contiguous", "is_floating_point"}
_LINEAR = {"__getitem__", "adaptive_avg_pool2d", "avg_pool2d", "clone", "contiguous", "detach"}
_LINEAR |= {"expand", "flatten", "interpolate", "mean", "movedim", "narrow", "neg", "permute"}
_LINEAR |= {"reshape", "select", "squeeze", "sum", "transpose", "unflatten", "unsqueeze", "view"}
_SUMS = {"__add__": 1, "__radd__": 1, "add": 1, "__sub__": -1, "sub": -1}
_PRODUCTS = {"__mul__", "mul"}
_SCALINGS = _PRODUCTS | {"__div__", "__rmul__", "__truediv__", "div", "true_divide"}
_DROPOUTS = {"alpha_dropout", "dropout", "dropout2d", "feature_alpha_dropout"}


class Ray(Tensor):
    """Values at points of a line and their derivative along it, in place of a tensor.

    Args:
        line: What it stands for.
    """

    line: Line

    @staticmethod
    def __new__(cls, line: Line) -> "Ray":
        """Makes a tensor without memory of its own, for the shape."""
        ray: Ray = torch.Tensor._make_wrapper_subclass(
            cls, line.value.shape, dtype=line.value.dtype, device=line.value.device
        )
        ray.line = line
        return ray

    def __init__(self, line: Line) -> None:
        del line

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Applies a function of PyTorch to values and slopes."""
        del types
        kwargs = dict(kwargs or {})
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        name = function.__name__
        plain = name if name.startswith("__") else name.removesuffix("_")
        in_place = kwargs.pop("inplace", False) or plain != name
        if plain in _METADATA:
            return function(*_each(args, "value"), **kwargs)
        result = _apply(function, plain, args, kwargs)
        if in_place and isinstance(args[0], Ray):
            # What holds the tensor itself sees the change.
            args[0].line = result.line
            return args[0]
        return result

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Refuses what passed by the functions known."""
        del types, args, kwargs
        raise NetworkError(f"{function} is not piecewise linear, or not known to be")


def _apply(function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ray:
    is_ray = [isinstance(arg, Ray) for arg in args] or [False]
    if name in _LINEAR and is_ray[0]:
        return _linear(function, args, kwargs)
    if name in _SUMS and not kwargs:
        return _sum(args[0], args[1], _SUMS[name])
    if name in ("__rsub__", "rsub") and not kwargs:
        return _sum(args[1], args[0], -1)
    if name in (_SCALINGS if is_ray[0] else _PRODUCTS) and not kwargs and not all(is_ray):
        return _linear(function, args, kwargs)
    if name in ("cat", "stack"):
        return _joined(function, *args, **kwargs)
    if name in _DROPOUTS and not kwargs.get("training", args[2:] != (False,)):
        return Ray(args[0].line)
    if name in RULES and is_ray == [True, *[False] * (len(args) - 1)]:
        return Ray(RULES[name](args[0].line, *args[1:], **kwargs))
    raise NetworkError(f"{name} is not piecewise linear, or not known to be")


def _each(arguments: Any, part: str) -> Any:
    """Returns arguments with each ray replaced by its values or its slopes."""
    if isinstance(arguments, tuple | list):
        return type(arguments)(_each(argument, part) for argument in arguments)
    return getattr(arguments.line, part) if isinstance(arguments, Ray) else arguments


def _linear(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ray:
    (bounds,) = {ray.line.bounds for ray in args if isinstance(ray, Ray)}
    value, slope = (function(*_each(args, part), **kwargs) for part in ("value", "slope"))
    return Ray(Line(value, slope, bounds))


def _sum(first: Any, second: Any, sign: int) -> Ray:
    bounds = (first if isinstance(first, Ray) else second).line.bounds
    value = _each((first,), "value")[0] + sign * _each((second,), "value")[0]
    slopes = [
        term.line.slope if isinstance(term, Ray) else value.new_zeros(())
        for term in (first, second)
    ]
    return Ray(Line(value, (slopes[0] + sign * slopes[1]).expand_as(value), bounds))


def _joined(function: Any, parts: Any, *args: Any, **kwargs: Any) -> Ray:
    (bounds,) = {part.line.bounds for part in parts if isinstance(part, Ray)}
    slopes = [
        part.line.slope if isinstance(part, Ray) else torch.zeros_like(part) for part in parts
    ]
    value = function(_each(list(parts), "value"), *args, **kwargs)
    return Ray(Line(value, function(slopes, *args, **kwargs), bounds))


@proof_modes()
def trace(
    module: nn.Module, value: Float64[Tensor, "points ..."], slope: Float64[Tensor, "..."]
) -> Line:
    """Sends points of a line through a network.

    Args:
        module: A network in float64, in evaluation mode, of convolutions, linear layers, batch
            norm, ReLU, ReLU6, Hardtanh, LeakyReLU, max and average pooling, reshaping, sums.
        value: The points.
        slope: The line's direction, of the shape of one point.

    Returns:
        The output, with the distances to the breakpoints around each point.

    Raises:
        NetworkError: If a part of the network is not piecewise linear, or not known to be.
    """
    bounds = Bounds(len(value), value.device)
    inside: list[str] = []
    hooks = []
    for name, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(_entering(inside, name)))
        hooks.append(part.register_forward_hook(_leaving(inside)))
    try:
        with torch.no_grad():
            output = module(Ray(Line(value, slope.expand_as(value), bounds)))
    except NetworkError as error:
        where = inside[-1] if inside else ""
        kind = type(module.get_submodule(where)).__name__
        raise NetworkError(
            f"An exact walk needs a piecewise linear network, but in '{where}' ({kind}): {error}. "
            "Networks of convolutions, linear layers, batch norm, ReLU, ReLU6, Hardtanh, "
            "LeakyReLU, max and average pooling and sums can be walked."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Ray):
        raise NetworkError(
            f"An exact walk needs a network that returns logits, but {type(module).__name__} "
            f"returned a {type(output).__name__}."
        )
    return output.line


def _entering(inside: list[str], name: str) -> Callable[..., None]:
    return lambda *_: inside.append(name)


def _leaving(inside: list[str]) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        inside.pop()

    return leave
