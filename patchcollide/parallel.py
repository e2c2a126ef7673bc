"""Maps over many items: on the cores of this machine, or on a Dask cluster."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import joblib

from patchcollide.errors import ConfigError, MissingLibraryError

T = TypeVar("T")


@dataclass(frozen=True)
class Backend:
    """Where maps over shards run; it changes no result.

    Attributes:
        name: ``local``, in this process, or ``dask``.
        scheduler: Address of the Dask scheduler, such as ``tcp://10.0.0.1:8786``.

    Raises:
        ConfigError: If one is given without the other.
        MissingLibraryError: If Dask is not installed.
    """

    name: Literal["local", "dask"] = "local"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if (self.name == "dask") != (self.scheduler is not None):
            raise ConfigError(
                "Expected --backend dask together with --scheduler ADDRESS, but found --backend "
                f"{self.name} and --scheduler {self.scheduler}. Give both, or neither."
            )
        if self.name == "dask" and importlib.util.find_spec("distributed") is None:
            raise MissingLibraryError(
                "Dask is not installed, which --backend dask needs. Install "
                "`patchcollide[cluster]`."
            )


LOCAL = Backend()


def map_in_threads(function: Callable[..., T], items: Iterable[Any]) -> Iterator[T]:
    """Yields ``function(item)`` in the order of ``items``, computed by one thread a core.

    Threads suit work that releases Python's global lock, as decoding and resizing images does.
    """
    work = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    results: Iterator[T] = work(joblib.delayed(function)(item) for item in items)
    return results


def map_shards(
    function: Callable[..., T], items: Iterable[Any], backend: Backend = LOCAL
) -> Iterator[T]:
    """Yields ``function(item)`` in the order of ``items``, for items worth seconds each.

    On this machine they are done one after another, each with all cores inside. On a cluster each
    is one task; a worker that dies has its tasks given to others.

    Args:
        function: Of module level, or a ``functools.partial`` of one, so that it can be sent.
        items: Small: paths and numbers rather than pixels.
        backend: Where to run.
    """
    if backend.name == "local":
        yield from map(function, items)
        return
    with joblib.parallel_config(backend="dask", scheduler_host=backend.scheduler):
        work = joblib.Parallel(n_jobs=-1, return_as="generator")
        yield from work(joblib.delayed(function)(item) for item in items)
