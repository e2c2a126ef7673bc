"""The figures, the table and the page of a run."""

import base64
import io
import re
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from patchcollide.errors import RunError
from patchcollide.report.charts import draw_history
from patchcollide.report.figures import caption, write_contact_sheet, write_figure
from patchcollide.report.live import make_live
from patchcollide.report.page import render_page
from patchcollide.report.tables import PAPER_ROWS, comparison_rows

HOSTILE = "<script>alert('no')</script> & \"quoted\" {{ 7 * 7 }} $x_"
MAX_PAGE_BYTES = 15_000_000


class Page(HTMLParser):
    """What a page holds: its text, its tags, and everything it refers to."""

    def __init__(self, html):
        super().__init__()
        self.html, self.text, self.tags, self.references, self.images = html, "", [], [], {}
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.text += " "
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            if name in attributes:
                self.references.append(attributes[name])
        if tag == "img":
            self.images[attributes["alt"]] = attributes["src"]

    def handle_data(self, text):
        self.text += text

    @property
    def words(self):
        return " ".join(self.text.split())


def random_images(rng, *shape):
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def png_of(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="png")
    return file.getvalue()


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def summary_of(num_vertices=2, **changes):
    vertex = {
        "class": 499,
        "class_name": "cleaver",
        "probability": 0.8125,
        "feature_distance": 4.56,
        "feature_distance_relative": 0.0321,
        "active_feature_gap_mean": 0.0123,
        "active_feature_gap_max": 0.456,
        "inactive_response_share": 0.0789,
        "inactive_response_max": 0.987,
    }
    summary = {
        "source": "photos/church.jpg",
        "target": "photos/cleaver.jpg",
        "network": "a network",
        "layer": "a.layer",
        "target_class": 499,
        "target_class_name": "cleaver",
        "target_probability": 0.9990,
        "source_class_name": "church",
        "source_probability": 0.9520,
        "parameterisation": "patches",
        "num_vertices": num_vertices,
        "num_samples": 1999,
        "success_rate": 0.9871,
        "success_interval": [0.9812, 0.9913],
        "sample_probability_mean": 0.8004,
        "sample_class_probability_mean": 0.7975,
        "success_rate_stick_breaking": 0.9934,
        "vertex_distance_mean": 7212.34,
        "vertex_distance_min": 6543.21,
        "dataset_distance_mean": 37538.22,
        "unrounded": {
            "success_rate": 0.9856,
            "sample_probability_mean": 0.8046,
            "vertex_distance_mean": 7210.98,
        },
        "vertices": [dict(vertex) for _ in range(num_vertices)],
        "steps": 317,
        "stopped_because": "a validation batch collided",
        "seconds": {"retrieve": 12.34, "optimise": 345.6},
        "peak_memory_bytes": 2_345_678_901,
        "seed": 1234,
        "versions": {"patchcollide": "0.0.9", "torch": "2.99.1"},
        "neighbours": {"leaked_images": 21, "excluded_images": 22, "num_else": 23},
    }
    return summary | changes


@pytest.fixture
def page_of(rng):
    def build(summary=None, **changes):
        summary = summary or summary_of()
        names = ["source", "target", "figure", "neighbours"]
        names += [f"vertex-{number}" for number in range(summary["num_vertices"])]
        parts = {
            "summary": summary,
            "config": {"seed": 1234, "retrieval": {"k": 77, "exclude": ["*.gif"]}},
            "images": {name: png_of(random_images(rng, 12, 14)) for name in names},
            "history_svg": draw_history([{"step": 0.0, "loss": 2.0}, {"step": 1.0, "loss": 1.0}]),
            "samples_svg": "",
            "live": make_live(summary, None, None, 1),
            "comparison": comparison_rows(summary),
            "command": "patchcollide collide --source a.jpg",
        } | changes
        return Page(render_page(**parts))

    return build


@pytest.fixture
def rng():
    return np.random.default_rng(20190908)


def history_of(num_steps):
    return [
        {
            "step": float(step),
            "loss": 10.0 * 0.9**step,
            "unit": 1.0 - step,
            "probability": 0.5,
            "distance": 100.0 * step,
            "validation_success": 0.5 if step % 2 else None,
            "validation_probability": 0.25 if step % 2 else "",
            "validation_distance": 90.0 * step if step % 2 else float("nan"),
        }
        for step in range(num_steps)
    ]


