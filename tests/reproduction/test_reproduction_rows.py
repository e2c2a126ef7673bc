"""Rows: what ships, what is refused, what is skipped, and when a number is near enough."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from patchcollide import pipeline
from patchcollide.cli import runs
from patchcollide.cli.framework import app
from patchcollide.errors import ConfigError, ImageError, NetworkError
from patchcollide.images import digits
from patchcollide.networks.models import training
from patchcollide.report.tables import PAPER_ROWS
from patchcollide.reproduction.inputs import Inputs
from patchcollide.reproduction.measures import Missing, index_statistics
from patchcollide.reproduction.results import aligned, bounds, check, shown
from patchcollide.reproduction.rows import TABLES, Metric, builtin_rows, load_rows, select_rows

GOOD = """
table = "table6"
title = "A row"

[quick]
commands = ["collide --out {out}"]
minutes = 1
hardware = "any"

[[quick.metrics]]
name = "success_rate"
paper = 1.0
"""
MLP_ACCURACY = 0.9664
SHIPPED = [row for quick in (False, True) for row in load_rows(builtin_rows(), quick=quick)]


def imagenet_like(folder, **sizes):
    """Folders of classes with files that only look like pictures."""
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        for number in range(size):
            (folder / name / f"{name}_{number}.JPEG").write_bytes(b"not a picture")
    return folder


@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: row.key)
def test_every_row_that_ships_can_be_run_as_it_is_printed(row, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(pipeline, "collide", lambda *words: calls.append(words))
    monkeypatch.setattr(pipeline, "index", lambda *words: calls.append(words))
    monkeypatch.setattr(pipeline, "find_exact", lambda c, t, out, **_: calls.append((c, t, t, out)))
    monkeypatch.setattr(digits, "read_digits", lambda *_: None)
    monkeypatch.setattr(digits, "write_digits", lambda *words: calls.append(words))
    monkeypatch.setattr(training, "train", lambda *words: calls.append(words))
    monkeypatch.setattr(runs, "_show_run", lambda _: None)
    for words in Inputs(tmp_path).commands(row):
        result = CliRunner().invoke(app, [*words, "--debug"])
        assert result.exit_code == 0, result.output
    assert len(calls) == len(row.variant.commands)
    if calls:
        config, *_, out = calls[-1][:4]
        assert out == tmp_path / row.key
        assert config.allow_same_image == (row.name in ("table2_row1", "table6_row1"))


@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: row.key)
def test_the_rows_that_ship_carry_the_papers_numbers(row):
    paper = {metric.name: metric.paper for metric in row.variant.metrics}
    if row.table == "index":
        numbers = {"positions": 289, "positions_authors": 289, "images": 128_066}
        assert paper == numbers | {"patches": 128_066 * 289}
    elif not row.origin:
        assert set(paper.values()) <= {None, MLP_ACCURACY}
    else:
        (printed,) = (printed for printed in PAPER_ROWS if printed.origin == row.origin)
        known = {
            "success_rate": printed.success_rate,
            "target_probability": printed.target_probability,
            "sample_probability": printed.sample_probability,
            "sample_probability_share": printed.sample_probability / printed.target_probability,
            "dataset_distance": printed.dataset_distance,
            "vertex_distance": printed.vertex_distance,
            "vertex_distance_share": printed.distance_share,
            "test_accuracy": None if row.quick else MLP_ACCURACY,
        }
        assert paper == pytest.approx({name: known[name] for name in paper}, abs=5e-4)


def test_the_index_is_checked_first():
    assert [row.name for row in SHIPPED[:2]] == ["00_index_statistics", "table2_row1"]
    assert all(row.table in TABLES for row in SHIPPED)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('table = "table6"', 'table = "table7"', r"row\.toml: table = 'table7': input should be"),
        ('title = "A row"', "", r"row\.toml: the setting title is missing"),
        ("minutes", "minuets", r"unknown setting quick\.minuets; did you mean quick\.minutes"),
        ("paper = 1.0", "", r"quick: the metric 'success_rate' needs paper or expected"),
        ("paper = 1.0", "paper = '1'", r"quick\.metrics\.0\.paper = '1': input should be"),
        ("paper = 1.0", "paper = nan", r"quick\.metrics\.0\.paper = nan: input should be a finite"),
        ("success_rate", "sucess", r"unknown metric 'sucess'; measure = \"run\" knows success"),
        ("{out}", "{out} {nowhere}", r"unknown placeholder \{nowhere\}; known are configs"),
        ("{out}", "{out} {", r"the command 'collide --out \{out\} \{' cannot be read"),
        ("{out}", "{out} 'a", r"the command .* cannot be read: No closing quotation"),
        ("{out}", "here", r"the last command should make the run --out \{out\}"),
        ('["collide --out {out}"]', "[]", r"found 0 commands with measure = \"run\""),
        ("minutes = 1", "minutes = -1", r"quick\.minutes = -1: input should be greater"),
        ("minutes = 1", "minutes = 1\nneeds = ['gold']", r"unknown need 'gold'; known are image"),
        ("title", "title = ", r"row\.toml is not a readable TOML file"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_refused_with_file_and_place(old, new, message, tmp_path):
    (tmp_path / "row.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_rows(tmp_path, quick=True)


def test_a_row_is_refused_also_for_its_other_variant(tmp_path):
    (tmp_path / "row.toml").write_text(GOOD.replace("success_rate", "sucess"))
    with pytest.raises(ConfigError, match="quick: unknown metric 'sucess'"):
        load_rows(tmp_path, quick=False)
    (tmp_path / "row.toml").write_text('table = "table6"\ntitle = "A row"\n')
    with pytest.raises(ConfigError, match=r"expected a section \[full\] or \[quick\]"):
        load_rows(tmp_path, quick=False)


def test_a_folder_without_rows_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Expected rows to reproduce .* but found none"):
        load_rows(tmp_path, quick=False)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], ["a4", "a6", "b6"]),
        (["table6"], ["a6", "b6"]),
        (["a4"], ["a4"]),
        (["b*", "a4"], ["a4", "b6"]),
        (["table?"], ["a4", "a6", "b6"]),
    ],
)
def test_rows_are_chosen_by_table_name_or_pattern(patterns, names, tmp_path):
    for name in ("a6", "b6", "a4"):
        (tmp_path / f"{name}.toml").write_text(GOOD.replace("table6", f"table{name[1]}"))
    rows = select_rows(load_rows(tmp_path, quick=True), patterns)
    assert [row.name for row in rows] == names


def test_a_pattern_that_names_nothing_is_refused_with_what_there_is(tmp_path):
    (tmp_path / "a6.toml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"--only table7: there is no .* There are table6, a6\."):
        select_rows(load_rows(tmp_path, quick=True), ["table6", "table7"])


@pytest.mark.parametrize(
    ("settings", "value", "result", "expected"),
    [
        ({"paper": 1.0}, 1.0, "OK", "1.000 (paper's)"),
        ({"paper": 1.0}, 0.999, "FAIL (too low)", "1.000 (paper's)"),
        ({"paper": 1.0, "expected": 0.5, "tolerance": 0.1}, 0.6, "OK", "0.500 ± 0.1"),
        ({"paper": 1.0, "expected": 0.5, "tolerance": 0.1}, 0.61, "FAIL (too high)", "0.500 ± 0.1"),
        ({"expected": 200.0, "tolerance": 0.1, "relative": True}, 219.0, "OK", "200 ± 10%"),
        ({"expected": 0.9, "direction": "at least"}, 7.0, "OK", "≥ 0.900"),
        ({"expected": 0.9, "direction": "at least"}, 0.89, "FAIL (too low)", "≥ 0.900"),
        ({"expected": 0.9, "direction": "at most", "tolerance": 0.05}, -1.0, "OK", "≤ 0.950"),
        ({"expected": 0.9, "direction": "at most"}, 0.91, "FAIL (too high)", "≤ 0.900"),
        ({"expected": 0.9, "direction": "at most"}, math.nan, "FAIL (not a number)", "≤ 0.900"),
        ({"paper": 289.0}, Missing("no data"), "SKIPPED (no data)", "289 (paper's)"),
    ],
)
def test_a_number_is_compared_in_its_direction(settings, value, result, expected):
    found = check(Metric.model_validate({"name": "success_rate", **settings}), value)
    assert (found.result, found.expected) == (result, expected)


@pytest.mark.parametrize(
    ("value", "obtained"), [(0.9995, "0.9995"), (0.99, "0.990"), (0.9999999, "0.9999999")]
)
def test_a_number_that_fails_is_not_told_as_its_bound(value, obtained):
    metric = Metric(name="success_rate", expected=1.0, direction="at least")
    assert check(metric, value).obtained == obtained


@given(st.floats(-1e6, 1e6), st.floats(0, 10), st.booleans())
def test_what_is_expected_is_always_near_enough(expected, tolerance, relative):
    for direction in ("within", "at least", "at most"):
        metric = Metric(
            name="steps",
            expected=expected,
            tolerance=tolerance,
            relative=relative,
            direction=direction,
        )
        low, high = bounds(metric)
        assert low <= expected <= high
        assert check(metric, expected).status == "OK"


@pytest.mark.parametrize(
    ("value", "text"),
    [(128066, "128,066"), (1.0, "1.000"), (0.12345, "0.123"), (37538.22, "37,538.22"), (8, "8"),
     (math.inf, "inf")],
)  # fmt: skip
def test_numbers_are_shown_as_tables_have_them(value, text):
    assert shown(value) == text


def test_columns_stand_below_each_other():
    assert aligned([("a", "bb", ""), ("ccc", "d", "e")]) == ["a    bb", "ccc  d   e"]


def test_a_tenth_of_each_class_is_counted_without_reading_a_picture(tmp_path):
    folder = imagenet_like(tmp_path / "imagenet", n1=20, n2=39, n3=9)
    found = index_statistics(folder, "no ImageNet")
    assert (found["images"], found["positions"], found["patches"]) == (5, 289, 5 * 289)


def test_without_imagenet_only_positions_are_known():
    found = index_statistics(None, "no ImageNet")
    assert (found["images"], found["patches"]) == (Missing("no ImageNet"),) * 2
    assert found["positions"] == 289


@pytest.fixture
def full(monkeypatch, tmp_path):
    """Rows on ImageNet, where no weights were downloaded."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return {row.name: row for row in SHIPPED if not row.quick}


