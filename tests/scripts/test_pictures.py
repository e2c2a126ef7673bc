"""Pictures in README and guide are of today's pages."""

import json
from typing import Any

import pictures
import pytest
from pictures import DATA, DIGEST_FILE, NAMES, drawing_digest

from patchcollide import report
from patchcollide.io.provenance import file_digest
from patchcollide.report.headlines import figure_title

HOW = "Make them again: `python scripts/pictures.py runs/demo`, after `scripts/demo`."


def test_pictures_are_not_older_than_what_they_show():
    assert json.loads((DATA / DIGEST_FILE).read_text())["drawing"] == drawing_digest(), HOW


def test_pictures_are_those_that_the_script_made():
    kept = json.loads((DATA / DIGEST_FILE).read_text())["pictures"]
    assert kept == {name: file_digest(DATA / name) for name in NAMES}, HOW


def test_what_is_drawn_otherwise_has_another_digest(monkeypatch, tmp_path):
    (tmp_path / "style.css").write_text("a {}")
    monkeypatch.setattr(report, "__file__", str(tmp_path / "__init__.py"))
    before = drawing_digest()
    (tmp_path / "style.css").write_text("b {}")
    assert drawing_digest() != before


@pytest.mark.parametrize("verdict", ["feature collision", "class collision", "none"])
def test_the_picture_of_a_run_is_titled_by_its_verdict(verdict, monkeypatch, tmp_path):
    summary: Any = {"network": "N", "layer": "l", "tightness": {"verdict": verdict}}
    drawn = []
    monkeypatch.setattr(pictures, "read_summary", lambda _: summary)
    monkeypatch.setattr(pictures, "write_run_differences", lambda *given: drawn.append(given[2]))
    run: Any = None
    pictures.draw_collision(run, tmp_path / "demo.png")
    assert drawn == [figure_title(summary)]