@pytest.mark.parametrize("num_vertices", [1, 2, 5, 8])
def test_a_figure_shows_every_picture_unresampled(num_vertices, rng, tmp_path):
    source, target = random_images(rng, 224, 224), random_images(rng, 224, 224)
    vertices = random_images(rng, num_vertices, 224, 224)
    captions = [caption("a class, a synonym", 0.5)] * (num_vertices + 2)
    path = tmp_path / "figure.png"
    write_figure(
        path, source=source, target=target, vertices=vertices, title="A $title", captions=captions
    )
    figure = read(path)
    assert figure.shape[1] == 20 + (num_vertices + 1) * 224 + num_vertices * 18 + 110
    windows = np.lib.stride_tricks.sliding_window_view(figure, (1, 224, 3))[..., 0, 0, :, :]
    for picture in [source, target, *vertices]:
        found = (windows[:, 20::242] == picture[0]).all(axis=(2, 3))
        assert found.any(), "the first line of a picture is nowhere in the figure"


def test_small_pictures_are_enlarged_by_a_whole_number(rng, tmp_path):
    vertices = random_images(rng, 2, 28, 28)
    path = tmp_path / "figure.png"
    write_figure(
        path,
        source=vertices[0],
        target=vertices[1],
        vertices=vertices,
        title="Digits",
        captions=["7\n1.000"] * 4,
    )
    figure = read(path)
    enlarged = vertices[0].repeat(8, axis=0).repeat(8, axis=1)
    tops = np.flatnonzero((figure[:, 20:244] == enlarged[0]).all(axis=(1, 2)))
    assert (figure[tops[0] : tops[0] + 224, 20:244] == enlarged).all()


def test_the_heat_map_is_dark_where_vertices_agree_and_bright_where_not(tmp_path):
    vertices = np.full((2, 224, 224, 3), 100, np.uint8)
    vertices[0, :, 112:] = 160
    path = tmp_path / "figure.png"
    write_figure(
        path,
        source=vertices[0],
        target=vertices[0],
        vertices=vertices,
        title="Half",
        captions=["a"] * 4,
    )
    line = read(path)[-150, 262 : 262 + 224].astype(int).sum(axis=1)
    assert line[:100].max() < 100
    assert line[124:].min() > 500


def test_purple_boxes_mark_on_every_vertex_where_they_differ(tmp_path):
    vertices = np.full((2, 224, 224, 3), 100, np.uint8)
    vertices[0, 60:88, 140:168] = 160
    path = tmp_path / "figure.png"
    write_figure(
        path,
        source=vertices[0],
        target=vertices[0],
        vertices=vertices,
        title="A box",
        captions=["a"] * 4,
    )
    purple = (read(path) == (0x8A, 0x1F, 0xA8)).all(axis=-1)
    for left in (20 + 242, 20 + 2 * 242):
        rows, cols = np.nonzero(purple[:, left : left + 224])
        # Around the square, on a line of three pixels.
        assert 28 <= np.ptp(cols) <= 36
        assert abs(cols.mean() - 153.5) < 1
        assert 28 <= np.ptp(rows) <= 36
    assert not purple[:, :244].any()


def test_captions_must_match_the_vertices(rng, tmp_path):
    vertices = random_images(rng, 2, 28, 28)
    with pytest.raises(ValueError, match="Expected 4 captions, but found 3"):
        write_figure(
            tmp_path / "figure.png",
            source=vertices[0],
            target=vertices[1],
            vertices=vertices,
            title="",
            captions=["a"] * 3,
        )
    assert not list(tmp_path.iterdir())


def contact_sheet(rng, path, *, k, rows, cols, window_px=8, **options):
    grid = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    locations = 6 * np.stack(grid, axis=-1).reshape(-1, 2).astype(np.int64)
    squared = np.sort(rng.integers(0, 10_000, (rows * cols, k)), axis=1).astype(np.int64)
    write_contact_sheet(
        path,
        source=random_images(np.random.default_rng(1), 64, 64),
        patches=random_images(np.random.default_rng(2), rows * cols, k, 8, 8),
        squared_distances=squared,
        locations=locations,
        window_px=window_px,
        **options,
    )
    return read(path)


@pytest.mark.parametrize(("k", "rows", "cols"), [(1, 1, 1), (1, 2, 1), (3, 5, 7)])
def test_a_contact_sheet_has_a_row_for_each_location_shown(k, rows, cols, rng, tmp_path):
    sheet = contact_sheet(rng, tmp_path / "sheet.png", k=k, rows=rows, cols=cols)
    assert sheet.shape[:2] == (48 + min(rows * cols, 12) * 176, 36 + (k + 2) * 140)


