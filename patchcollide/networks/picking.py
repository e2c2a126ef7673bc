"""Which of the things that a module returns are its logits."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

from patchcollide.errors import NetworkError
from patchcollide.shapes import Float, Tensor

Pick: TypeAlias = str | int | Callable[[Any], Any] | None
"""The name or number of the logits among what a module returns, or a function that takes them out;
None for what :func:`picked` makes of it."""

_USUAL = "logits"


def picked(values: Any, batch_size: int, name: str, pick: Pick = None) -> Any:
    """Returns the logits among what a module returned; a tensor as it is.

    Args:
        values: What it returned. Of a dictionary, a tuple, or an object with attributes, those are
            taken that are called ``logits``, or else the only matrix with a row for each image.
        batch_size: Of the images.
        name: Of the network, for errors.
        pick: What to take instead.

    Raises:
        NetworkError: If there is nothing that was asked for, or it is not clear which is meant.
    """
    if callable(pick):
        return pick(values)
    if isinstance(values, Tensor) and pick in (None, ""):
        return values
    parts = _parts(values)
    if pick in (None, ""):
        found = [parts[_USUAL]] if _USUAL in parts else _matrices(parts, batch_size)
    else:
        numbered = {str(number): value for number, value in enumerate(parts.values())}
        found = [value for key, value in (numbered | parts).items() if key == str(pick)]
    if len(found) == 1:
        return found[0]
    if not parts:
        return values
    asked = f"nothing called '{pick}'" if pick not in (None, "") else f"{len(found)} that may be"
    raise NetworkError(
        f"{name} should return logits of shape ({batch_size}, classes), but returns "
        f"{type(values).__name__} of {_described(parts)}, and among these {asked} it. Say which: "
        "--set network.output=NAME, or its number, or in Python output=, which may be a function."
    )


def _parts(values: Any) -> dict[str, Any]:
    """Returns what a container holds, by name or number; nothing of what is none."""
    if isinstance(values, Mapping):
        return {str(key): value for key, value in values.items()}
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return dict(zip(values._fields, values, strict=True))
    if isinstance(values, tuple | list):
        return {str(number): value for number, value in enumerate(values)}
    if is_dataclass(values):
        return {field.name: getattr(values, field.name) for field in fields(values)}
    return {}


def _matrices(parts: dict[str, Any], batch_size: int) -> list[Float[Tensor, "batch classes"]]:
    return [
        value
        for value in parts.values()
        if isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim == 2
        and len(value) == batch_size
    ]


def _described(parts: dict[str, Any]) -> str:
    kinds = {
        key: str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
        for key, value in parts.items()
    }
    return ", ".join(f"{key} {kind}" for key, kind in kinds.items())
