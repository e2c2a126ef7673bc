"""Maps over shards on a real Dask cluster of two worker processes, one of them killed."""

import contextlib
import gc
import os
import re
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.comm.core import CommClosedError

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.errors import ClusterError, ConfigError, MissingLibraryError, StoreError
from patchcollide.images.sources import find_images
from patchcollide.parallel import (
    LOCAL,
    Backend,
    _losses_explained,
    map_in_threads,
    map_shards,
)
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.store.descriptors import fit_basis
from patchcollide.store.index_builder import build_index
from patchcollide.store.index_files import INDEX_FILE
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.helpers.archives import write_as
from tests.helpers.killing import contents

pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask's own making, in threads of its own

NOTHING = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def cluster():
    """Two workers, which come back when they are killed.

    One that is not back after so long is given up, and never started again. By default that is 15
    seconds, in which a busy machine does not start a worker.
    """
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as started,
    ):
        yield started


@pytest.fixture
def backend(cluster):
    cluster.wait_for_workers(2, timeout=300)
    return Backend("dask", cluster.scheduler_address)


@pytest.fixture
def config():
    return load_config(overrides=[*SMALL, "store.images_per_shard=4", "index.kind=flat"])


def die_once(item: int, folder: Path) -> int:
    """Kills the worker it runs in, the first time item 3 is met."""
    met = folder / "met"
    if item == 3 and not met.exists():
        met.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item * item


class DyingWorker(WorkerPlugin):
    """Kills the first worker that begins a task, as it begins."""

    name = "dying"

    def __init__(self, met: Path) -> None:
        self.met = met

    def transition(self, key: Any, start: str, finish: str, **others: object) -> None:
        if finish == "executing":
            with contextlib.suppress(FileExistsError):
                self.met.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def a_worker_killed(cluster, folder):
    with Client(cluster, set_as_default=False) as client:
        client.register_plugin(DyingWorker(folder / "killed"))
        yield
        assert (folder / "killed").exists()
        client.unregister_worker_plugin(DyingWorker.name)


