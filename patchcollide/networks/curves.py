"""Activation functions as curves: where they turn, where they end, and how far they stay level.

A curve is a value that can be compared, pickled and copied, which a module of PyTorch is not. Those
of PyTorch's and timm's activation modules are here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.shapes import Bool, Float, Float64, Tensor

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "celu": lambda z, alpha: F.celu(z, alpha),
    "clamp": lambda z, low, high: z.clamp(low, high),
    "elu": lambda z, alpha: F.elu(z, alpha),
    "gelu": lambda z: F.gelu(z),
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "hard_sigmoid": lambda z: F.hardsigmoid(z),
    "hard_swish": lambda z: F.hardswish(z),
    "leaky_relu": lambda z, slope: F.leaky_relu(z, slope),
    "log_sigmoid": lambda z: F.logsigmoid(z),
    "mish": lambda z: F.mish(z),
    "selu": lambda z: F.selu(z),
    "sigmoid": lambda z: z.sigmoid(),
    "softplus": lambda z, beta: -F.logsigmoid(-beta * z) / beta,
    "softshrink": lambda z, size: F.softshrink(z, size),
    "softsign": lambda z: F.softsign(z),
    "swish": lambda z, factor: z * (factor * z).sigmoid(),
    "tanh": lambda z: z.tanh(),
    "tanhshrink": lambda z: F.tanhshrink(z),
}

# Where the derivative is zero: the only minimum of each.
_GELU_TURN = -0.7517915246935646

_GELU_TANH_TURN = -0.7524614220710163

_SWISH_TURN = -1.2784645427610741

_MISH_TURN = -1.1924312145154954

_SELU_LIMIT = -1.7580993408473766

_QUICK_GELU_FACTOR = 1.702

# Above it PyTorch's softplus is linear: a jump, too small to matter from here on.
_SMOOTH_SOFTPLUS_THRESHOLD = 20.0

# timm's own classes by name, because only patchcollide.networks.models.efficientnet_lite0 imports
# timm.
_TIMM_MODULES = ("timm.layers.activations", "timm.layers.activations_me")


@dataclass(frozen=True)
class Curve:
    """A continuous activation function, monotone between its turning points.

    Attributes:
        name: Which function.
        parameters: Its parameters, in order.
        turns: Its turning points, ascending; points where it goes on as before do no harm.
        limits: What it tends to at minus and at plus infinity.
        flat: At and below the first, and at and above the second, it is exactly constant; None
            where it nowhere is.
    """

    name: str
    parameters: tuple[float, ...] = ()
    turns: tuple[float, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    flat: tuple[float | None, float | None] = (None, None)

    def __call__(self, z: Tensor) -> Tensor:
        """Returns the values of the function at inputs of any shape."""
        return _FUNCTIONS[self.name](z, *self.parameters)

    def intervals(
        self, z: Float[Tensor, "*shape"], tolerance: float
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Returns the largest interval around each input where the value stays as it is there.

        Computed in float64 for inputs of any precision, by bisection on the monotone pieces: one
        rule for all curves, where closed forms would lose digits in the tails.

        Args:
            z: Inputs, of any shape.
            tolerance: How far the value may differ, above 0.

        Returns:
            The lower and the upper ends, infinite where the value stays for good. NaN around NaN.
        """
        start = _finite(z)
        level = self(start)
        # A bracket is no wider than what it is away: so many halvings leave no bit to find.
        halvings = 11 - round(math.log2(torch.finfo(z.dtype).eps))
        ends = (_end(self, start, level, tolerance, sign, halvings) for sign in (-1, 1))
        lower, upper = (end.to(z).reshape(z.shape) for end in ends)
        # Rounding to the inputs' precision keeps order; only infinite inputs have to be let in.
        return torch.minimum(lower, z), torch.maximum(upper, z)

    def endless(
        self, z: Float[Tensor, "*shape"], tolerance: float
    ) -> tuple[Bool[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
        """Says which of the :meth:`intervals` have no lower end, and which no upper one."""
        start = _finite(z)
        level = self(start)
        lower, upper = (_piece(self, start, level, tolerance, sign)[3] for sign in (-1, 1))
        return lower.reshape(z.shape), upper.reshape(z.shape)

    def half_line(self, tolerance: float, sign: int) -> float | None:
        """Returns where the half-line begins on which the value stays near its limit.

        Args:
            tolerance: How far the value may differ from the limit, above 0.
            sign: -1 for the half-line that reaches to minus infinity, 1 for plus infinity.

        Returns:
            The largest half-line's end, which is infinite if it is the whole line; None if there
            is no limit to stay near.
        """
        limit = self.limits[max(sign, 0)]
        if math.isinf(limit):
            return None
        level = torch.tensor([limit], dtype=torch.float64)
        outermost = max((0.0, *self.turns), key=lambda turn: sign * turn)
        start, step = torch.tensor([outermost], dtype=torch.float64), 1.0
        while not bool((self(start) - level).abs() <= tolerance):
            # Beyond its last turning point the curve only comes nearer.
            start, step = start + sign * step, 2 * step
        return float(_end(self, start, level, tolerance, -sign, halvings=64))


def _finite(z: Float[Tensor, "*shape"]) -> Float64[Tensor, "inputs"]:
    """Infinite inputs behave as huge ones; infinite values could not be compared."""
    most = torch.finfo(torch.float64).max
    return z.double().flatten().clamp(-most, most)


def _end(
    curve: Curve,
    start: Float64[Tensor, "inputs"],
    level: Float64[Tensor, "inputs"],
    tolerance: float,
    sign: int,
    halvings: int,
) -> Float64[Tensor, "inputs"]:
    """Returns how far in one direction a curve stays near a level that it has, or nears, at start.

    What is returned is near itself: the near end of the last bracket.
    """
    inside, outside, going, endless = _piece(curve, start, level, tolerance, sign)
    begin, step = inside, 1.0
    while bool(going.any()):
        place = begin + sign * step
        reached = _near(curve, place, level, tolerance)
        inside = torch.where(going & reached, place, inside)
        outside = torch.where(going & ~reached, place, outside)
        going &= reached
        step *= 2
    for _ in range(halvings):
        middle = (inside + outside) / 2
        reached = _near(curve, middle, level, tolerance)
        inside = torch.where(reached, middle, inside)
        outside = torch.where(reached, outside, middle)
    return torch.where(endless, sign * math.inf, inside)


def _piece(
    curve: Curve,
    start: Float64[Tensor, "inputs"],
    level: Float64[Tensor, "inputs"],
    tolerance: float,
    sign: int,
) -> tuple[
    Float64[Tensor, "inputs"],
    Float64[Tensor, "inputs"],
    Bool[Tensor, "inputs"],
    Bool[Tensor, "inputs"],
]:
    """Finds the monotone piece in which a curve leaves a level, going from start to one side.

    A piece whose two ends are near the level stays near it.

    Returns:
        The begin of the piece, its end, whether it is the last one, which has no end (its begin
        stands for it), and whether the level is not left there either.
    """
    inside, outside = start.clone(), start.clone()
    going = torch.ones_like(start, dtype=torch.bool)
    for turn in sorted(curve.turns, reverse=sign < 0):
        place = torch.full_like(start, turn)
        ahead = going & (sign * (place - start) > 0)
        reached = _near(curve, place, level, tolerance)
        inside = torch.where(ahead & reached, place, inside)
        outside = torch.where(ahead, place, outside)
        going &= ~ahead | reached
    endless = going & ((curve.limits[max(sign, 0)] - level).abs() <= tolerance)
    return inside, outside, going & ~endless, endless


def _near(curve: Curve, place: Tensor, level: Tensor, tolerance: float) -> Tensor:
    return (curve(place) - level).abs() <= tolerance


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
