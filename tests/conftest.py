"""Small, seeded inputs that the tests share."""

import gc
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker for each core: more threads, here or in processes of tests, would only wait.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nothing of what is imported and collected is ever garbage, so nothing looks for garbage among it:
# not while it comes, and not in the tests, some of which ask for a look dozens of times.
gc.disable()

# PyTorch and all that loads it are imported where they are used: of the processes that read this
# file, the one that hands the tests out to the others needs none of it, and all wait for it.
if TYPE_CHECKING:
    import torch

    from patchcollide.config import Config
    from patchcollide.networks.network import CollisionNetwork
    from patchcollide.store.reader import PatchStore

SMALL = (
    "images.size_px=32",
    "patches.window_px=8",
    "patches.stride_px=4",
    "patches.patch_px=8",
    "retrieval.query_stride_px=4",
    "retrieval.k=3",
    "index.components=16",
    "network.min_confidence=0.2",
    "composition.coefficient_size=8",
    "optimiser.steps=6",
    "optimiser.check_every=3",
    "optimiser.checkpoint_every=2",
    "optimiser.validation_samples=4",
    "evaluation.batch_size=16",
    "evaluation.num_samples=20",
    "evaluation.check_samples=40",
    "evaluation.null_samples=40",
    "evaluation.dataset_pairs=10",
)
"""Settings of a whole run in about a second: 32-pixel images, 8-pixel windows, 49 positions."""

SECONDS_ALLOWED = 10.0
"""Seconds of a processor that a test may take without the mark ``slow``: beyond, it is named."""

SECONDS_ENDURED = 1.5 * SECONDS_ALLOWED
"""Beyond these the whole run fails.

Processor time passes faster where others use the same caches, and where modules are compiled first.
"""

