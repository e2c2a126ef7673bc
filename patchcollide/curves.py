"""Activation functions as curves: where they turn, where they end, and how far they stay level.

A curve is a value that can be compared, pickled and copied, which a module of PyTorch is not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

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
