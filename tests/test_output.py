"""Standard streams that are closed, full or of another encoding hinder nothing and are told."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import patchcollide
from patchcollide import progress
from patchcollide.cli import framework
from patchcollide.errors import ClosedOutputError, OutputError
from patchcollide.output import StandardError, output_explained, prepare_streams, settle_streams

ROOT = Path(patchcollide.__file__).parents[1]
# What a command does with its streams, without the seconds that libraries take to be imported.
LIGHT = """
import logging, sys
from patchcollide import progress
from patchcollide.cli import framework

@framework.command
def table() -> None:
    progress.logger.info("working")
    for item in progress.track(range(3), "Working", 3):
        pass
    framework.echo("caf\\xe9 \\u2588 \\udcff")
    progress.print_table(("na\\xefve", "b"), [("\\u2588", "2")])
    progress.logger.info("done")

@framework.command
def other() -> None:
    pass

sys.exit(framework.run())
"""


def run(words, shell="", **environment):
    """Runs a command by a shell, which connects its streams as ``shell`` says."""
    line = f'"$0" -c "$1" {words} {shell}; echo "code ${{PIPESTATUS[0]}}" >> code'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, LIGHT],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda: int((tmp_path / "code").read_text().split()[1])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_a_command_without_a_word(code, unbuffered):
    done = run("table -q", "| true", PYTHONUNBUFFERED=unbuffered)
    assert (code(), done.stdout, done.stderr) == (141, b"", b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["table -q", "--version", "--help"])
def test_a_full_disk_is_told_in_one_sentence(code, words, unbuffered):
    done = run(words, "> /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert code() == 1
    (line,) = done.stderr.decode().splitlines()
    assert "No space left on device" in line
    assert "defect" not in line


@pytest.mark.parametrize("shell", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_work_goes_on_when_nobody_listens(code, shell):
    done = run("table", shell)
    assert code() == 0
    assert b"2" in done.stdout


@pytest.mark.parametrize("shell", [">&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_lead_to_nowhere(code, shell):
    done = run("table -q", shell)
    assert (code(), done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {},
    ],
    ids=str,
)
def test_what_an_encoding_lacks_is_written_in_other_words(code, environment):
    done = run("table", **environment)
    assert code() == 0, done.stderr.decode()
    assert done.stdout.startswith(b"caf")
    assert b"working" in done.stderr


def test_a_byte_of_a_file_name_is_written_as_it_is(code):
    assert run("table").stdout.splitlines()[0] == "caf\xe9 \u2588 ".encode() + b"\xff"


def test_debug_shows_where(code):
    done = run("table -q --debug", "> /dev/full")
    assert code() == 1
    assert b"Traceback" in done.stderr
    assert b"OutputError" in done.stderr


class Refusing(io.StringIO):
    """A stream that refuses whatever is written."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def write(self, text):
        raise self._error


@pytest.mark.parametrize(
    ("error", "kind"), [(BrokenPipeError(), ClosedOutputError), (OSError(28, "full"), OutputError)]
)
def test_results_and_tables_that_cannot_be_written_are_errors(error, kind, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Refusing(error))
    with pytest.raises(kind, match="tandard output"):
        framework.echo("result")
    with pytest.raises(kind, match="tandard output"):
        progress.print_table(("a", "b"), [("1", "2")])


def test_errors_of_the_work_itself_pass():
    with pytest.raises(ZeroDivisionError), output_explained():
        raise ZeroDivisionError


def test_standard_error_is_the_one_of_the_moment(monkeypatch):
    stream = StandardError()
    for _ in range(2):
        now = io.StringIO()
        with contextlib.redirect_stderr(now):
            assert stream.write("said") == 4
            stream.flush()
            assert not stream.isatty()
        assert now.getvalue() == "said"
    monkeypatch.setattr(sys, "stderr", None)
    assert stream.write("lost") == 4
    assert stream.encoding == "utf-8"
    monkeypatch.setattr(sys, "stderr", Refusing(OSError()))
    assert stream.write("lost") == 4


def test_streams_in_order_stay():
    before = sys.stdout, sys.stderr
    prepare_streams()
    settle_streams()
    assert (sys.stdout, sys.stderr) == before


def test_an_error_of_the_system_is_no_defect(code, tmp_path):
    script = LIGHT.replace("    pass\n\nsys", "    raise OSError(5, 'Input/output error')\n\nsys")
    done = subprocess.run(
        [sys.executable, "-c", script, "other"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: Input/output error. So says the operating system" in done.stderr
