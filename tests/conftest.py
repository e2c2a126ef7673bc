"""Small, seeded inputs that the tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.collisions import collide
from patchcollide.config import Config, load_config
from patchcollide.images import write_png
from patchcollide.networks import CollisionNetwork
from patchcollide.store import PatchStore
from patchcollide.store_writer import write_store

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
    "evaluation.num_samples=20",
    "evaluation.dataset_pairs=10",
)
"""Settings of a whole run in about a second: 32-pixel images, 8-pixel windows, 49 positions."""


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tensors are so small here that threads would only wait for each other."""
    before = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Layers draw their first weights from PyTorch's own generator: no test sees another's."""
    torch.manual_seed(7)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def small_config() -> Config:
    return load_config(overrides=SMALL)


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Writes smooth random pictures as ``class-0/0.png`` ... and returns their folder."""

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
    small_config: Config, write_images: Callable[..., Path], tmp_path: Path
) -> PatchStore:
    return write_store(small_config, write_images(), tmp_path / "store")


@pytest.fixture
def small_network() -> CollisionNetwork:
    """A seeded convolutional network on 32-pixel images; ``act`` has 6 x 8 x 8 units."""
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

    from tests.browsing import find_browser

    path = find_browser()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def runs_of_each_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of patches, of pixels, and exact ones, of digits."""
    from tests.browsing import make_runs

    return make_runs(tmp_path_factory.mktemp("runs"))
