"""A real browser for tests, and runs of each kind for it to show."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Page

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.images.digits import read_digits, write_digits

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "PATCHCOLLIDE_REQUIRE_BROWSER"
SETTINGS = (
    "network.name=mlp",
    "network.weights=random",
    "network.min_confidence=0",
    "images.size_px=28",
    "patches.window_px=8",
    "patches.stride_px=4",
    "patches.patch_px=8",
    "retrieval.query_stride_px=4",
    "retrieval.k=3",
    "index.components=8",
    "composition.coefficient_size=4",
    "optimiser.num_vertices=4",
    "optimiser.steps=6",
    "optimiser.check_every=3",
    "exact.extents=false",
    "evaluation.batch_size=64",
    "evaluation.num_samples=150",
    "evaluation.check_samples=40",
    "evaluation.null_samples=40",
    "evaluation.dataset_pairs=10",
)
"""Settings of a whole run on digits of 28 pixels, in a second or two."""
KINDS = ("patches", "pixels", "exact")


def find_browser() -> str:
    """Returns the browser's path; skips the test without one, unless it must be there."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        words = f"none of {', '.join(BROWSERS)} is installed"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{words}, but {REQUIRED} is set")
        pytest.skip(words)
    return found


@contextlib.contextmanager
def nothing_wrong_in(
    tab: Page, *, known: str | None = None, is_allowed: Callable[[str], bool] = bool
) -> Iterator[None]:
    """Empties a tab before and after, and fails if its page complains or asks for what it may not.

    Args:
        tab: One page after the other is opened in it, which saves what a new tab costs.
        known: Complaints with these words are none.
        is_allowed: Whether an address may be asked for.
    """
    wrong: list[str] = []
    listeners: dict[Any, Callable[[Any], Any]] = {
        "console": lambda message: wrong.append(f"{message.type}: {message.text}"),
        "pageerror": lambda error: wrong.append(str(error)),
        "request": lambda asked: is_allowed(asked.url) or wrong.append(f"asked for {asked.url}"),
    }
    tab.goto("about:blank")
    tab.mouse.move(0, 0)
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield
    tab.goto("about:blank")
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert not [text for text in wrong if known is None or known not in text]


def wait_until(page: Page, script: str) -> None:
    """Waits without the page's own eval, which its policy forbids; long, for busy machines."""
    deadline = time.monotonic() + 120
    while not page.evaluate(script):
        if time.monotonic() > deadline:
            pytest.fail(f"never came true: {script}")
        page.wait_for_timeout(25)


def slow_the_tour(page: Page) -> None:
    """Makes a tour last so long that it cannot end by itself while a test looks at it."""
    page.evaluate("window.patchcollide.control.millisecondsPerLeg = 600_000")


def make_runs(folder: Path) -> dict[str, Path]:
    """Makes a run of each kind from scikit-learn's digits; returns their folders."""
    torch.set_num_threads(1)
    config = load_config(overrides=SETTINGS)
    digits = folder / "digits"
    write_digits(digits, read_digits(None, "test"), 24)
    source, target, *_ = sorted(digits.rglob("*.png"))[::5]
    runs = {kind: folder / kind for kind in KINDS}
    store = pipeline.index(config, digits, folder / "store")
    pipeline.collide(config, source, target, runs["patches"], store)
    pipeline.collide(config, source, target, runs["pixels"], images=digits)
    pipeline.find_exact(config, target, runs["exact"], images=digits)
    return runs
