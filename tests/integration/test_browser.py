"""Pages in a real browser: they load, move, add up, and can be used by everybody."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from page_checks import serious_faults, texts_over_texts
from PIL import Image

from patchcollide.evaluation.samples import interpolate, joined, load_samples
from patchcollide.evaluation.simplex import combine, round_to_8_bits
from patchcollide.images.tensors import as_batch
from patchcollide.io.provenance import array_digest
from patchcollide.runs.folder import open_run
from patchcollide.runs.vertices import load_vertex_pngs
from tests.helpers.browsing import (
    KINDS,
    nothing_wrong_in,
    slow_the_tour,
    wait_until,
)

WIDTHS = (390, 1440)


@pytest.fixture
def opened(tab, runs_of_each_kind):
    """Opens a run's page and sees to it that nothing goes wrong while it is open."""

    def open_page(kind, width=1440, scheme="light"):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(media="screen", color_scheme=scheme)
        tab.goto((runs_of_each_kind[kind] / "report.html").as_uri())
        tab.wait_for_selector("html[data-ready=yes]")
        return tab

    with nothing_wrong_in(tab, is_allowed=is_own):
        yield open_page


def is_own(address):
    return address.startswith(("file:", "data:", "about:"))


def weights_of(page):
    return np.array(page.evaluate("window.patchcollide.control.weights"), dtype=np.float64)


def shown(page):
    """What the canvas shows, uint8 (height, width, 3)."""
    address = page.locator("canvas.blend").evaluate("canvas => canvas.toDataURL()")
    png = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def polytope_image(run, weights):
    vertices = as_batch(load_vertex_pngs(open_run(run)))
    image = 255 * round_to_8_bits(combine(torch.from_numpy(weights)[None], vertices))[0]
    return image.round().permute(1, 2, 0).expand(-1, -1, 3).numpy()


def set_weights(page, weights):
    page.evaluate("weights => window.patchcollide.control.set(weights)", list(weights))