def test_a_contact_sheet_shows_at_most_what_was_asked_for(rng, tmp_path):
    path = tmp_path / "sheet.png"
    sheet = contact_sheet(rng, path, k=6, rows=5, cols=5, num_locations=4, num_neighbours=2)
    assert sheet.shape[:2] == (48 + 4 * 176, 36 + 4 * 140)


def test_a_missing_neighbour_leaves_its_place_empty(tmp_path):
    path = tmp_path / "sheet.png"
    write_contact_sheet(
        path,
        source=np.zeros((16, 16, 3), np.uint8),
        patches=np.zeros((1, 2, 8, 8, 3), np.uint8),
        squared_distances=np.array([[0, -1]], np.int64),
        locations=np.zeros((1, 2), np.int64),
        window_px=8,
    )
    line = read(path)[48 + 64]
    assert (line[12 + 2 * 140 + 24 + 64] == 0).all()
    assert (line[12 + 3 * 140 + 24 + 64] == 255).all()


def test_equal_inputs_give_equal_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]
    for path in paths[:2]:
        contact_sheet(np.random.default_rng(3), path, k=2, rows=2, cols=2)
    for path in paths[2:]:
        vertices = random_images(np.random.default_rng(4), 3, 32, 32)
        write_figure(
            path,
            source=vertices[0],
            target=vertices[1],
            vertices=vertices,
            title="Twice",
            captions=["a"] * 5,
        )
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[2].read_bytes() == paths[3].read_bytes()
    assert draw_history(history_of(9)) == draw_history(history_of(9))


@pytest.mark.parametrize("num_steps", [0, 1, 2, 30])
def test_a_history_is_three_charts_that_stand_on_their_own(num_steps):
    svg = draw_history(history_of(num_steps))
    assert svg.count("<svg") == 3
    assert "http" not in svg
    assert "<style" not in svg
    names = re.findall(r'\bid="([^"]+)"', svg)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= set(names)


def test_a_history_leaves_out_what_was_not_recorded():
    svg = draw_history([{"step": 0.0, "loss": 3.0}, {"step": 1.0, "loss": 1.0, "active": ""}])
    assert ">loss<" in svg
    assert ">active<" not in svg
    assert svg.count("not recorded") == 2


def test_the_papers_rows_are_as_printed():
    assert [row.vertex_distance for row in PAPER_ROWS] == [1.33, 1.28, 4906.56, 8597.34, 9587.92]
    assert [row.target_probability for row in PAPER_ROWS] == [1.0, 1.0, 0.993, 0.952, 0.999]
    assert [row.sample_probability for row in PAPER_ROWS] == [1.0, 1.0, 0.995, 0.877, 0.800]
    assert {row.dataset_distance for row in PAPER_ROWS} == {10.21, 37538.22}
    assert not any(row.is_ours for row in PAPER_ROWS)


def test_our_row_comes_last_with_the_share_of_the_data_sets_distance():
    *_, ours = rows = comparison_rows(summary_of())
    assert len(rows) == len(PAPER_ROWS) + 1
    assert ours.is_ours
    assert ours.sample_probability == 0.8004
    assert ours.distance_share == pytest.approx(7212.34 / 37538.22)


@pytest.mark.parametrize("distance", [None, float("nan"), 0.0])
def test_a_share_of_an_unknown_distance_is_unknown(distance):
    assert comparison_rows(summary_of(dataset_distance_mean=distance))[-1].distance_share is None


def test_a_single_vertex_has_no_distance():
    ours = comparison_rows(summary_of(1, vertex_distance_mean=0.0))[-1]
    assert ours.vertex_distance is None


def test_a_page_refers_to_nothing_outside_itself(page_of):
    page = page_of()
    assert page.references
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert "http" not in page.html.replace("http-equiv", "")
    assert "default-src 'none'" in page.html
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", page.html)


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
def test_a_page_holds_its_images_byte_for_byte(num_vertices, page_of, rng):
    summary = summary_of(num_vertices)
    names = ["source", "target", *(f"vertex-{number}" for number in range(num_vertices)), "figure"]
    images = {name: png_of(random_images(rng, 224, 224)) for name in names}
    page = page_of(summary, images=images)
    held = [
        base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
        for uri in page.images.values()
    ]
    assert held == list(images.values())
    assert len(page.html.encode()) < MAX_PAGE_BYTES


