"""Scripts that run within the process of the tests."""

import importlib
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr("patchcollide.progress.show", lambda _: None)
    return importlib.import_module


@pytest.fixture
def run(script, monkeypatch, capsys):
    def run_here(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        benchmark = script(name)
        benchmark.finish(benchmark.main)
        return json.loads(capsys.readouterr().out)

    return run_here
