"""Activation functions that are called as such, each as the module that does the same.

``F.relu(x)``, ``torch.relu(x)``, ``x.relu_()`` and ``x.clamp(min=0)`` leave no module to be found;
what is known of modules, :func:`patchcollide.networks.curves.curve_of`, then holds of them too.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from patchcollide.shapes import Tensor


# Parameters are named as PyTorch names them: they may be given by name.
def _clamp(min: Any = None, max: Any = None) -> nn.Module | None:  # noqa: A002
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return None
    low, high = float(-math.inf if min is None else min), float(math.inf if max is None else max)
    if not low < high:
        return None
    return nn.ReLU() if (low, high) == (0.0, math.inf) else nn.Hardtanh(low, high)


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> nn.Module:
    del inplace
    return nn.Hardtanh(min_val, max_val)


def _threshold(threshold: float, value: float, inplace: bool = False) -> nn.Module:
    del inplace
    return nn.Threshold(threshold, value)


def _gelu(approximate: str = "none") -> nn.Module:
    return nn.GELU(approximate)


def _leaky_relu(negative_slope: float = 0.01, inplace: bool = False) -> nn.Module:
    del inplace
    return nn.LeakyReLU(negative_slope)


def _elu(alpha: float = 1.0, inplace: bool = False) -> nn.Module:
    del inplace
    return nn.ELU(alpha)


def _celu(alpha: float = 1.0, inplace: bool = False) -> nn.Module:
    del inplace
    return nn.CELU(alpha)


def _softplus(beta: float = 1.0, threshold: float = 20.0) -> nn.Module:
    return nn.Softplus(beta, threshold)


def _softshrink(lambd: float = 0.5) -> nn.Module:
    return nn.Softshrink(lambd)


def _plain(module: type[nn.Module]) -> Callable[..., nn.Module]:
    def build(inplace: bool = False) -> nn.Module:
        del inplace
        return module()

    return build


_BUILDERS: Mapping[str, Callable[..., nn.Module | None]] = {
    "celu": _celu,
    "clamp": _clamp,
    "clamp_max": lambda max: _clamp(None, max),  # noqa: A006
    "clamp_min": lambda min: _clamp(min, None),  # noqa: A006
    "clip": _clamp,
    "elu": _elu,
    "gelu": _gelu,
    "hardsigmoid": _plain(nn.Hardsigmoid),
    "hardswish": _plain(nn.Hardswish),
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "log_sigmoid": _plain(nn.LogSigmoid),
    "logsigmoid": _plain(nn.LogSigmoid),
    "mish": _plain(nn.Mish),
    "relu": _plain(nn.ReLU),
    "relu6": _plain(nn.ReLU6),
    "selu": _plain(nn.SELU),
    "sigmoid": _plain(nn.Sigmoid),
    "silu": _plain(nn.SiLU),
    "softplus": _softplus,
    "softshrink": _softshrink,
    "softsign": _plain(nn.Softsign),
    "tanh": _plain(nn.Tanh),
    "tanhshrink": _plain(nn.Tanhshrink),
    "threshold": _threshold,
    "_threshold": _threshold,
}

# Those that work in place are called so.
_NAMES = {written: name for name in _BUILDERS for written in (name, f"{name}_")}


def activation_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """Returns the module that does what a call of a function of PyTorch does.

    Args:
        function: As it was called, also a method of a tensor.
        args: What it was given; the first, or ``input``, is what it is applied to.
        kwargs: The same by name.

    Returns:
        A module that does not work in place; None if the function is no activation that is known,
        or is not applied to floating-point numbers with constants.
    """
    name = _NAMES.get(getattr(function, "__name__", ""))
    if name is None:
        return None
    value = args[0] if args else kwargs.get("input")
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    given = {key: constant for key, constant in kwargs.items() if key != "input"}
    try:
        return _BUILDERS[name](*args[1:], **given)
    except (TypeError, ValueError, AssertionError):
        return None
