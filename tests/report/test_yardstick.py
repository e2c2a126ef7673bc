"""The scale of features: everything in its place, and no label on another."""

import itertools

import numpy as np
import pytest

from patchcollide.report.yardstick import make_yardstick, place_labels
from tests.helpers.pages import summary_of, tightness_of
from tests.helpers.presence import present


@pytest.mark.parametrize("num_labels", [0, 1, 2, 9, 30])
def test_no_label_covers_another(num_labels, rng):
    for _ in range(20):
        lines = np.sort(rng.choice([rng.uniform(0, 900), 300.0, 899.0], num_labels)).tolist()
        widths = rng.uniform(20, 300, num_labels).tolist()
        placed = place_labels(lines, widths, 900)
        assert [label.line for label in placed] == lines
        assert not any(a.covers(b) for a, b in itertools.combinations(placed, 2))


def test_no_line_runs_behind_a_label_where_all_can_begin_at_their_lines(rng):
    for _ in range(50):
        lines = np.sort(rng.uniform(0, 600, 9)).tolist()
        placed = place_labels(lines, rng.uniform(20, 300, 9).tolist(), 900)
        assert not any(label.is_left for label in placed)
        assert not any(a.crosses(b) for a, b in itertools.combinations(placed, 2))


def test_no_line_runs_behind_a_label_that_has_to_end_at_its_own():
    lines = [0.0, 20.0, 339.0, 512.0, 664.0, 799.0, 876.0, 1251.0, 1327.0]
    widths = [90.0, 175.0, 150.0, 160.0, 172.0, 150.0, 90.0, 145.0, 108.0]
    placed = place_labels(lines, widths, 1356.0)
    pairs = list(itertools.combinations(placed, 2))
    assert not any(one.covers(other) or one.crosses(other) for one, other in pairs)
    assert [label.is_left for label in placed[-2:]] == [True, True]


def test_labels_stay_within_the_scale_where_they_fit():
    placed = place_labels([0.0, 50.0, 899.0, 900.0], [100.0] * 4, 900)
    assert [label.is_left for label in placed] == [False, False, True, True]
    assert all(label.left >= 0 and label.right <= 900 for label in placed)


def test_marks_stand_in_the_order_of_their_distances():
    found = present(make_yardstick(summary_of(tightness=tightness_of())))
    texts = [mark.label for mark in found.marks]
    assert texts == [
        "the target: 0",
        "rounding to 8 bits: 0.03",
        "vertices and all samples between: 0.032 to 0.37",
        "moved by 4 px: 0.27",
        "asked for: 0.4",
        "mirrored: 0.69",
        "another image of its class: 0.98",
        "no response at all: 1",
        "random images: 1.4",
    ]
    end = 1.02 * 1.354
    assert found.high == pytest.approx(100 * 0.3649 / end)
    assert found.low == pytest.approx(100 * 0.0321 / end)
    assert all(0 <= mark.place <= 100 for mark in found.marks)


def test_what_was_not_asked_for_or_is_infinitely_far_is_not_marked():
    block = tightness_of(asked=False, floor=None)
    block["yardstick"]["target mirrored"] = None
    found = present(make_yardstick(summary_of(1, tightness=block)))
    texts = " ".join(mark.label for mark in found.marks)
    assert "the vertex: 0.032 to 0.37" in texts
    assert not any(word in texts for word in ("asked", "rounding", "mirrored", "None", "inf"))


def test_images_without_another_of_the_class_are_said_to_have_none():
    block = tightness_of()
    assert present(make_yardstick(summary_of(tightness=block))).missing == ""
    del block["yardstick"]["another image of its class"]
    found = present(make_yardstick(summary_of(tightness=block)))
    assert found.missing == "another image of its class"
    # Where no images were measured, nothing is said of what they have.
    del block["yardstick"]["random images, median"]
    assert present(make_yardstick(summary_of(tightness=block))).missing == ""


def test_runs_without_tightness_have_no_yardstick():
    assert make_yardstick(summary_of()) is None
    block = tightness_of()
    block["hull"]["tau_max"] = None
    assert make_yardstick(summary_of(tightness=block)) is None
