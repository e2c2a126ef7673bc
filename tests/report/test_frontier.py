"""A frontier as table and figure."""

import copy
from pathlib import Path
from typing import cast, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchcollide.errors import RunError
from patchcollide.evaluation.frontier import (
    Frontier,
    FrontierPoint,
    farthest_within,
    frontier_point,
)
from patchcollide.evaluation.summary import Summary
from patchcollide.formats import NOT_MEASURED, as_percent
from patchcollide.io.files import read_json
from patchcollide.report import frontier as drawing
from patchcollide.report.frontier import frontier_lines, write_frontier_chart

# Two of the four points that `patchcollide frontier` wrote of digits when the format was new.
GOLDEN = Path(__file__).parent.parent / "golden" / "frontier-v1" / "frontier.json"


@pytest.fixture
def frontier():
    return read_json(GOLDEN, error=RunError)


def rows(frontier):
    lines = [line for line in frontier_lines(frontier) if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_document_is_what_its_type_says(frontier):
    assert frontier.keys() - {"digest"} == get_type_hints(Frontier).keys()
    assert frontier["points"][0].keys() == FrontierPoint.__required_keys__


def test_the_table_says_whether_a_bound_holds_and_what_distances_are_of_the_data_sets(frontier):
    loose, tight = rows(frontier)
    assert loose[:6] == ["0.3", "0.272", "0.276", "yes", "100 %".replace(" ", "\u202f"), "1.000"]
    point = frontier["points"][0]
    share = 100 * point["vertex_distance"] / frontier["dataset_distance"]
    assert loose[6:8] == [f"{point['vertex_distance']:.0f}", f"{share:.1f}\u202f%"]
    assert tight[3] == "yes"
    frontier["points"][1]["tau"]["max"] = 0.2000001
    assert rows(frontier)[1][3] == "no"


def test_what_holds_a_tight_bound_counts_for_looser_ones(frontier):
    loose, tight = frontier["points"]
    loose["vertex_distance"], tight["vertex_distance"] = 1000.0, 1500.0
    assert [row[8] for row in rows(frontier)] == ["1500", "1500"]
    loose["vertex_distance"] = 2000.0
    assert [row[8] for row in rows(frontier)] == ["2000", "1500"]
    # What misses its own bound may hold a looser one; at the bound is within it.
    tight["tau"]["max"] = loose["tightness"]
    loose["tau"]["max"] = 0.9
    assert [row[8] for row in rows(frontier)] == ["1500", "none"]
    tight["tau"]["max"] = None
    assert [row[8] for row in rows(frontier)] == ["none"] * 2


@given(
    st.lists(st.tuples(st.none() | st.floats(0, 1), st.integers(0, 9)), max_size=9),
    st.floats(0, 1),
)
def test_the_farthest_is_that_of_a_loop(found, bound):
    points = [
        cast(FrontierPoint, {"tau": {"mean": 0.0, "max": tau}, "vertex_distance": distance})
        for tau, distance in found
    ]
    expected = None
    for point, (tau, distance) in zip(points, found, strict=True):
        holds = tau is not None and tau <= bound
        if holds and (expected is None or distance > expected["vertex_distance"]):
            expected = point
    assert farthest_within(points, bound) is expected


def test_what_was_not_measured_is_no_number(frontier, tmp_path):
    assert "the source (asked: at most 785)" in frontier_lines(frontier)[-1]
    frontier["dataset_distance"] = frontier["source_bound"] = None
    frontier["points"][0]["tau"] = {"mean": None, "max": None}
    loose, _ = rows(frontier)
    assert {loose[place] for place in (1, 2, 7, 10)} == {NOT_MEASURED}
    assert loose[3] == "no"
    assert "the data set's is not measured" in frontier_lines(frontier)[-1]
    assert "(asked:" not in frontier_lines(frontier)[-1]
    write_frontier_chart(tmp_path / "chart.png", frontier)


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_equal_frontiers_give_equal_files_and_others_others(frontier, tmp_path, suffix):
    other = copy.deepcopy(frontier)
    other["points"][0]["source_distance"] *= 1.5
    written = []
    for number, each in enumerate((frontier, frontier, other)):
        path = tmp_path / f"{number}.{suffix}"
        write_frontier_chart(path, each)
        written.append(path.read_bytes())
    assert written[0] == written[1] != written[2]


def test_each_panel_shows_its_numbers_within_its_axes(frontier, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "write_figure", lambda figure, _: drawn.append(figure))
    write_frontier_chart(tmp_path / "chart.png", frontier)
    distances, features, classes = drawn[0].axes
    data, points = frontier["dataset_distance"], frontier["points"]
    kinds = ("vertex_distance", "source_distance")
    for axes, expected in (
        (distances, [[p[kind] / data for p in points] for kind in kinds]),
        (features, [[p["tau"][kind] for p in points] for kind in ("max", "mean")]),
        (classes, [[p[kind] for p in points] for kind in ("success_rate", "probability")]),
    ):
        assert axes.lines[-1].get_linestyle() == ":"
        for line, values in zip(axes.lines, expected, strict=False):
            np.testing.assert_allclose(line.get_ydata(), values)
            np.testing.assert_allclose(line.get_xdata(), [p["tightness"] for p in points])
            assert axes.get_ylim()[0] <= min(values)
            assert max(values) < axes.get_ylim()[1]


def test_what_is_seen_of_the_difference_has_columns_and_a_panel(frontier, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "write_figure", lambda figure, _: drawn.append(figure))
    for number, point in enumerate(frontier["points"]):
        point |= {"block_share": 0.71 + number / 100, "vertex_ssim": 0.4, "source_ssim": 0.6}
    write_frontier_chart(tmp_path / "chart.png", frontier)
    seen = drawn[0].axes[3]
    for line, value in zip(seen.lines[1:], (0.4, 0.6), strict=True):
        assert set(line.get_ydata()) == {value}
    lines = "\n".join(frontier_lines(frontier))
    assert "kept by blocks | SSIM of vertices | SSIM to source" in lines
    assert f"| {as_percent(0.71)} | 0.400 | 0.600 |" in lines


def test_the_distance_from_the_source_is_the_mean_over_vertices(rng):
    source = rng.integers(0, 256, (3, 4, 1), dtype=np.uint8)
    vertices = rng.integers(0, 256, (2, 3, 4, 1), dtype=np.uint8)
    summary = {
        "certificate": {"hull": {}},
        "success_rate": 1.0,
        "sample_class_probability_mean": 0.5,
        "vertex_distance_mean": 3.0,
        "steps": 7,
        "seconds": {"optimise": 2.0, "report": 5.0},
        "stopped_because": "over",
    }
    found = frontier_point(0.1, "run", cast(Summary, summary), vertices, source)
    expected = 0.0
    for vertex in vertices:
        squares = [(int(a) - int(b)) ** 2 for a, b in zip(vertex.flat, source.flat, strict=True)]
        expected += sum(squares) ** 0.5 / 2
    assert found["source_distance"] == pytest.approx(expected)
    assert found["seconds"] == 2.0
    assert found["tau"] == {"mean": None, "max": None}
