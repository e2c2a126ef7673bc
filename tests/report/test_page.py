"""The page of a run stands on its own, shows every number, and lets no text become code."""

import base64
import re
from html import escape

import numpy as np
import pytest

from patchcollide.errors import RunError
from patchcollide.report.charts import draw_history
from patchcollide.report.closeups import make_closeups
from patchcollide.report.live import make_live
from patchcollide.report.page import render_page
from patchcollide.report.tables import comparison_rows
from tests.helpers.pages import Page, png_of, random_images, summary_of

HOSTILE = "<script>alert('no')</script> & \"quoted\" {{ 7 * 7 }} $x_"
MAX_PAGE_BYTES = 15_000_000


@pytest.fixture
def page_of(rng):
    def build(summary=None, **changes):
        summary = summary or summary_of()
        names = ["source", "target", "neighbours"]
        names += [f"vertex-{number}" for number in range(summary["num_vertices"])]
        parts = {
            "summary": summary,
            "config": {"seed": 1234, "retrieval": {"k": 77, "exclude": ["*.gif"]}},
            "images": {name: png_of(random_images(rng, 12, 14)) for name in names},
            "closeups": make_closeups(random_images(rng, summary["num_vertices"], 12, 14)),
            "history_svg": draw_history([{"step": 0.0, "loss": 2.0}, {"step": 1.0, "loss": 1.0}]),
            "samples_svg": "",
            "live": make_live(summary, None, None, 1),
            "comparison": comparison_rows(summary, of_digits=False),
            "command": "patchcollide collide --source a.jpg",
        } | changes
        return Page(render_page(**parts))

    return build


@pytest.fixture
def rng():
    return np.random.default_rng(20190908)


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
    names = ["source", "target", *(f"vertex-{number}" for number in range(num_vertices))]
    images = {name: png_of(random_images(rng, 224, 224)) for name in names}
    page = page_of(summary, images=images)
    held = [
        base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
        for uri in page.references
        if uri.startswith("data:image/png")
    ]
    assert [held.count(png) for png in images.values()] == [1] * len(images)
    assert len(page.html.encode()) < MAX_PAGE_BYTES


def test_every_number_of_the_summary_is_on_the_page(page_of):
    words = page_of().words.replace("\N{NARROW NO-BREAK SPACE}", " ")
    expected = [
        "church → cleaver", "0.999", "0.952", "of 1999 random", "98.71 %", "98.12 % to 99.13 %",
        "0.800", "0.797", "99.34 %", "7,212", "6,543", "37,538", "19.2 %", "98.56 %", "0.805",
        "7,211", "cleaver (499)", "0.812", "0.0123", "0.456", "7.89 %", "0.987", "317 steps",
        "because a validation batch collided", "retrieve 12.3", "optimise 345.6", "memory 2.3",
        "1234", "torch 2.99.1", "patchcollide 0.0.9", "a.layer", "a network", "(class 499)",
        "photos/church.jpg", "photos/cleaver.jpg", "21 images of the store", "22 images excluded",
        "23 else", "retrieval.k 77", 'retrieval.exclude ["*.gif"]', "8,597", "9,588",
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
    assert "One image was composed" in page.words
    assert "None" not in page.words


def test_a_run_on_pixels_has_no_neighbours(page_of, rng):
    names = ("source", "target", "vertex-0", "vertex-1")
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
        for name in ("source", "target", "vertex-0", "vertex-1")
    }
    parts = {"images": images, "closeups": make_closeups(random_images(rng, 2, 8, 8))}
    once = page_of(summary_of(), **parts)
    seconds = summary_of()["seconds"] | {"report": 9.9}
    assert page_of(summary_of(seconds=seconds), **parts).html == once.html


def test_an_incomplete_run_is_refused_with_what_it_lacks(page_of, rng):
    summary = summary_of()
    del summary["success_interval"]
    with pytest.raises(RunError, match=r"lacks something the page shows.*success_interval"):
        page_of(summary)
    with pytest.raises(RunError, match="needs the image 'source'"):
        page_of(images={})
    names = ("source", "target", "vertex-0", "vertex-1")
    with pytest.raises(RunError, match="image 'source' of the run is not a PNG"):
        page_of(images=dict.fromkeys(names, b"GIF89a"))


def test_each_unit_is_said_to_be_deepest_at_its_vertex_or_not(page_of):
    summary = summary_of()
    count = summary["num_vertices"]
    ranks = [{"unit": 40 + n, "rank": n + 1, "below_target": n != 1} for n in range(count)]
    words = page_of({**summary, "driven_units": ranks}).words
    assert "its unit, deepest here" in words
    assert "40: yes" in words
    assert "41: no, rank 2, shallower than at the target" in words
    assert f"units deepest at their own vertex 1 of {count}" in words
    assert "its unit" not in page_of({**summary, "driven_units": []}).words


def test_closeness_to_the_source_stands_beside_the_distance(page_of):
    close = {"distance_mean": 50.0, "distance_max": 60.0, "ssim_mean": 0.625, "ssim_min": 0.5}
    summary = {**summary_of(), "closeness": close | {"block_share": 0.25}}
    summary["dataset_distance_mean"] = 200.0
    words = page_of(summary).words
    assert "mean distance from the source 50 (25.0% of the data set's)" in words
    assert "SSIM to the source, mean/least 0.625 / 0.500" in words
