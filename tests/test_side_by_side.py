"""Runs side by side."""

import re

import pytest

from patchcollide.errors import RunError
from patchcollide.report.side_by_side import side_by_side


def summary_of(kind="patches", num_octaves=3, **changes):
    return {
        "parameterisation": kind,
        "network": "a network",
        "success_rate": 0.987,
        "target_probability": 0.95,
        "sample_probability_mean": 0.8,
        "vertex_distance_mean": 5000.0,
        "dataset_distance_mean": 20000.0,
        "visibility": {
            "ssim_mean": 0.61,
            "ssim_min": 0.52,
            "visible_share": 0.333,
            "octaves": [
                {"side_px": 2**octave, "share": 1 / num_octaves} for octave in range(num_octaves)
            ],
            "halved": [{"halvings": 0, "rms": 21.04}, {"halvings": 1, "rms": 9.0}],
        },
    } | changes


def tables(text):
    """Each table as a list of rows, each a dictionary by the names of the columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        )
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def test_every_run_has_a_row_in_each_table_and_patches_come_first():
    text = side_by_side({"a": summary_of("pixels"), "b": summary_of(), "c": summary_of("pixels")})
    for table in tables(text):
        assert [(row["run"], row["vary"]) for row in table] == [
            ("b", "patches"),
            ("a", "pixels"),
            ("c", "pixels"),
        ]


def test_figures_are_in_their_columns():
    headline, octaves, halvings = tables(side_by_side({"a": summary_of()}))
    (row,) = headline
    assert row["collide"].startswith("98.7")
    assert row["of data set"].startswith("25.0")
    assert (row["vertex L2"], row["SSIM, mean"], row["SSIM, least"]) == ("5000", "0.610", "0.520")
    assert row["pixels visibly different"].startswith("33.3")
    assert octaves[0]["4 px"].startswith("33.3")
    assert (halvings[0]["0"], halvings[0]["1"]) == ("21.0", "9.0")


def test_images_of_different_sizes_share_the_columns_they_have():
    text = side_by_side({"small": summary_of(num_octaves=2), "large": summary_of(num_octaves=5)})
    rows = {row["run"]: row for row in tables(text)[1]}
    assert rows["small"]["16 px"] == ""
    assert rows["large"]["16 px"].startswith("20.0")


def test_what_was_not_measured_is_said():
    bare = summary_of(dataset_distance_mean=None)
    bare["visibility"] = dict.fromkeys(("ssim_mean", "ssim_min", "visible_share"))
    bare["visibility"] |= {"octaves": [], "halved": []}
    row = tables(side_by_side({"a": bare}))[0][0]
    assert row["of data set"] == row["SSIM, mean"] == "not measured"


def test_a_bar_in_a_name_does_not_end_its_cell():
    (row,) = tables(side_by_side({"a|b": summary_of()}))[0]
    assert row["run"] == "a\\|b"


@pytest.mark.parametrize("lost", ["visibility", "success_rate", "parameterisation"])
def test_an_older_summary_is_refused(lost):
    old = summary_of()
    del old[lost]
    with pytest.raises(RunError, match=rf"summary of old lacks a figure .*{lost}.*evaluate"):
        side_by_side({"new": summary_of(), "old": old})