def put_slider(page, index, value):
    slider = page.locator("input.weight").nth(index)
    slider.evaluate(
        "(slider, value) => {slider.value = value; slider.dispatchEvent(new Event('input'))}",
        str(value),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_each_kind_is_complete(opened, kind):
    page = opened(kind)
    unfold(page, True)
    headings = page.locator("h2:visible, h3:visible").all_inner_texts()
    assert "Move through the polytope" in headings
    assert ("Whose pixels these are" in headings) == (kind == "patches")
    text = page.locator("body").inner_text()
    assert "not measured" not in text.lower()
    assert "not recorded" not in text.lower()
    assert "was not kept" not in text
    for name in ("table tbody", ".charts", "ul", "dl", "figure"):
        for found in page.locator(f"{name}:visible").all():
            assert found.inner_text().strip() or found.locator("img, svg").count(), name
    for image in page.locator("img:visible").all():
        assert image.evaluate("image => image.naturalWidth") > 0
        assert image.get_attribute("alt")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_always_sum_to_one(opened, kind):
    page = opened(kind)
    moves = [
        *(lambda value=value: put_slider(page, value % 4, value) for value in (0, 1000, 333, 1)),
        lambda: page.locator("button.vertex").nth(2).click(),
        lambda: put_slider(page, 2, 0),
        lambda: page.locator("button.random").click(),
        lambda: page.locator("button.centre").click(),
    ]
    for move in moves:
        move()
        weights = weights_of(page)
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        said = page.locator(".slider output").all_inner_texts()
        assert sum(float(text.rstrip(" %")) for text in said) == pytest.approx(100, abs=0.3)
    last = int(page.locator("input.tour").get_attribute("max"))
    for place in np.linspace(0, last, 23):
        page.evaluate("place => window.patchcollide.control.goTo(place)", float(place))
        assert weights_of(page).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_canvas_shows_the_polytopes_own_pixels(opened, runs_of_each_kind, kind, rng):
    page = opened(kind)
    corners = np.eye(4)
    for weights in [*corners, *rng.dirichlet(np.ones(4), 6), (corners[0] + corners[1]) / 2]:
        set_weights(page, weights)
        expected = polytope_image(runs_of_each_kind[kind], weights_of(page))
        assert abs(shown(page) - expected).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_guesses_as_python_does(opened, runs_of_each_kind, kind, rng):
    page = opened(kind)
    run = open_run(runs_of_each_kind[kind])
    samples = load_samples(run / "samples.h5", array_digest(load_vertex_pngs(run)))
    asked = joined(samples["hull"], samples["tour"])
    for weights in [np.eye(4)[1], *rng.dirichlet(np.ones(4), 8)]:
        set_weights(page, weights)
        said = page.locator(".chance").inner_text().split(" ± ")[0]
        expected = interpolate(asked, weights_of(page)[None])[0]
        assert float(said.split()[-1]) == pytest.approx(expected, abs=2e-3)


def test_a_page_is_used_by_keyboard(opened):
    page = opened("patches")
    page.locator("button.vertex").first.focus()
    page.keyboard.press("Tab")
    before = weights_of(page)
    page.keyboard.press("ArrowRight")
    assert weights_of(page)[0] > before[0]
    slow_the_tour(page)
    page.locator("button.play").focus()
    page.keyboard.press("Enter")
    wait_until(page, "Number(document.querySelector('input.tour').value) > 0")
    assert page.locator("button.play").inner_text() == "Pause the tour"
    page.keyboard.press("Enter")
    assert page.locator("button.play").inner_text() == "Play the tour"
    page.locator("canvas.blend").focus()
    place = page.locator(".place").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator(".place").inner_text() != place
    for _ in range(40):
        page.keyboard.press("ArrowUp")
    assert page.locator(".place").inner_text().startswith("row 0,")


def test_the_tour_ends_where_it_began_and_can_be_begun_again(opened):
    page = opened("pixels")
    last = int(page.locator("input.tour").get_attribute("max"))
    page.evaluate("place => window.patchcollide.control.goTo(place)", last - 2)
    page.locator("button.play").click()
    wait_until(page, "!window.patchcollide.control.playing")
    np.testing.assert_allclose(weights_of(page), [1, 0, 0, 0], atol=1e-9)
    assert float(page.locator("input.tour").input_value()) == last
    # What is pressed and what is then said lie in one task: no frame is drawn between them.
    said = page.evaluate("""() => {
        document.querySelector("button.play").click();
        const { playing, place } = window.patchcollide.control;
        return [playing, place, Number(document.querySelector("input.tour").value)];
    }""")
    assert said == [True, 0, 0]
    wait_until(page, "window.patchcollide.control.place > 0")


def test_a_tour_that_is_moved_and_played_again_has_no_frame_of_the_old_place(opened):
    page = opened("pixels")
    slow_the_tour(page)
    places = page.evaluate("""() => new Promise((done) => {
        const { control } = window.patchcollide;
        const places = [];
        control.play();
        control.stop();
        control.goTo(30);
        control.addEventListener("change", () => {
            places.push(control.place);
            if (places.length === 7) done(places);
        });
        control.play();
    })""")
    assert places[0] == 30
    assert places == sorted(places)


def test_pointing_at_a_pixel_says_where_it_comes_from(opened, runs_of_each_kind):
    page = opened("patches")
    page.locator("canvas.blend").scroll_into_view_if_needed()
    box = page.locator("canvas.blend").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.7 * box["height"])
    assert page.locator(".place").inner_text() == "row 19, column 8"
    items = page.locator(".patches li").all_inner_texts()
    parts = [float(item.split(" %")[0]) for item in items]
    assert sum(parts) == pytest.approx(100, abs=1)
    assert parts[:-1] == sorted(parts[:-1], reverse=True)
    names = {item.split(" % ")[1] for item in items[:-1]}
    data = json.loads(page.locator("#page-data").inner_text())
    assert names <= set(data["contributions"]["names"])
    colours = page.locator(".colours li").all_inner_texts()
    expected = load_vertex_pngs(open_run(runs_of_each_kind["patches"]))[:, 19, 8, 0]
    assert [int(text.split()[-1]) for text in colours[2:]] == expected.tolist()


