"""How far work has come is told in lines where there is no terminal, and in a file of JSON."""

import logging
import time

import pytest
from typer.testing import CliRunner

from patchcollide import progress
from patchcollide.cli import framework
from patchcollide.cli.framework import app
from patchcollide.errors import ConfigError, ImageError
from patchcollide.pace import Pace
from tests.helpers.archives import write_as
from tests.helpers.indexed_stores import WORDS
from tests.helpers.records import last_of, records


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_pace_tells_items_figures_and_the_time_left():
    clock = Clock()
    pace = Pace("Moving the vertices", 400, clock)
    assert pace.line() == "Moving the vertices: 0 of 400"
    pace.done, clock.now = 100, 130.0
    pace.note(step=300, loss=0.123456, tau=None)
    assert pace.line() == "Moving the vertices: 100 of 400, step 300, loss 0.1235, 1.5 min left"
    pace.note(tau=0.4, loss=float("inf"))
    assert pace.record() == {
        "event": "progress",
        "label": "Moving the vertices",
        "done": 100,
        "total": 400,
        "seconds_left": 90.0,
        "step": 300,
        "loss": None,
        "tau": 0.4,
    }
    assert Pace("Storing", 3, clock).record()["step"] == 0
    pace.done = 400
    assert pace.line() == "Moving the vertices: 400 of 400, step 300, loss inf, tau 0.4"


def work(items, seconds):
    for item in progress.track(items, "Working", len(items)):
        time.sleep(seconds)
        progress.note(loss=float(item))


def test_a_line_comes_while_an_item_takes_long_and_none_for_short_work(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.05)
    progress.show(logging.INFO)
    work([1, 2], 0.18)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Working: 0 of 2"
    assert lines[-1].startswith("Working: 1 of 2, loss 1, ")
    monkeypatch.setattr(progress, "LINE_EVERY_S", 30.0)
    work([1, 2], 0.01)
    assert not capsys.readouterr().err


def test_a_quiet_command_and_a_library_tell_nothing(monkeypatch, capsys, caplog):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.02)
    progress.show(logging.WARNING)
    work([1], 0.1)
    assert not capsys.readouterr().err
    monkeypatch.setattr(progress, "_bars_wanted", False)
    work([1], 0.1)
    assert not caplog.text


def test_figures_belong_to_the_innermost_work():
    seen = []
    for _ in progress.track(range(2), "Outer", 2):
        for _ in progress.track(range(2), "Inner", 2):
            progress.note(loss=1.0)
        progress.note(tau=0.5)
        pace = progress._pace.get()
        seen.append(pace and (pace.label, pace.figures))
    assert seen == [("Outer", {"tau": 0.5})] * 2
    assert progress._pace.get() is None


def test_work_that_is_broken_off_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(progress, "_bars_wanted", True)
    for _ in progress.track(range(5), "Working", 5):
        break
    assert progress._pace.get() is None


def test_a_command_adds_what_it_says_and_does_to_a_file_of_json(write_images, tmp_path):
    source, out = write_as("tar", write_images("photos"), tmp_path / "x"), tmp_path / "store"
    words = ["index", str(source), "--out", str(out), "--log-json", str(tmp_path / "log"), *WORDS]
    assert CliRunner().invoke(app, words).exit_code == 0
    found = records(tmp_path / "log")
    assert all(record["time"].endswith("+00:00") for record in found)
    shards = [record for record in found if record.get("label") == "Storing images, by shard"]
    assert (shards[-1]["done"], shards[-1]["total"]) == (2, 2)
    assert last_of(tmp_path / "log", "Listing archives")["step"] == 1
    said = [record["message"] for record in found if record["event"] == "log"]
    assert f"{out} holds 6 images, 0 of them unreadable." in said
    before = len(found)
    source.unlink()
    assert CliRunner().invoke(app, words).exit_code == 2
    *_, last = records(tmp_path / "log")
    assert len(records(tmp_path / "log")) > before
    assert last["level"] == "error"
    assert last["message"].startswith("ImageError: Expected a folder of images")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    told = r"--log-json .*, but: Is a directory"
    with pytest.raises(ConfigError, match=told), progress.recording(tmp_path):
        pass
    words = ["verify", str(tmp_path), "--log-json", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 2


def test_commands_within_commands_tell_the_same_file(tmp_path):
    with progress.recording(tmp_path / "log"):
        with pytest.raises(ImageError):
            framework.run_in_process(["index", str(tmp_path / "no"), "--out", str(tmp_path / "s")])
        progress.logger.warning("after")
    assert records(tmp_path / "log")[-1]["message"] == "after"
    assert progress._records is None
