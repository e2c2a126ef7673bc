"""A straight line through a network, in place of a batch of images.

A :class:`Ray` goes through any module that PyTorch can run. What the module does to it comes down
to PyTorch's operators, whatever function, method or attribute it was asked for by. An operator is
either one of :mod:`patchcollide.networks.linear_regions.linear_steps`, one of
:data:`patchcollide.networks.linear_regions.piecewise.BENDS`, or refused by name: nothing passes
unnoticed. Values and slopes share memory wherever the network's own tensors would, so that a
change in place reaches all views of what is changed.
"""

import functools
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.linear_steps import linear_step
from patchcollide.networks.linear_regions.lines import Bounds, Line
from patchcollide.networks.linear_regions.orders import VIEWS
from patchcollide.networks.linear_regions.piecewise import BENDS, BENDS_OF_TWO
from patchcollide.shapes import Tensor

_DECISIONS = {"_local_scalar_dense", "equal", "is_nonzero", "item"}
_ON_MEMORY = {"__set__", "data_ptr", "set_", "storage", "typed_storage", "untyped_storage"}


class Ray(Tensor):
    """Values at points of a line and their derivative along it, in place of a tensor.

    Args:
        line: What it stands for.
    """

    line: Line

    @staticmethod
    def __new__(cls, line: Line) -> "Ray":
        """Makes a tensor without memory of its own, of the same shape and layout."""
        value = line.value
        ray: Ray = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=value.device,
        )
        ray.line = line
        return ray

    def __init__(self, line: Line) -> None:
        del line

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Refuses what would go past the operators; what they do is decided below."""
        del types
        if (name := getattr(function, "__name__", "")) in _ON_MEMORY:
            raise NetworkError(f"{name} on a tensor's memory is not known")
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Applies an operator to values and slopes."""
        del types
        name, changes, num_returns = _signature(function)
        if changes:
            return _changed_in_place(name, function, args, kwargs or {})
        call = _Call(args, kwargs or {})
        if (bounds := call.bounds_of_constants(name)) is not None:
            values = call.of_values(function)
            return torch.utils._pytree.tree_map(lambda value: _constant(value, bounds), values)
        found = _applied(name, function, call)
        if isinstance(found, list):
            return [Ray(line) for line in found]
        more = num_returns - 1
        return (Ray(found), *[_ByProduct(found.value)] * more) if more else Ray(found)


@functools.cache
def _signature(function: Any) -> tuple[str, bool, int]:
    """Returns an operator's name, whether it changes an argument, and how much it returns."""
    schema = function._schema
    return schema.name.removeprefix("aten::"), schema.is_mutable, len(schema.returns)


class _ByProduct(Tensor):
    """What comes along with a result, such as indices, which jump: nothing may be made of it."""

    @staticmethod
    def __new__(cls, value: Tensor) -> "_ByProduct":
        made: _ByProduct = torch.Tensor._make_wrapper_subclass(cls, value.shape, dtype=torch.int64)
        return made

    def __init__(self, value: Tensor) -> None:
        del value

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types, kwargs
        name = function._schema.name.removeprefix("aten::")
        if name in VIEWS:
            return _ByProduct(args[0])
        raise NetworkError(f"{name} of indices is not piecewise linear")


class _Call:
    """An operator's arguments, with each ray replaced by its line.

    Attributes:
        lines: All of them, also those in lists, in order.
    """

    def __init__(self, args: Any, kwargs: Any) -> None:
        self.lines: list[Line] = []
        self.args = self._unwrapped(args)
        self.kwargs = {name: self._unwrapped(value) for name, value in kwargs.items()}

    def _unwrapped(self, argument: Any) -> Any:
        if isinstance(argument, Ray):
            self.lines.append(argument.line)
            return argument.line
        if isinstance(argument, tuple | list):
            return type(argument)([self._unwrapped(inner) for inner in argument])
        return argument

    def bounds_of_constants(self, name: str) -> Bounds | None:
        """Returns the bounds of arguments that may go through any function; see ``Bounds``."""
        # Views share memory with what may be changed in place later.
        if not self.lines or self.lines[0].bounds.may_bend or name in VIEWS:
            return None
        moves = any(bool(line.slope.any()) for line in self.lines)
        return None if moves else self.lines[0].bounds

    def of_values(self, function: Any) -> Any:
        """Applies the operator to the lines' values alone."""
        return function(*_values(self.args), **_values(self.kwargs))


def _values(arguments: Any) -> Any:
    """Returns arguments with each line replaced by its values."""
    if isinstance(arguments, dict):
        return {name: _values(argument) for name, argument in arguments.items()}
    if isinstance(arguments, tuple | list):
        return type(arguments)(_values(argument) for argument in arguments)
    return arguments.value if isinstance(arguments, Line) else arguments


def _constant(value: Any, bounds: Bounds) -> Any:
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return Ray(Line(value, torch.zeros_like(value), bounds)) if floats else value


