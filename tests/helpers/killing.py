"""Runs commands in processes of their own and kills them, without loading torch for each.

They are killed after so much time of a processor, which does not pass while other work holds it:
on a busy machine a command is hit where it is on a quiet one. The signal is SIGPROF, which ends
a process as SIGKILL does, without a word to it: nothing here asks to be told of it.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

_SERVER = """
import json, os, signal, sys
import faiss, PIL.Image
import patchcollide.cli, patchcollide.pipeline
# Commands would spend most of their time on loading these, and be killed at that.
PIL.Image.init()
print("ready", flush=True)
for line in sys.stdin:
    seconds, words = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["patchcollide", *words]
        code = 70
        if seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            patchcollide.cli.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    spent = used.ru_utime + used.ru_stime
    print(json.dumps([os.waitstatus_to_exitcode(status), spent]), flush=True)
"""


KILLED = -signal.SIGPROF
"""The exit status of a command that was killed."""


class Commands:
    """Each command is a fork of one process that has loaded all modules.

    Attributes:
        spent: Seconds of a processor that the last command took.
    """

    spent = 0.0

    def __enter__(self) -> "Commands":
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._read() == "ready"
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.communicate()

    def __call__(self, *words: object, killed_after: float | None = None) -> int:
        """Runs a command, to its end or for so many seconds of a processor; returns its status."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([killed_after, [str(word) for word in words]]) + "\n")
        self._server.stdin.flush()
        status, self.spent = json.loads(self._read())
        return int(status)

    def _read(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
