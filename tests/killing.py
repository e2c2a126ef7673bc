"""Runs commands in processes of their own and kills them, without loading torch for each."""

import json
import subprocess
import sys
from pathlib import Path

_SERVER = """
import json, os, signal, sys, time
import patchcollide.cli, patchcollide.pipeline
print("ready", flush=True)
for line in sys.stdin:
    seconds, words = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["patchcollide", *words]
        code = 70
        try:
            patchcollide.cli.main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        # It was not waited for yet, so the number is still its own if it has ended.
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """Each command is a fork of one process that has loaded all modules."""

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
        """Runs a command, to its end or until it is killed; returns its exit status."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([killed_after, [str(word) for word in words]]) + "\n")
        self._server.stdin.flush()
        return int(self._read())

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