def _applied(name: str, function: Callable[..., Any], call: _Call) -> Line | list[Line]:
    lines, args, kwargs = call.lines, call.args, call.kwargs
    if any(line.bounds is not lines[0].bounds for line in lines):
        raise NetworkError(f"{name} uses a value that was kept from another pass")
    if name in _DECISIONS:
        raise NetworkError(f"{name} lets values decide what is done next, which is not known")
    if name == "_to_copy":
        _require_no_rounding(lines[0].value.dtype, kwargs.get("dtype"))
    if name == "view" and isinstance(args[1], torch.dtype):
        raise NetworkError("a view as another type of number is not linear")
    found: Line | list[Line] | None = None
    if name in BENDS and len(lines) == 1 and lines[0] is args[0]:
        found = BENDS[name](*args, **kwargs)
    elif name in BENDS_OF_TWO:
        found = BENDS_OF_TWO[name](*args, **kwargs)
    else:
        found = linear_step(name, function, lines, args, kwargs)
    if found is None:
        known_as = name.lstrip("_").removeprefix("native_").removesuffix("_kernel")
        raise NetworkError(f"{known_as} is not piecewise linear, or not known to be")
    if name in VIEWS:
        return found
    return [*map(_laid_out, found)] if isinstance(found, list) else _laid_out(found)


def _laid_out(line: Line) -> Line:
    """Returns a line whose slopes lie in memory as its values do."""
    value, slope = line.value, line.slope
    if slope.stride() == value.stride() and slope.dtype == value.dtype:
        return line
    if not value.is_contiguous():
        value = torch.empty_like(value).copy_(value)
    slope = torch.empty_strided(
        value.shape, value.stride(), dtype=value.dtype, device=value.device
    ).copy_(slope)
    return line.to(value, slope)


def _require_no_rounding(before: torch.dtype, after: torch.dtype | None) -> None:
    if after not in (None, before, torch.promote_types(before, after or before)):
        raise NetworkError(f"a cast from {before} to {after} rounds, so it is not linear")


def _restates(
    tensor: Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> bool:
    """Says whether a tensor is told to lie as it does, but for strides of axes of length one.

    Global pooling does that where its input lies channels last.
    """
    steps = zip(size, stride, tensor.stride(), strict=False)
    return (
        tuple(size) == tuple(tensor.shape)
        and offset in (None, tensor.storage_offset())
        and all(length <= 1 or wanted == found for length, wanted, found in steps)
    )


def _changed_in_place(name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Applies an operator that changes its first argument; any views of it change too."""
    if name == "as_strided_" and _restates(*args):
        return args[0]
    if torch.Tag.inplace_view in function.tags or not name.endswith("_") or "out" in kwargs:
        raise NetworkError(f"{name} changes a tensor's shape or another tensor in place")
    changed: Any = args[0]
    call = _Call(args, kwargs)
    if call.bounds_of_constants(name) is not None:
        call.of_values(function)
        return changed
    if changed.is_complex():
        raise NetworkError(f"{name} of complex values is not known")
    if not isinstance(changed, Ray):
        raise NetworkError(
            f"{name} writes what depends on the input into a tensor that does not; make that one "
            "with new_zeros of the input"
        )
    plain = name.removesuffix("_")
    operator = getattr(torch.ops.aten, plain)
    found = _applied(plain, operator, call)
    if not isinstance(found, Line):
        raise NetworkError(f"{name} is not known")
    line = changed.line
    _require_no_rounding(found.value.dtype, line.value.dtype)
    # Of views, nobody else's order is known: one that is lost is lost to all.
    line.bounds.are_mixed |= not (line.in_order and found.ordered_in(line.value.shape))
    line.value.copy_(found.value)
    line.slope.copy_(found.slope)
    return changed


def straight_line(run: Callable[[Tensor], Any], module: nn.Module, line: Line) -> Any:
    """Sends a line through what a module, or a part of it, is run by.

    Args:
        run: Runs the module.
        module: Whose parts are named in errors. It must compute the same each time.
        line: What goes in; it is copied.

    Returns:
        What comes out: a line if it is a tensor that depends on the input.

    Raises:
        NetworkError: If an operator is not piecewise linear, or not known to be, or the module
            changes itself; says only where and which.
    """
    parts = list(module.modules())
    before = _state(parts)
    try:
        with torch.no_grad():
            # A copy: what is done in place must not reach the caller.
            value = line.value.clone()
            output = run(Ray(_laid_out(line.to(value, line.slope.clone()))))
    except (NetworkError, RuntimeError, TypeError, ValueError) as error:
        where = innermost(module, error.__traceback__)
        kind = type(module.get_submodule(where)).__name__
        reason = str(error).strip().split("\n")[0].removesuffix(".")
        raise NetworkError(f"'{where}' ({kind}): {reason}") from error
    if _state(parts) != before:
        raise NetworkError(
            f"'' ({type(module).__name__}): it changes its own parameters or buffers in a forward "
            "pass, so it is another function each time"
        )
    return output.line if isinstance(output, Ray) else output


def _state(parts: Sequence[nn.Module]) -> list[tuple[int, int]]:
    """Returns what changes when a parameter or buffer does, or is replaced."""
    # Their own tables: to go through named_parameters takes as long as a small network.
    tensors = [x for part in parts for x in (*part._parameters.values(), *part._buffers.values())]
    return [(id(x), 0 if x is None or x.is_inference() else x._version) for x in tensors]


def innermost(module: nn.Module, trace: TracebackType | None) -> str:
    """Returns the name of the innermost part of a module that was running when it failed.

    Told from the calls that were under way: hooks would cost each pass what only errors need.
    """
    names = {part: name for name, part in module.named_modules()}
    where = ""
    for frame, _ in traceback.walk_tb(trace):
        running = frame.f_locals.get("self")
        if isinstance(running, nn.Module):
            where = names.get(running, where)
    return where
