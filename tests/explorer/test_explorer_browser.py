"""The explorer in a real browser."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from page_checks import serious_faults, texts_over_texts

from patchcollide.images.pictures import png_bytes
from tests.helpers.browsing import (
    nothing_wrong_in,
    slow_the_tour,
    wait_until,
)
from tests.helpers.presence import present


@pytest.fixture(scope="module")
def address(runs_of_each_kind):
    process = subprocess.Popen(
        [sys.executable, "-m", "patchcollide", "explore", str(runs_of_each_kind["patches"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    yield present(process.stdout).readline().strip()
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def page(tab, address):
    """The explorer's page, and a look at what went wrong in it."""
    # A refused picture is an answer of the explorer's that the browser notes by itself.
    with nothing_wrong_in(tab, known="Failed to load resource"):
        tab.set_viewport_size({"width": 1440, "height": 900})
        tab.emulate_media(color_scheme="light")
        tab.goto(address)
        wait_for(tab, "#live[data-answers]")
        yield tab


def wait_for(page, selector):
    page.wait_for_selector(selector, timeout=60_000)


def answers(page):
    return int(page.locator("#live").get_attribute("data-answers"))


def chance(page, place="#live"):
    return float(page.locator(f"{place} .chance").inner_text().split()[-1])


def picture(seed):
    rng = np.random.default_rng(seed)
    return {
        "name": "a picture.png",
        "mimeType": "image/png",
        "buffer": png_bytes(rng.integers(0, 256, (40, 40, 3), np.uint8)),
    }


def test_the_networks_answer_follows_the_sliders(page):
    before = answers(page)
    page.locator("button.vertex").nth(1).click()
    wait_for(page, f'#live[data-answers="{before + 1}"]')
    at_vertex = chance(page)
    shown = page.locator(".pictures figcaption", has_text="vertex 1").inner_text()
    assert page.locator("#live .classes li").count() == 5
    named = page.locator("#live .classes li").first.inner_text().split()
    # The page says of a vertex what its caption says: class and probability.
    assert shown.split()[-2:] == [named[0], named[-1]]
    page.locator("button.centre").click()
    wait_for(page, f'#live[data-answers="{before + 2}"]')
    assert 0 <= chance(page) <= 1
    weights = page.evaluate("window.patchcollide.control.weights")
    assert sum(weights) == pytest.approx(1)
    facts = page.locator("#live .answer .facts").inner_text()
    shares = re.findall(r"([\d.]+) %", facts)
    assert len(shares) >= 3
    # No more digits than are read.
    assert all(len(share.replace(".", "").lstrip("0")) <= 3 for share in shares), facts
    page.locator("button.vertex").nth(1).click()
    wait_for(page, f'#live[data-answers="{before + 3}"]')
    assert chance(page) == at_vertex


def test_cells_of_a_triangle_are_shown_in_colour_and_lead_to_their_images(page):
    page.locator("#faces select").nth(2).select_option("2")
    page.locator("#faces .start").click()
    wait_for(page, "#faces[data-proofs]")
    assert page.locator("#faces polygon.cell").count() >= 1
    assert "this triangle is proved" in page.locator("#faces .found").inner_text()
    before = answers(page)
    page.locator("#faces polygon.cell").last.click(force=True)
    wait_for(page, f'#live[data-answers="{before + 1}"]')
    page.locator("#faces select").nth(1).select_option("0")
    page.locator("#faces .start").click()
    wait_until(page, "document.querySelector('#faces .problem').textContent !== ''")
    assert "two or three different numbers" in page.locator("#faces .problem").inner_text()


def test_the_tour_can_be_played(page):
    before = answers(page)
    slow_the_tour(page)
    page.locator("button.play").focus()
    page.keyboard.press("Enter")
    wait_until(page, f"document.getElementById('live').dataset.answers >= {before + 3}")
    page.keyboard.press("Enter")
    assert page.locator("button.play").inner_text() == "Play the tour"


def test_a_picture_of_ones_own_is_compared(page):
    page.locator("#compared input").set_input_files(picture(1))
    wait_for(page, "#compare .answer:not([hidden])")
    assert page.locator("#compare .classes li").count() == 5
    wait_for(page, "#compared img:not([hidden])")
    # The picture is shown when the answer is, but the browser decodes it in its own time.
    script = "async image => { await image.decode(); return image.naturalWidth; }"
    assert page.locator("#compared img").evaluate(script) == 28
    bad = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#compared input").set_input_files(bad)
    wait_for(page, "#compared .problem:not(:empty)")
    assert "not an image" in page.locator("#compared .problem").inner_text()


def test_the_report_moves_here_too(page, address):
    page.goto(f"{address}report.html")
    wait_for(page, "html[data-ready=yes]")
    page.locator("button.random").click()
    assert page.locator(".chance").inner_text().startswith("Probability of")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_shuts_people_out(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.locator("#compared input").set_input_files(picture(1))
    wait_for(page, "#compare .answer:not([hidden])")
    assert not serious_faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not texts_over_texts(page)
    for name in page.locator("#live .facts dt").all():
        assert present(name.bounding_box())["width"] > 100
    # Picture, answer and sliders are on one screen.
    tops = [
        present(page.locator(f"#live {name}").first.bounding_box())["y"]
        for name in ("canvas.blend", ".chance", "input.weight")
    ]
    assert max(tops) - min(tops) < 600
