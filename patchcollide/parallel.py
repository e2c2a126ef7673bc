"""Maps over many items: on the cores of this machine, or on a Dask cluster."""

import contextlib
import gc
import importlib
import importlib.util
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import joblib
import torch

from patchcollide.errors import ClusterError, ConfigError, MissingLibraryError

T = TypeVar("T")
Tool = TypeVar("Tool")

logger = logging.getLogger(__name__)

_PATIENCE_S = 20


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

    name: str = "local"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ("local", "dask"):
            raise ConfigError(
                f"Expected --backend local or dask, but found {self.name}. Choose one of them."
            )
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


def num_threads() -> int:
    """Returns how many threads :func:`map_in_threads` takes: one a core."""
    return int(joblib.cpu_count())


def map_in_threads(function: Callable[..., T], items: Iterable[Any]) -> Iterator[T]:
    """Yields ``function(item)`` in the order of ``items``, computed by one thread a core.

    Threads suit work that releases Python's global lock, as decoding and resizing images does.
    """
    # By joblib a few items of milliseconds take longer than they need: it looks for results every
    # ten. And within a task of a cluster each item would become a task of its own, unless told not.
    yield from _map_by_pool(function, items, num_threads())


def map_with_tools(
    function: Callable[[Tool, Any], T], items: Iterable[Any], tools: Sequence[Tool]
) -> Iterator[T]:
    """Yields ``function(tool, item)`` in the order of ``items``, by as many threads as tools.

    Torch computes with one thread in each. No tool is used by two at a time; one alone is used
    here, with all threads that torch has.
    """
    if len(tools) == 1:
        yield from (function(tools[0], item) for item in items)
        return
    free: queue.SimpleQueue[Tool] = queue.SimpleQueue()
    for tool in tools:
        free.put(tool)

    def use(item: Any) -> T:
        tool = free.get()
        try:
            return function(tool, item)
        finally:
            free.put(tool)

    with one_thread_each():
        yield from _map_by_pool(use, items, len(tools))


def _map_by_pool(
    function: Callable[[Any], T], items: Iterable[Any], num_workers: int
) -> Iterator[T]:
    """Yields results in order, of few items more than there are threads at a time."""
    with ThreadPoolExecutor(num_workers) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Where something failed, or nobody asks for more.
            for future in waiting:
                future.cancel()


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

    Raises:
        ConfigError: If no scheduler answers, or the one that does has no workers.
        ClusterError: If the scheduler is lost, or a task with its worker again and again.
    """
    if backend.name == "local":
        yield from map(function, items)
        return
    with (
        _client(backend.scheduler) as client,
        _losses_explained(backend.scheduler),
        joblib.parallel_config(backend="dask", client=client),
    ):
        work = joblib.Parallel(n_jobs=-1, return_as="generator")
        yield from work(joblib.delayed(function)(item) for item in items)


@contextlib.contextmanager
def _client(address: str | None) -> Iterator[Any]:
    """Connects to a scheduler that has workers."""
    distributed = importlib.import_module("distributed")
    # What is left of clients that failed is ended by whoever happens to collect garbage. If that is
    # the thread that a new client waits for, with a lock that both need, they wait for each other.
    gc.collect()
    try:
        client = distributed.Client(address, timeout=_PATIENCE_S, set_as_default=False)
    # An address that is none raises almost anything: ValueError, OverflowError, RuntimeError ...
    except Exception as error:
        raise _no_scheduler(address, str(error)) from error
    with client:
        if client.status != "running":
            raise _no_scheduler(address, f"the connection is {client.status}")
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError as error:
            raise ConfigError(
                f"Expected workers of the Dask scheduler at --scheduler {address}, but it has none "
                f"after {_PATIENCE_S} s. Start one with `dask worker {address}`, then run the same "
                "command again: finished work is kept."
            ) from error
        with _watched(client, address):
            yield client


def _no_scheduler(address: str | None, reason: str) -> ConfigError:
    return ConfigError(
        f"Expected a Dask scheduler at --scheduler {address}, but none answers ({reason}). "
        "Start one with `dask scheduler`, or correct the address."
    )


@contextlib.contextmanager
def _watched(client: Any, address: str | None) -> Iterator[None]:
    """Warns when the last worker is gone: others may come, so the work waits for them."""
    over = threading.Event()

    def watch() -> None:
        missed = False
        while not over.wait(_PATIENCE_S):
            missing = not client.scheduler_info().get("workers")
            if missing and not missed:
                logger.warning(
                    "The Dask scheduler at %s has lost all its workers: waiting for others. Start "
                    "one with `dask worker %s`, or stop with Ctrl-C: finished work is kept.",
                    address,
                    address,
                )
            missed = missing

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _losses_explained(address: str | None) -> Iterator[None]:
    distributed = importlib.import_module("distributed")
    try:
        yield
    except (CancelledError, distributed.CancelledError, distributed.comm.CommClosedError) as error:
        raise ClusterError(
            f"The Dask scheduler at {address} is lost ({type(error).__name__}: {error}). Look into "
            "its log, start it again, and run the same command again: finished work is kept."
        ) from error
    except distributed.scheduler.KilledWorker as error:
        raise ClusterError(
            f"Workers of the cluster at {address} died again and again over one task ({error}). "
            "Give them more memory, look into their logs, and run the same command again: finished "
            "work is kept."
        ) from error


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Has torch compute with one thread in each of the threads that begin meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
