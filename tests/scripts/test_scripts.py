"""The scripts fail with a sentence that helps."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


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
    (tmp_path / "scripts").mkdir()
    for name in ("constraints.txt", "environment.sh", "test"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
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


FINGERPRINT = "$PWD $(cat pyproject.toml scripts/constraints.txt | cksum)"
COMPLETE = {
    "pinned": (".venv", f"{FINGERPRINT} cpu,test"),
    "newest": (".venv-newest", f"{FINGERPRINT} $(date +%F) cpu,test"),
    "lowest": (".venv-lowest", f"{FINGERPRINT} cpu,test"),
}


@pytest.mark.parametrize("versions", COMPLETE)
def test_a_finished_environment_is_not_made_again(versions, project):
    folder, content = COMPLETE[versions]
    (project / folder).mkdir()
    run_bash(f'echo "{content}" > {folder}/complete', project, os.environ["PATH"])
    for extras in ("cpu", "cpu,test"):
        code = f"set -eu; make_environment {extras} {versions}; echo $environment"
        done = run_bash(code, project, os.environ["PATH"])
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder}\n", "")


FAKE_PYTHON = """\
case "$*" in
    *"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip" ;;
    "venv "*) mkdir -p "$5/bin"; cp "$0" "$5/bin/python" ;;
    *"-m pip"*" uv") cp "$(dirname "$0")/python" "$(dirname "$0")/uv" ;;
esac
echo "${0##*/} $* [${PIP_CONSTRAINT:-} ${PIP_BUILD_CONSTRAINT:-}]" >> "$CALLS"\
"""


def calls_of_installation(project: Path, versions: str, *tools: str) -> list[str]:
    """Returns what an installation into a new environment calls, with tools that only note it."""
    folder = project / "bin"
    write_tool(folder, "df", "echo header; echo disk 9 9 9000000 9 /")
    for name in tools:
        write_tool(folder, name, FAKE_PYTHON)
    for name in ("awk", "basename", "cat", "cksum", "cp", "date", "dirname", "mkdir", "rm", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    code = f"export CALLS={project}/calls; set -eu; make_environment cpu,test {versions}"
    done = run_bash(code, project, str(folder))
    assert done.returncode == 0, done.stderr
    again = run_bash(code, project, str(folder))
    assert (again.stdout, again.stderr) == ("", "")
    lines = (project / "calls").read_text().splitlines()
    return [line.replace(f"{project}/", "") for line in lines if " -c " not in line]


def test_pinned_versions_are_installed_by_uv(project):
    create, install = calls_of_installation(project, "pinned", "uv", "python3")
    pins = "scripts/constraints.txt"
    assert re.fullmatch(r"uv venv --quiet --python \S+ \.venv \[ \]", create)
    assert install.startswith("uv pip install --quiet --python .venv/bin/python ")
    assert f"--constraint {pins} --build-constraint {pins} --editable .[cpu,test]" in install


def test_pinned_versions_are_installed_by_pip_where_there_is_no_uv(project):
    create, install = calls_of_installation(project, "pinned", "python3")
    assert create.startswith("python3 -m venv .venv")
    assert install.startswith("python -m pip install")
    assert install.endswith(".[cpu,test] [scripts/constraints.txt scripts/constraints.txt]")


@pytest.mark.parametrize(
    ("versions", "resolution"), [("newest", "highest"), ("lowest", "lowest-direct")]
)
@pytest.mark.parametrize("tools", [("uv", "python3"), ("python3",)], ids=" ".join)
def test_other_versions_are_resolved_first_and_kept_apart(versions, resolution, tools, project):
    calls = calls_of_installation(project, versions, *tools)
    install = [call for call in calls if ".[cpu,test]" in call]
    resolve = [call for call in calls if "pip compile" in call]
    assert [calls.index(each) for each in resolve + install] == [len(calls) - 2, len(calls) - 1]
    assert f"--resolution {resolution} " in resolve[0]
    assert "--extra cpu --extra test --group build" in resolve[0]
    assert f"--output-file .venv-{versions}/constraints.txt" in resolve[0]
    assert f".venv-{versions}/constraints.txt" in install[0]
    assert "scripts/constraints.txt" not in "".join(calls)
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    "arguments",
    ["--newest --lowest", "--lowest --coverage", "tests/test_store.py --newest", "-n 0 --coverage"],
)
def test_versions_are_chosen_once_and_first(arguments, project):
    done = run_bash(f"bash scripts/test {arguments}", project, os.environ["PATH"])
    assert done.returncode == 2
    assert (
        "Expected one of --newest, --lowest and --coverage before all other arguments"
        in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1
    assert not list(project.glob(".venv*"))


def test_coverage_is_measured_where_it_is_asked_for(project):
    folder, content = COMPLETE["pinned"]
    for name in ("ruff", "mypy", "python"):
        (project / folder).mkdir(exist_ok=True)
        write_tool(project / folder / "bin", name, 'echo "${0##*/} $*"')
    run_bash(f'echo "{content}" > {folder}/complete', project, os.environ["PATH"])
    plain, traced = (
        run_bash(f"bash scripts/test {words} -n 0", project, os.environ["PATH"]).stdout.splitlines()
        for words in ("", "--coverage")
    )
    assert "--cov" not in plain[-1]
    assert plain[:-1] == traced[:-1]
    assert traced[-1] == plain[-1].replace(" -n 0", " --cov=patchcollide -n 0")
