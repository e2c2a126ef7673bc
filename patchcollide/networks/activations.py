"""Where an activation function is blind: the inputs it maps to one constant, or nearly so."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.curves import Curve, curve_of
from patchcollide.shapes import Bool, Float, Tensor

TOLERANCES = (0.001, 0.01, 0.1)
"""At which is told how many units of a smooth activation are blind."""

_ENOUGH = 0.1


@dataclass(frozen=True)
class BlindRegions:
    """Where an activation is constant: at and below ``low``, and at and above ``high``.

    With a tolerance, where it stays that near to what it tends to; the regions alone then do not
    say which inputs are as good as another, but :meth:`intervals` does.

    Attributes:
        low: The upper end of the lower blind region; None if there is none.
        high: The lower end of the upper blind region; None if there is none.
        tolerance: How far values may differ and still count as equal, in units of the activation's
            output.
        curve: The activation; None for a tolerance of 0, which needs no more than the regions.
        response: What the activation makes of its inputs, never in place; None for one that is the
            identity between its blind regions. Regions are compared without it.
    """

    low: float | None
    high: float | None
    tolerance: float = 0.0
    curve: Curve | None = None
    response: Callable[[Tensor], Tensor] | None = field(default=None, compare=False, repr=False)

    def respond(self, pre_activation: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Returns the features: what the activation makes of its inputs, of any shape."""
        if self.response is not None:
            return self.response(pre_activation)
        if self.low is None and self.high is None:
            return pre_activation
        return pre_activation.clamp(self.low, self.high)

    @property
    def floor(self) -> float:
        """The feature of a unit that says nothing.

        It is the constant that the activation tends to on its lower side, else on its upper one,
        else its value at zero: 0 for a ReLU, -1 for tanh, 0 for LeakyReLU.
        """
        if isinstance(self.response, Curve):
            for limit in self.response.limits:
                if math.isfinite(limit):
                    return limit
        ends = (end for end in (self.low, self.high) if end is not None and math.isfinite(end))
        silent = torch.tensor([next(ends, 0.0)], dtype=torch.float64)
        return float(self.respond(silent)[0])

    def masks(
        self, pre_activation: Float[Tensor, "*shape"]
    ) -> tuple[Bool[Tensor, "*shape"], Bool[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
        """Splits units into those that must be matched and those that only have to stay blind.

        Args:
            pre_activation: Inputs of the activation, of any shape.

        Returns:
            Active units, and those whose interval has no lower end, and no upper one. The three
            cover every unit once, but for those with neither end, which are in none: a tolerance
            above the whole range of an activation leaves them free. Without a tolerance the latter
            two are the units in the lower and in the upper blind region; a value on a boundary is
            blind, NaN is active.
        """
        if self.curve is not None:
            bottomless, topless = self.curve.endless(pre_activation, self.tolerance)
            return ~(bottomless | topless), bottomless & ~topless, topless & ~bottomless
        nowhere = torch.zeros_like(pre_activation, dtype=torch.bool)
        low = nowhere if self.low is None else pre_activation <= self.low
        high = nowhere if self.high is None else pre_activation >= self.high
        # Both hold only where the regions meet (low == high): the activation is constant there.
        high = high & ~low
        return ~(low | high), low, high

    def intervals(
        self, pre_activation: Float[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Returns the largest interval around each input that the activation takes for the same.

        Within it, the activation differs by at most the tolerance from its value at the input.

        Args:
            pre_activation: Inputs of the activation, of any shape.

        Returns:
            The lower and the upper ends, which belong to the intervals, or are infinite. Without a
            tolerance, both are the input itself outside the blind regions.
        """
        if self.curve is not None:
            return self.curve.intervals(pre_activation, self.tolerance)
        lower, upper = pre_activation.clone(), pre_activation.clone()
        _, low, high = self.masks(pre_activation)
        if self.low is not None:
            lower, upper = lower.masked_fill(low, -math.inf), upper.masked_fill(low, self.low)
        if self.high is not None:
            lower, upper = lower.masked_fill(high, self.high), upper.masked_fill(high, math.inf)
        return lower, upper


def blind_regions(module: nn.Module, tolerance: float = 0.0) -> BlindRegions | None:
    """Returns where an activation module is constant, to a tolerance.

    Known are the modules of :mod:`patchcollide.networks.curves`.

    Args:
        module: Any module.
        tolerance: How far values may differ and still count as equal, in units of its output. A
            module that jumps is only known exactly: it has the same regions at any tolerance.

    Returns:
        The blind regions. Both are None for activations that tend to no constant, such as
        LeakyReLU, whose intervals are short at any tolerance. None in place of regions for modules
        that are not known, and, without a tolerance, for those that are nowhere exactly constant,
        such as GELU.

    Raises:
        NetworkError: If the tolerance is negative or not finite.
    """
    if not 0 <= tolerance < math.inf:
        raise NetworkError(
            f"The tolerance of an activation (network.tolerance) should be 0 or a positive number, "
            f"but is {tolerance}."
        )
    if type(module) is nn.Threshold and module.value != module.threshold:
        return BlindRegions(float(module.threshold), None, response=response_of(module))
    curve = curve_of(module)
    if curve is None:
        return None
    if tolerance > 0:
        low, high = (curve.half_line(tolerance, sign) for sign in (-1, 1))
        return BlindRegions(low, high, tolerance, curve, curve)
    return None if curve.flat == (None, None) else BlindRegions(*curve.flat, response=curve)


def blind_shares(module: nn.Module, z: Float[Tensor, "*shape"]) -> dict[float, float]:
    """Returns which share of units is blind at each of :data:`TOLERANCES`.

    Args:
        module: An activation of :mod:`patchcollide.networks.curves`.
        z: What goes into it.
    """
    shares = {}
    for tolerance in TOLERANCES:
        blind = blind_regions(module, tolerance)
        if blind is not None:
            shares[tolerance] = 1 - float(blind.masks(z)[0].double().mean())
    return shares


def suggested_tolerance(shares: Mapping[float, float]) -> float:
    """Returns the least tolerance at which a tenth of the units is blind, or else the largest."""
    enough = [tolerance for tolerance, share in shares.items() if share >= _ENOUGH]
    return min(enough, default=max(TOLERANCES))


def response_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Returns what a module does to each of its inputs, which it must not change in place.

    Args:
        module: An activation, known or not, that treats all units alike.
    """
    if type(module) is nn.Threshold:
        return functools.partial(F.threshold, threshold=module.threshold, value=module.value)
    return curve_of(module) or functools.partial(activated, module)


def activated(module: nn.Module, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns what an activation module makes of its inputs, with its own gradient."""
    # Many networks apply it in place.
    found: Tensor = module(z.clone())
    return found
