"""What kind of file one is, and in which version: every file of ours says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from patchcollide.errors import InputError

Encoded = TypedDict("Encoded", {"encoding-type": str, "encoding-version": str})
"""How every JSON file of ours begins."""


def require_encoding(
    found: Mapping[str, Any],
    path: Path,
    expected: tuple[str, str],
    error: type[InputError],
    remedy: str,
) -> None:
    """Refuses a file of another kind or version.

    Args:
        found: What the file holds.
        path: The file, for the message.
        expected: The ``encoding-type`` and ``encoding-version`` it must have.
        error: What to raise if it has others.
        remedy: What to do then.
    """
    kind, version = found.get("encoding-type"), found.get("encoding-version")
    if (kind, version) != expected:
        raise error(
            f"{path} should be '{expected[0]}' version {expected[1]}, but is '{kind}' version "
            f"{version}. {remedy}"
        )
