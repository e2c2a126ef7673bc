"""Runs side by side."""

import re

import pytest

from patchcollide.errors import RunError
from patchcollide.report.side_by_side import side_by_side


def summary_of(kind="patches", num_bands=3, **changes):
    return {
        "parameterisation": kind,
        "network": "a network",
        "success_rate": 0.987,
        "target_probability": 0.95,
        "sample_probability_mean": 0.8,
        "vertex_distance_mean": 5000.0,
        "dataset_distance_mean": 20000.0,
        "visibility": {
            "coarse_rms": 12.34,
            "coarse_share": 0.45,
            "coarse_px": 4.0,
            "ssim_mean": 0.61,
            "ssim_min": 0.52,
            "visible_share": 0.333,
            "bands": [{"side_px": 2**band, "share": 0.9 / num_bands} for band in range(num_bands)],
            "mean_colour_share": 0.1,
            "yardsticks": {
                "noise": {"coarse_rms": 2.7, "ssim_mean": 0.36},
                "brightness": {"coarse_rms": 40.0, "ssim_mean": 0.96},
            },
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
    headline, bands, halvings = tables(side_by_side({"a": summary_of()}))
    (row,) = headline
    assert row["in class"].startswith("98.7")
    assert row["of data set"].startswith("25.0")
    assert (row["vertex L2"], row["SSIM, mean"], row["SSIM, least"]) == ("5000", "0.610", "0.520")
    assert row["pixels that differ by more than 8"].startswith("33.3")
    assert (row["SSIM with noise of 12"], row["SSIM brighter by 40"]) == ("0.360", "0.960")
    coarse = ("coarse difference", "with noise of 12", "brighter by 40")
    assert [row[name] for name in coarse] == ["12.3", "2.7", "40.0"]
    assert bands[0]["4 px"].startswith("30.0")
    assert bands[0]["mean colour"].startswith("10.0")
    assert (halvings[0]["0"], halvings[0]["1"]) == ("21.0", "9.0")


def test_images_of_different_sizes_share_the_columns_they_have():
    text = side_by_side({"small": summary_of(num_bands=2), "large": summary_of(num_bands=5)})
    rows = {row["run"]: row for row in tables(text)[1]}
    assert rows["small"]["16 px"] == ""
    assert rows["large"]["16 px"].startswith("18.0")


def test_what_was_not_measured_is_said():
    bare = summary_of(dataset_distance_mean=None)
    names = ("ssim_mean", "ssim_min", "visible_share", "coarse_rms", "mean_colour_share")
    bare["visibility"] = dict.fromkeys(names) | {"bands": [], "halved": []}
    row = tables(side_by_side({"a": bare}))[0][0]
    assert row["of data set"] == row["SSIM, mean"] == "not measured"


def test_runs_of_the_first_version_show_what_they_measured():
    old = summary_of()
    for name in ("bands", "mean_colour_share", "coarse_rms", "yardsticks"):
        del old["visibility"][name]
    old["visibility"]["octaves"] = [{"side_px": 4, "share": 0.72}]
    headline, bands, _ = tables(side_by_side({"old": old, "new": summary_of()}))
    assert bands[0]["blocks of 4 px"].startswith("72.0")
    assert bands[0]["4 px"] == bands[1]["blocks of 4 px"] == ""
    assert headline[0]["coarse difference"] == "not measured"


def test_a_bar_in_a_name_does_not_end_its_cell():
    (row,) = tables(side_by_side({"a|b": summary_of()}))[0]
    assert row["run"] == "a\\|b"


@pytest.mark.parametrize("lost", ["visibility", "success_rate", "parameterisation"])
def test_an_older_summary_is_refused(lost):
    old = summary_of()
    del old[lost]
    with pytest.raises(RunError, match=rf"summary of old lacks a figure .*{lost}.*evaluate"):
        side_by_side({"new": summary_of(), "old": old})