# Examples are the same each time, and a busy machine fails none for being slow.
settings.register_profile(
    "same-everywhere",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same-everywhere")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests may take as long as they need."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.timeout(0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    # Libraries complain at the end of what is still there.
    gc.unfreeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core, up to four; long tests have the machine for themselves."""
    if config.option.markexpr in ("slow", "gpu"):
        return 0
    from joblib import cpu_count

    return min(4, int(cpu_count()))


def processor_seconds() -> float:
    """Returns what this process and those that it waited for have taken."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = processor_seconds()
    try:
        return (yield)
    finally:
        if not item.get_closest_marker("slow"):
            item.user_properties.append(("processor seconds", processor_seconds() - before))


def slow_tests(terminalreporter: Any) -> dict[str, float]:
    """Returns the tests without the mark that took longer than they may, and how long."""
    taken = {
        report.nodeid: dict(report.user_properties).get("processor seconds", 0.0)
        for report in terminalreporter.getreports("passed")
    }
    return {name: seconds for name, seconds in taken.items() if seconds > SECONDS_ALLOWED}


def machine_is_busy() -> bool:
    """Whether more waits for the processors than these tests, whose times then mean little."""
    from joblib import cpu_count

    return os.getloadavg()[1] > 2 * int(cpu_count())


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    longest = max(slow_tests(reporter).values(), default=0.0)
    # Measuring coverage takes time of its own.
    is_traced = session.config.pluginmanager.get_plugin("_cov") is not None
    if longest > SECONDS_ENDURED and not (machine_is_busy() or is_traced):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, seconds in slow_tests(terminalreporter).items():
        terminalreporter.write_line(
            f"{name} took {seconds:.1f} s of a processor, more than {SECONDS_ALLOWED:g} s: "
            "make it faster, or mark it slow.",
            red=True,
        )


def drawn_once(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a drawing function that keeps what it drew."""
    kept: dict[bytes, Any] = {}

    def draw_once(*what: Any) -> Any:
        key = pickle.dumps(what)
        if key not in kept:
            kept[key] = draw(*what)
        return copy(kept[key])  # a list, to which its page adds

    return draw_once


@pytest.fixture(scope="session", autouse=True)
def _equal_charts_are_drawn_once() -> Iterator[None]:
    """Of a small run, drawing its page's charts takes most, and many tests make the same run."""
    from patchcollide.report.charts import draw_history, draw_samples
    from patchcollide.runs import report as writer

    history = drawn_once(draw_history)

    def draw_without_seconds(rows: list[dict[str, Any]]) -> str:
        # Their column differs each time, and no chart shows it.
        chart = history([{key: row[key] for key in row if key != "seconds"} for row in rows])
        return str(chart)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writer, "draw_history", draw_without_seconds)
        patched.setattr(writer, draw_samples.__name__, drawn_once(draw_samples))
        yield


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tensors are so small here that threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Layers draw their first weights from PyTorch's own generator: no test sees another's."""
    import torch

    torch.manual_seed(7)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def generator() -> "torch.Generator":
    import torch

    return torch.Generator().manual_seed(7)


@pytest.fixture
def small_config() -> "Config":
    from patchcollide.config_files import load_config

    return load_config(overrides=SMALL)


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Writes smooth random pictures as ``class-0/0.png`` ... and returns their folder."""
    from patchcollide.images.pictures import write_png

    def write(name: str = "images", *, num: int = 6, size: int = 40, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / name
        for number in range(num):
            coarse = rng.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8)
            label = folder / f"class-{number % 2}"
            label.mkdir(parents=True, exist_ok=True)
            write_png(label / f"{number}.png", coarse.repeat(4, axis=0).repeat(4, axis=1))
        return folder

    return write


@pytest.fixture
def small_store(
    small_config: "Config", write_images: Callable[..., Path], tmp_path: Path
) -> "PatchStore":
    from patchcollide.store.writer import write_store

    return write_store(small_config, write_images(), tmp_path / "store")


@pytest.fixture(autouse=True)
def _logs_are_told_as_at_first() -> None:
    """A command that ran in this process says where records go; the next test is asked afresh."""
    logger = logging.getLogger("patchcollide")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture
def small_network() -> "CollisionNetwork":
    """A seeded convolutional network on 32-pixel images; ``act`` has 6 x 8 x 8 units."""
    import torch
    from torch import nn

    from patchcollide.networks.network import CollisionNetwork

    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = nn.Sequential()
        layers.add_module("conv", nn.Conv2d(3, 6, kernel_size=5, stride=4, padding=2))
        layers.add_module("act", nn.ReLU(inplace=True))
        layers.add_module("flatten", nn.Flatten())
        layers.add_module("classifier", nn.Linear(6 * 8 * 8, 4))
    return CollisionNetwork(
        layers,
        name="small",
        layer="act",
        input_size=32,
        mean=(0.5, 0.5, 0.5),
        scale=(0.25, 0.25, 0.25),
        class_names=("ant", "bee", "cat", "dog"),
    )


@pytest.fixture(scope="session")
def explored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small untrained network on grey 28-pixel images; not to be changed."""
    from patchcollide.config_files import load_config
    from patchcollide.images.pictures import write_png
    from patchcollide.runs.collide import collide

    folder = tmp_path_factory.mktemp("explored")
    rng = np.random.default_rng(11)
    for name in ("source", "target", *(f"images/{number}" for number in range(4))):
        (folder / name).parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        write_png(folder / f"{name}.png", coarse.repeat(4, axis=0).repeat(4, axis=1))
    settings = ('network.name="mlp"', 'network.weights="random"', 'network.device="cpu"')
    config = load_config(overrides=[*SMALL, *settings, "optimiser.num_vertices=3"])
    source, target = folder / "source.png", folder / "target.png"
    return collide(config, source, target, folder / "run", images=folder / "images")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; tests of it are skipped where none is installed.

    Not for the session: while it runs, other tests cannot run event loops of their own.
    """
    from playwright.sync_api import sync_playwright

    from tests.helpers.browsing import find_browser

    path = find_browser()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    """A tab for one page after the other, which saves what a new one costs."""
    return browser.new_page()


@pytest.fixture(scope="session")
def runs_of_each_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of patches, of pixels, and exact ones, of digits."""
    from tests.helpers.browsing import make_runs

    return make_runs(tmp_path_factory.mktemp("runs"))
