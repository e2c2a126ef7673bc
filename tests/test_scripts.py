"""The scripts fail with a sentence that helps."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run_bash(code: str, cwd: Path, path: str) -> subprocess.CompletedProcess[str]:
    bash = shutil.which("bash")
    assert bash is not None
    environment = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [bash, "-c", f". {ROOT}/scripts/environment.sh; {code}"],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def write_tool(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_without_a_new_enough_python_the_script_says_what_is_needed(project):
    write_tool(project / "bin", "python3", "exit 1")
    done = run_bash("find_python", project, str(project / "bin"))
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "PYTHON=" in done.stderr


def test_without_disk_the_script_says_how_much_is_needed(project):
    write_tool(project / "bin", "df", "echo header; echo disk 9 9 1000 9 /")
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    done = run_bash("set -eu; make_environment cpu", project, path)
    assert done.returncode == 2
    assert "needs 8 GB of free disk" in done.stderr
    assert not (project / ".venv").exists()


def test_a_finished_environment_is_not_made_again(project):
    (project / ".venv").mkdir()
    run_bash(
        'echo "$PWD $(cksum < pyproject.toml) cpu,test" > .venv/complete',
        project,
        os.environ["PATH"],
    )
    for extras in ("cpu", "cpu,test"):
        done = run_bash(f"set -eu; make_environment {extras}", project, os.environ["PATH"])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
