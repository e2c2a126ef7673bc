"""Array types with shapes, from jaxtyping; checked at run time under pytest only."""

from jaxtyping import Bool, Float, Float32, Float64, Int8, Int32, Int64, Num, UInt8
from numpy import ndarray
from torch import Tensor

__all__ = [
    "Bool",
    "Float",
    "Float32",
    "Float64",
    "Int8",
    "Int32",
    "Int64",
    "Num",
    "Tensor",
    "UInt8",
    "ndarray",
]