def die_always(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_results_come_in_order_though_a_worker_is_killed(backend, tmp_path):
    work = partial(die_once, folder=tmp_path)
    assert list(map_shards(work, range(8), backend)) == [n * n for n in range(8)]
    assert (tmp_path / "met").exists()


def process_of(item: int) -> int:
    del item
    return os.getpid()


def processes_of_threads(item: int) -> tuple[int, list[int]]:
    return os.getpid(), list(map_in_threads(process_of, range(item, item + 6)))


def test_threads_of_a_task_are_threads_of_its_worker(backend):
    for worker, threads in map_shards(processes_of_threads, range(4), backend):
        assert threads == [worker] * 6


def test_a_store_and_its_index_have_the_same_bytes(backend, config, write_images, tmp_path):
    folder = write_images(num=14)
    here = write_store(config, folder, tmp_path / "here")
    there = write_store(config, folder, tmp_path / "there", backend=backend)
    build_index(here, config.index, 0)
    build_index(there, config.index, 0, backend)
    assert [path.name for path in sorted(here.path.iterdir())] == [
        path.name for path in sorted(there.path.iterdir())
    ]
    for path in here.path.iterdir():
        assert path.read_bytes() == (there.path / path.name).read_bytes(), path.name
    assert (there.path / INDEX_FILE).exists()


@pytest.mark.parametrize(
    ("kind", "kill"), [("tar of tars", False), ("webdataset", True), ("parquet", False)]
)
def test_a_store_of_archives_and_tables_has_the_same_bytes(
    kind, kill, backend, cluster, write_images, tmp_path, monkeypatch
):
    """Workers have another working folder, and read the source where it lies."""
    source = write_as(kind, write_images(num=14), tmp_path / "source")
    settings = load_config(overrides=[*SMALL, "store.images_per_shard=4", "index.kind=flat"])
    here = pipeline.index(settings, source, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    with a_worker_killed(cluster, tmp_path) if kill else contextlib.nullcontext():
        there = pipeline.index(
            settings, source.relative_to(tmp_path), Path("there"), backend=backend
        )
    assert contents(there) == contents(here)


def test_a_source_that_workers_do_not_see_ends_the_work(backend, config, write_images, tmp_path):
    source = write_as("tar of tars", write_images(num=14), tmp_path / "source")
    listing = find_images(source)
    source.rename(tmp_path / "elsewhere.tar")
    with pytest.raises(StoreError, match=r"can no longer be read.*on a cluster, let all machines"):
        write_store(config, listing, tmp_path / "store", backend=backend)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("components", [None, 4])
def test_a_search_finds_the_same(
    kill, components, backend, cluster, config, write_images, tmp_path, rng
):
    store = write_store(config, write_images(num=14), tmp_path / "store")
    basis = None
    if components:
        basis = fit_basis(store, num_components=components, num_patches=500, seed=0)
    queries = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    expected = ExhaustiveSearcher(store, basis).search(queries, 5, NOTHING)
    with a_worker_killed(cluster, tmp_path) if kill else contextlib.nullcontext():
        found = ExhaustiveSearcher(store, basis, backend=backend).search(queries, 5, NOTHING)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
    assert found.proven.all()


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("patchcollide.parallel._PATIENCE_S", 1)
    nowhere = Backend("dask", "tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"scheduler at --scheduler tcp://127.0.0.1:9, but none"):
        list(map_shards(abs, [1], nowhere))


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9", "nonsense", "tcp://", "tcp://127.0.0.1:99999", "tls://127.0.0.1:9"],
)
def test_an_address_that_is_none_is_named(address, monkeypatch):
    monkeypatch.setattr("patchcollide.parallel._PATIENCE_S", 0.5)
    told = f"scheduler at --scheduler {re.escape(address)}, but none answers"
    with pytest.raises(ConfigError, match=told):
        list(map_shards(abs, [1], Backend("dask", address)))


@pytest.fixture
def own_cluster(monkeypatch):
    """A cluster in this process, to be broken, whose workers are not waited for long."""
    monkeypatch.setattr("patchcollide.parallel._PATIENCE_S", 0.5)
    gc.collect()  # As the program does before it makes a client, which a cluster makes too.
    with LocalCluster(
        n_workers=0, threads_per_worker=2, processes=False, dashboard_address=None
    ) as started:
        yield started


def slowly(item: int) -> int:
    time.sleep(0.2)
    return item


def test_a_scheduler_without_workers_is_named(own_cluster):
    address = own_cluster.scheduler_address
    told = rf"workers of .*{address}, but it has none after 0\.5 s.*`dask worker {address}`"
    with pytest.raises(ConfigError, match=told):
        list(map_shards(abs, [1], Backend("dask", address)))


def test_what_a_failed_connection_left_does_not_stop_the_next_one(own_cluster, monkeypatch):
    """Dask ends it with a lock that it holds while it starts a thread: the thread must not."""
    run = threading.Thread.run

    def collect_first(thread):
        if thread.name == "IO loop":
            gc.collect()
        run(thread)

    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(ConfigError, match="none answers"):
                list(map_shards(abs, [1], Backend("dask", "nonsense")))
        monkeypatch.setattr(threading.Thread, "run", collect_first)
        with pytest.raises(ConfigError, match="it has none after"):
            list(map_shards(abs, [1], Backend("dask", own_cluster.scheduler_address)))
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [distributed.CancelledError, CommClosedError])
def test_a_scheduler_that_is_lost_meanwhile_is_named(error):
    """A killed scheduler has Dask raise one of these, at the first result that is not there."""
    told = r"The Dask scheduler at tcp://10.0.0.1:8786 is lost \(.*finished work is kept"
    with pytest.raises(ClusterError, match=told), _losses_explained("tcp://10.0.0.1:8786"):
        raise error("scheduler-connection-lost")


def test_work_waits_for_workers_and_says_so(own_cluster, caplog):
    own_cluster.scale(1)
    address = own_cluster.scheduler_address
    results = map_shards(slowly, range(12), Backend("dask", address))
    assert next(results) == 0
    own_cluster.scale(0)
    threading.Timer(2.0, own_cluster.scale, (1,)).start()
    assert list(results) == list(range(1, 12))
    assert f"The Dask scheduler at {address} has lost all its workers" in caplog.text


@pytest.mark.parametrize(
    ("name", "scheduler"), [("dask", None), ("local", "tcp://10.0.0.1:8786"), ("spark", None)]
)
def test_options_that_do_not_fit_each_other_are_refused(name, scheduler):
    with pytest.raises(ConfigError, match=r"Expected --backend .* but found"):
        Backend(name, scheduler)


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingLibraryError, match=r"patchcollide\[cluster\]"):
        Backend("dask", "tcp://10.0.0.1:8786")


def test_on_this_machine_items_are_done_as_they_are_asked_for():
    done: list[int] = []
    first = next(map_shards(done.append, [1, 2, 3], LOCAL))
    assert first is None
    assert done == [1]
