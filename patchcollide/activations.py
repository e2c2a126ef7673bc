"""Where an activation function is blind: the inputs it maps to one constant."""

from dataclasses import dataclass

import torch
from torch import nn

from patchcollide.shapes import Bool, Float, Tensor


@dataclass(frozen=True)
class BlindRegions:
    """Where an activation is constant: at and below ``low``, and at and above ``high``.

    Attributes:
        low: The upper end of the lower blind region; None if there is none.
        high: The lower end of the upper blind region; None if there is none.
    """

    low: float | None
    high: float | None

    def masks(
        self, pre_activation: Float[Tensor, "*shape"]
    ) -> tuple[Bool[Tensor, "*shape"], Bool[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
        """Splits units into those that must be matched and those that only have to stay blind.

        Args:
            pre_activation: Inputs of the activation, of any shape.

        Returns:
            Active units, units in the lower blind region and units in the upper one. The three
            cover every unit once; a value on a boundary is blind, NaN is active.
        """
        nowhere = torch.zeros_like(pre_activation, dtype=torch.bool)
        low = nowhere if self.low is None else pre_activation <= self.low
        high = nowhere if self.high is None else pre_activation >= self.high
        # Both hold only where the regions meet (low == high): the activation is constant there.
        high = high & ~low
        return ~(low | high), low, high


_RELU = BlindRegions(0.0, None)
_HARD_SIGMOID = BlindRegions(-3.0, 3.0)
_HARD_SWISH = BlindRegions(-3.0, None)

# timm's own classes by name, because only patchcollide.networks.efficientnet_lite0 imports timm.
_TIMM_MODULES = ("timm.layers.activations", "timm.layers.activations_me")
_TIMM_CLASSES = {
    "HardSigmoid": _HARD_SIGMOID,
    "HardSigmoidMe": _HARD_SIGMOID,
    "HardSwish": _HARD_SWISH,
    "HardSwishMe": _HARD_SWISH,
}


def blind_regions(module: nn.Module) -> BlindRegions | None:
    """Returns where an activation module is exactly constant.

    Known are ReLU, ReLU6, Hardtanh, Threshold, Hardsigmoid and Hardswish, and timm's versions of
    the last two. Subclasses are not taken for their base: their ``forward`` may differ.

    Args:
        module: Any module.

    Returns:
        The blind regions; None for modules that have none or are not known, such as GELU, whose
        output only comes close to a constant.
    """
    kind = type(module)
    if kind is nn.ReLU:
        return _RELU
    if kind is nn.ReLU6 or kind is nn.Hardtanh:
        return _hardtanh_regions(module)
    if kind is nn.Threshold:
        return BlindRegions(float(module.threshold), None)  # type: ignore[arg-type]
    if kind is nn.Hardsigmoid:
        return _HARD_SIGMOID
    if kind is nn.Hardswish:
        return _HARD_SWISH
    if kind.__module__ in _TIMM_MODULES:
        return _TIMM_CLASSES.get(kind.__name__)
    return None


def _hardtanh_regions(module: nn.Module) -> BlindRegions:
    return BlindRegions(float(module.min_val), float(module.max_val))  # type: ignore[arg-type]
