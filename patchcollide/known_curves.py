"""The curves of PyTorch's and timm's activation modules."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from patchcollide.curves import Curve

# Where the derivative is zero: the only minimum of each.
_GELU_TURN = -0.7517915246935646
_GELU_TANH_TURN = -0.7524614220710163
_SWISH_TURN = -1.2784645427610741
_MISH_TURN = -1.1924312145154954
_SELU_LIMIT = -1.7580993408473766
_QUICK_GELU_FACTOR = 1.702
# Above it PyTorch's softplus is linear: a jump, too small to matter from here on.
_SMOOTH_SOFTPLUS_THRESHOLD = 20.0


def curve_of(module: nn.Module) -> Curve | None:
    """Returns the curve of an activation module.

    Subclasses are not taken for their base: their ``forward`` may differ.

    Args:
        module: Any module.

    Returns:
        Its curve in evaluation mode; None for modules that are not known, jump (a threshold that
        puts another value than itself, a hard shrinkage) or differ between channels (PReLU with
        more than one parameter).
    """
    kind = type(module)
    if kind.__module__ in _TIMM_MODULES:
        return _TIMM_CURVES.get(kind.__name__)
    if kind in _CURVES:
        return _CURVES[kind]
    return _RULES[kind](module) if kind in _RULES else None


def _clamp(low: float, high: float) -> Curve:
    flat = tuple(None if math.isinf(bound) else bound for bound in (low, high))
    return Curve("clamp", (low, high), limits=(low, high), flat=(flat[0], flat[1]))


def _leaky_relu(slope: float) -> Curve:
    limit = 0.0 if slope == 0 else -math.copysign(math.inf, slope)
    return Curve("leaky_relu", (slope,), turns=(0.0,), limits=(limit, math.inf))


def _elu(name: str, alpha: float) -> Curve | None:
    return Curve(name, (alpha,), limits=(-alpha, math.inf)) if alpha > 0 else None


def _swish(factor: float) -> Curve:
    return Curve("swish", (factor,), (_SWISH_TURN / factor,), (0.0, math.inf))


# The attributes of these modules have types of their own only at run time.
def _hardtanh(module: Any) -> Curve:
    return _clamp(float(module.min_val), float(module.max_val))


def _threshold(module: Any) -> Curve | None:
    return _clamp(float(module.threshold), math.inf) if module.value == module.threshold else None


def _prelu(module: Any) -> Curve | None:
    return _leaky_relu(float(module.weight)) if module.num_parameters == 1 else None


def _softplus(module: Any) -> Curve | None:
    smooth = module.beta > 0 and module.threshold >= _SMOOTH_SOFTPLUS_THRESHOLD
    return Curve("softplus", (float(module.beta),), limits=(0.0, math.inf)) if smooth else None


_GELU = Curve("gelu", (), (_GELU_TURN,), (0.0, math.inf))
_GELU_TANH = Curve("gelu_tanh", (), (_GELU_TANH_TURN,), (0.0, math.inf))
_HARD_SIGMOID = Curve("hard_sigmoid", limits=(0.0, 1.0), flat=(-3.0, 3.0))
_HARD_SWISH = Curve("hard_swish", (), (-1.5,), (0.0, math.inf), flat=(-3.0, None))
_MISH = Curve("mish", (), (_MISH_TURN,), (0.0, math.inf))
_SIGMOID = Curve("sigmoid", limits=(0.0, 1.0))
_TANH = Curve("tanh", limits=(-1.0, 1.0))

_CURVES: dict[type[nn.Module], Curve] = {
    nn.Hardsigmoid: _HARD_SIGMOID,
    nn.Hardswish: _HARD_SWISH,
    nn.LogSigmoid: Curve("log_sigmoid", limits=(-math.inf, 0.0)),
    nn.Mish: _MISH,
    nn.ReLU: _clamp(0.0, math.inf),
    nn.SELU: Curve("selu", limits=(_SELU_LIMIT, math.inf)),
    nn.SiLU: _swish(1.0),
    nn.Sigmoid: _SIGMOID,
    nn.Softsign: Curve("softsign", limits=(-1.0, 1.0)),
    nn.Tanh: _TANH,
    nn.Tanhshrink: Curve("tanhshrink"),
}

_RULES: dict[type[nn.Module], Callable[..., Curve | None]] = {
    nn.CELU: lambda module: _elu("celu", float(module.alpha)),
    nn.ELU: lambda module: _elu("elu", float(module.alpha)),
    nn.GELU: lambda module: _GELU if module.approximate == "none" else _GELU_TANH,
    nn.Hardtanh: _hardtanh,
    nn.LeakyReLU: lambda module: _leaky_relu(float(module.negative_slope)),
    nn.PReLU: _prelu,
    nn.RReLU: lambda module: _leaky_relu((float(module.lower) + float(module.upper)) / 2),
    nn.ReLU6: _hardtanh,
    nn.Softplus: _softplus,
    nn.Softshrink: lambda module: Curve("softshrink", (float(module.lambd),)),
    nn.Threshold: _threshold,
}

# timm's own classes by name, because only patchcollide.networks.efficientnet_lite0 imports timm.
_TIMM_MODULES = ("timm.layers.activations", "timm.layers.activations_me")
_TIMM_CURVES = {
    "GELU": _GELU,
    "GELUTanh": _GELU_TANH,
    "HardSigmoid": _HARD_SIGMOID,
    "HardSigmoidMe": _HARD_SIGMOID,
    "HardSwish": _HARD_SWISH,
    "HardSwishMe": _HARD_SWISH,
    "Mish": _MISH,
    "MishMe": _MISH,
    "QuickGELU": _swish(_QUICK_GELU_FACTOR),
    "Sigmoid": _SIGMOID,
    "Swish": _swish(1.0),
    "SwishMe": _swish(1.0),
    "Tanh": _TANH,
}
