"""Maps over many items on all cores."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib

T = TypeVar("T")


def map_in_threads(function: Callable[..., T], items: Iterable[Any]) -> Iterator[T]:
    """Yields ``function(item)`` in the order of ``items``, computed by one thread a core.

    Threads suit work that releases Python's global lock, as decoding and resizing images does.
    """
    work = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    results: Iterator[T] = work(joblib.delayed(function)(item) for item in items)
    return results
