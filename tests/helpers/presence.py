"""What a test knows to be there, where a type says that it may be missing."""

from typing import TypeVar

Value = TypeVar("Value")


def present(value: Value | None) -> Value:
    """Returns a value that is there."""
    assert value is not None
    return value
