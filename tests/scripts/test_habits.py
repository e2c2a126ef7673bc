"""What is looked at before a commit exists, and tests that take too long fail the run."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests import conftest

ROOT = Path(__file__).parent.parent.parent
HOOKS = [
    hook
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_command_of_a_hook_exists(hook):
    tool, *words = hook["entry"].split()
    assert tool.startswith(".venv/bin/")
    # These tests run in an environment that scripts/test made, whatever its folder is.
    assert (Path(sys.executable).parent / Path(tool).name).exists()
    for word in words:
        if word.startswith("tests/"):
            file, _, name = word.partition("::")
            assert f"def {name}" in (ROOT / file).read_text()


def test_hooks_look_at_what_scripts_test_looks_at():
    checks = re.findall(r'\$environment/bin/(ruff" \w+|mypy)', (ROOT / "scripts/test").read_text())
    entries = [hook["entry"] for hook in HOOKS]
    assert len(checks) == 3
    for check in checks:
        assert any(check.replace('"', "") in entry for entry in entries)


def finish(seconds, *, load, monkeypatch, more=None):
    """Returns the status of a run of one test that took so many seconds of a processor."""
    report = SimpleNamespace(nodeid="a", user_properties=[("processor seconds", seconds)])
    reporter = SimpleNamespace(getreports=lambda _: [report])
    plugins = SimpleNamespace(get_plugin={"terminalreporter": reporter, **(more or {})}.get)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    session: Any = SimpleNamespace(
        exitstatus=pytest.ExitCode.OK, config=SimpleNamespace(pluginmanager=plugins)
    )
    conftest.pytest_sessionfinish(session)
    return session.exitstatus


@pytest.mark.parametrize(
    ("seconds", "load", "status"),
    [
        (conftest.SECONDS_ENDURED - 0.1, 0, pytest.ExitCode.OK),
        (conftest.SECONDS_ENDURED + 0.1, 0, pytest.ExitCode.TESTS_FAILED),
        (conftest.SECONDS_ENDURED + 0.1, 10_000, pytest.ExitCode.OK),
    ],
)
def test_a_test_without_the_mark_that_takes_too_long_fails_the_run(
    seconds, load, status, monkeypatch
):
    assert finish(seconds, load=load, monkeypatch=monkeypatch) == status


def test_where_coverage_is_measured_tests_may_take_longer(monkeypatch):
    seconds, more = 10 * conftest.SECONDS_ENDURED, {"_cov": object()}
    assert finish(seconds, load=0, monkeypatch=monkeypatch, more=more) == pytest.ExitCode.OK
