"""A command is profiled function by function and operator by operator."""

import json
import pstats
from typing import Any

import pytest

from tests.helpers.commands import SETTINGS


@pytest.fixture
def profiled(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["profile"])
    return script("profile_command").profile_command


def test_functions_and_operators_of_a_command_are_written(profiled, write_images, tmp_path, capsys):
    words = ["index", str(write_images()), "--out", str(tmp_path / "store"), *SETTINGS]
    assert profiled(words) == 0
    assert (tmp_path / "store").exists()
    stats: Any = pstats.Stats(str(tmp_path / "profiles" / "index.pstats"))
    assert "write_store" in {name for _, _, name in stats.stats}
    trace = json.loads((tmp_path / "profiles" / "index.trace.json").read_text())
    assert any(event["name"].startswith("aten::") for event in trace["traceEvents"])
    told = capsys.readouterr().err
    assert "profiles/index.pstats" in told
    assert "profiles/index.trace.json" in told


def test_a_command_that_fails_is_profiled_with_its_exit_code(profiled, tmp_path, caplog):
    assert profiled(["verify", str(tmp_path / "nothing")]) == 2
    assert "is not a patch store" in caplog.text
    assert (tmp_path / "profiles" / "verify.pstats").exists()


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_without_a_command_the_usage_is_told(words, profiled, tmp_path, capsys):
    assert profiled(words) == 2
    assert "Usage: scripts/profile COMMAND" in capsys.readouterr().err
    assert not (tmp_path / "profiles").exists()
