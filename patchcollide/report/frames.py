"""Results as rows of pandas, which comes with the extra ``frames``.

This module owns pandas.
"""

from collections.abc import Mapping
from typing import Any

from patchcollide.errors import MissingLibraryError
from patchcollide.evaluation.summary import Summary

__all__ = ["frame_of", "row_of"]


def row_of(summary: Summary) -> dict[str, Any]:
    """Returns a run's figures as one row: what is a number, a text or unknown, by dotted names.

    Lists, such as figures of each vertex, are left out: ``summary.json`` has them.
    """
    return dict(_flat(summary, ""))


def _flat(values: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}.")
        elif not isinstance(value, list | tuple):
            found.append((name, value))
    return found


def frame_of(summary: Summary) -> Any:
    """Returns :func:`row_of` as a ``pandas.DataFrame`` of one row; several are joined by concat.

    Raises:
        MissingLibraryError: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingLibraryError(
            "Rows of figures need pandas, which is not installed. Run "
            "`pip install 'patchcollide[frames]'`."
        ) from error
    return pd.DataFrame([row_of(summary)])