def test_a_vertex_is_explained_by_its_own_patches(opened):
    page = opened("patches")
    found = []
    for index in range(4):
        page.locator("button.vertex").nth(index).click()
        found.append(page.locator(".patches li").all_inner_texts())
    assert len({tuple(items) for items in found}) > 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_shuts_people_out(opened, kind, scheme, width):
    page = opened(kind, width, scheme)
    for is_open in (False, True):
        unfold(page, is_open)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not texts_over_texts(page)
    assert not serious_faults(page)


def test_texts_on_each_other_are_found(tab):
    tab.set_content("<p>a</p><p style='position: relative; top: -2.2em'>b</p><p>a third</p>")
    assert [set(pair) for pair in texts_over_texts(tab)] == [{"a", "b"}]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_screen_says_it_all(opened, kind):
    page = opened(kind)
    within = """(name) => document.querySelector(name).getBoundingClientRect().bottom"""
    for name in ("h1", ".known", ".front", ".crops", ".yardstick li.ours"):
        assert page.evaluate(within, name) <= 900, name
    # At twice their size, and more for the small pictures of these runs.
    assert page.locator(".large img").first.bounding_box()["width"] == pytest.approx(448, abs=0.5)
    assert page.locator("details[open]").count() == 0
    assert page.locator("img[data-vertex]").count() == 4


@pytest.mark.parametrize("width", WIDTHS)
def test_the_place_of_a_crop_is_numbered_and_seen_on_a_map(opened, width):
    page = opened("patches", width)
    crops = page.locator(".crop").all()
    assert [crop.locator(".badge").inner_text() for crop in crops] == ["1", "2", "3"]
    size = "badge => parseFloat(getComputedStyle(badge).fontSize)"
    for number, crop in enumerate(crops, 1):
        assert crop.locator(".badge").evaluate(size) >= 16
        whole = crop.locator(".map img").bounding_box()
        spot = crop.locator(".spot").bounding_box()
        assert whole["width"] >= 48
        assert crop.locator(".spot").is_visible()
        # Where the box is on the large picture, which is hidden until one points.
        box = page.locator(f".box-{number}").first.bounding_box()
        large = page.locator(".large img").first.bounding_box()
        for side, length in (("x", "width"), ("y", "height")):
            on_map = (spot[side] - whole[side]) / whole[length]
            assert on_map == pytest.approx((box[side] - large[side]) / large[length], abs=0.02)


def test_pointing_at_a_crop_shows_where_it_is(opened):
    page = opened("patches")
    boxes = page.locator(".box-2")
    assert not boxes.first.is_visible()
    page.locator(".crop-2").hover()
    assert [box.is_visible() for box in boxes.all()] == [True, True]
    assert not page.locator(".box-1").first.is_visible()


def unfold(page, is_open):
    page.evaluate(
        "(isOpen) => document.querySelectorAll('details').forEach((d) => (d.open = isOpen))",
        is_open,
    )


def test_a_page_prints_without_what_only_moves(opened):
    page = opened("patches")
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator("canvas.blend").is_visible()
    assert page.pdf()[:5] == b"%PDF-"


@pytest.mark.slow
def test_a_page_of_full_size_opens_in_a_second_and_moves_at_thirty_frames(browser, tmp_path):
    from patchcollide.pipeline import run_demo

    run = run_demo(tmp_path / "demo")
    page = browser.new_page()
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert page.evaluate("performance.now()") < 1000
    page.locator("button.play").click()
    script = """() => new Promise((done) => {
        const times = [];
        const step = (now) => (times.push(now) > 120 ? done(times) : requestAnimationFrame(step));
        requestAnimationFrame(step);
    })"""
    times = np.diff(page.evaluate(script))
    assert 1000 / times.mean() >= 30