def test_what_a_row_lacks_is_said_one_after_the_other(full, tmp_path):
    row, folder = full["table6_row2"], imagenet_like(tmp_path / "imagenet", n03041632=2)
    assert "no ImageNet: give --imagenet FOLDER" in Inputs(tmp_path).lacking(row)
    lacking = Inputs(tmp_path, folder).lacking(row)
    assert lacking == f"no source: {folder / 'n03028079' / 'n03028079_3255.JPEG'} is not there"
    (folder / "n03028079").mkdir()
    (folder / "n03028079" / "n03028079_3255.JPEG").touch()
    assert "no weights of VGG-16: give --weights FILE, or" in Inputs(tmp_path, folder).lacking(row)
    assert Inputs(tmp_path, folder, download=True).lacking(row) == ""
    assert Inputs(tmp_path, folder, weights=tmp_path / "w.pth").lacking(row) == ""
    words = Inputs(tmp_path, folder, weights=tmp_path / "a b.pth").commands(row)[-1]
    assert str(tmp_path / "a b.pth") in words
    assert str(folder / "n03041632" / "n03041632_0.JPEG") in words


def test_weights_that_were_downloaded_before_are_used(full, tmp_path):
    path = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    words = Inputs(tmp_path).commands(full["table4_row1"])[-1]
    assert words[words.index("--weights") + 1] == "pretrained"


def test_a_store_that_is_there_is_used_for_imagenet_only(full, tmp_path):
    inputs = Inputs(tmp_path, store=tmp_path / "mine")
    quick = next(row for row in SHIPPED if row.key == "table6_row1-quick")
    assert inputs.store_of(full["table6_row1"]) == tmp_path / "mine"
    assert inputs.store_of(quick) == tmp_path / "store-quick"


def test_what_is_given_must_be_there(tmp_path):
    with pytest.raises(ImageError, match=r"--imagenet .*nowhere is not a folder"):
        Inputs(tmp_path, imagenet=tmp_path / "nowhere").require()
    with pytest.raises(NetworkError, match=r"--weights .*nowhere is not a file"):
        Inputs(tmp_path, weights=tmp_path / "nowhere").require()
    Inputs(tmp_path, imagenet=tmp_path).require()
    assert np.all([not path.exists() for path in (tmp_path / "store",)])
