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
from axe_playwright_python.sync_playwright import Axe
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


def serious_faults(page: Page) -> list[tuple[str, str]]:
    """Returns what axe finds serious or worse: the rule, and the first place."""
    violations = Axe().run(page).response["violations"]
    return [
        (found["id"], found["nodes"][0]["html"][:200])
        for found in violations
        if found["impact"] in ("serious", "critical")
    ]


def texts_over_texts(page: Page) -> list[list[str]]:
    """Returns pairs of texts that stand on each other, by more than the air around letters."""
    found: list[list[str]] = page.evaluate(_OVERLAPS)
    return found


_OVERLAPS = """() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const boxes = [];
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        const parent = node.parentElement;
        if (!node.data.trim() || parent.closest(".unseen, script, style, noscript")) continue;
        const all = { visibilityProperty: true, contentVisibilityAuto: true };
        if (!parent.checkVisibility(all)) continue;
        // What scrolls sideways is cut off at its region.
        const frame = parent.closest(".scroll")?.getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const { left, right, top, bottom } of range.getClientRects()) {
            const begin = Math.max(left, frame?.left ?? left) + 1;
            const end = Math.min(right, frame?.right ?? right) - 1;
            const air = 0.2 * (bottom - top);
            if (begin < end) {
                boxes.push({ text: node.data.trim(), node, left: begin, right: end,
                    top: top + air, bottom: bottom - air });
            }
        }
    }
    boxes.sort((one, other) => one.top - other.top);
    const over = [];
    boxes.forEach((one, place) => {
        for (let next = place + 1; next < boxes.length && boxes[next].top < one.bottom; next += 1) {
            const other = boxes[next];
            if (one.node === other.node || one.node.contains(other.node)) continue;
            if (one.left < other.right && other.left < one.right) over.push([one.text, other.text]);
        }
    });
    return over;
}"""


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
