"""Array types with shapes, from jaxtyping; checked at run time under pytest only."""

from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float, Float32, Float64, Int8, Int16, Int32, Int64, Num, UInt8
from numpy import ndarray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Bool",
    "Float",
    "Float32",
    "Float64",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Num",
    "Tensor",
    "UInt8",
    "ndarray",
]


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import, which the commands that compute nothing need not wait for.
    if name == "Tensor":
        from torch import Tensor

        return Tensor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