def test_every_number_of_the_summary_is_on_the_page(page_of):
    words = page_of().words.replace("\N{NARROW NO-BREAK SPACE}", " ")
    expected = [
        "church → cleaver", "0.999", "0.952", "of 1999 random", "98.71 %", "98.12 % to 99.13 %",
        "0.800", "0.797", "99.34 %", "7212.34", "6543.21", "37538.22", "19.2 %", "98.56 %", "0.805",
        "7210.98", "cleaver (499)", "0.812", "0.0123", "0.456", "7.89 %", "0.987", "317 steps",
        "because a validation batch collided", "retrieve 12.3", "optimise 345.6", "memory 2.3",
        "1234", "torch 2.99.1", "patchcollide 0.0.9", "a.layer", "a network", "(class 499)",
        "photos/church.jpg", "photos/cleaver.jpg", "21 images of the store", "22 images excluded",
        "23 else", "retrieval.k 77", 'retrieval.exclude ["*.gif"]', "8597.34", "9587.92",
        "patchcollide collide --source a.jpg",
    ]  # fmt: skip
    assert [text for text in expected if text.lower() not in words.lower()] == []


def test_hostile_texts_stay_texts(page_of):
    texts = (
        "source", "target", "network", "layer", "target_class_name", "source_class_name",
        "parameterisation", "stopped_because",
    )  # fmt: skip
    summary = summary_of(
        versions={"patchcollide": HOSTILE, HOSTILE: HOSTILE},
        seconds={HOSTILE: 1.0},
        neighbours={HOSTILE: 1},
        **dict.fromkeys(texts, HOSTILE),
    )
    summary["vertices"][0]["class_name"] = HOSTILE
    page = page_of(summary, command=HOSTILE, config={HOSTILE: {HOSTILE: HOSTILE}})
    assert page.tags.count("script") == 2
    assert page.words.count("<script>alert('no')</script>") > 20
    assert "{{ 7 * 7 }}" in page.words
    assert escape(HOSTILE, quote=False).split(" ")[0] not in page.html.replace("&#39;", "")


def test_what_was_not_measured_is_said_to_be(page_of):
    page = page_of(summary_of(dataset_distance_mean=None))
    assert "was not measured" in page.words
    assert "None" not in page.words
    assert "nan" not in page.words.split()


def test_a_single_vertex_spans_no_polytope(page_of):
    page = page_of(summary_of(1, vertex_distance_mean=0.0, vertex_distance_min=0.0))
    assert "A single vertex spans no polytope" in page.words
    assert "1 image was composed" in page.words
    assert "None" not in page.words


def test_a_run_on_pixels_has_no_neighbours(page_of, rng):
    names = ("source", "target", "figure", "vertex-0", "vertex-1")
    page = page_of(
        summary_of(parameterisation="pixels", neighbours=None),
        images={name: png_of(random_images(rng, 8, 8)) for name in names},
    )
    assert "varying the pixels of the source freely" in page.words
    assert "composed of" not in page.words


@pytest.mark.parametrize(
    ("share", "text"), [(0.99996, "> 99.99"), (1.0, "100"), (0.0, "0"), (0.00001, "< 0.01")]
)
def test_a_share_is_never_rounded_to_all_or_none(share, text, page_of):
    page = page_of(summary_of(success_rate=share))
    assert f"vertices, {text}\N{NARROW NO-BREAK SPACE}% are" in page.text.replace("\n", " ")


def test_the_time_of_drawing_does_not_change_the_page(page_of, rng):
    images = {
        name: png_of(random_images(rng, 8, 8))
        for name in ("source", "target", "figure", "vertex-0", "vertex-1")
    }
    once = page_of(summary_of(), images=images)
    seconds = summary_of()["seconds"] | {"report": 9.9}
    assert page_of(summary_of(seconds=seconds), images=images).html == once.html


def test_an_incomplete_run_is_refused_with_what_it_lacks(page_of, rng):
    summary = summary_of()
    del summary["success_interval"]
    with pytest.raises(RunError, match=r"lacks something the page shows.*success_interval"):
        page_of(summary)
    with pytest.raises(RunError, match="needs the image 'source'"):
        page_of(images={})
    names = ("source", "target", "figure", "vertex-0", "vertex-1")
    with pytest.raises(RunError, match="image 'source' of the run is not a PNG"):
        page_of(images=dict.fromkeys(names, b"GIF89a"))
