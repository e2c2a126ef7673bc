"""Runs a command of patchcollide under cProfile and PyTorch's profiler; says where both wrote.

python scripts/profile_command.py collide --source a.png --target b.png --out run ...
"""

import cProfile
import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from patchcollide.cli import main

_FOLDER = Path("profiles")


def profile_command(words: list[str]) -> int:
    """Runs the command; writes both profiles also where it fails. Returns its exit code.

    What the profilers themselves take is counted too: compare shares, not seconds. Every operator
    is an entry of the trace, so that a descent of a thousand steps should be profiled by fewer.
    """
    if not words or words[0].startswith("-"):
        sys.stderr.write("Expected a command to profile. Usage: scripts/profile COMMAND ...\n")
        return 2
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    sys.argv = ["patchcollide", *words]
    functions, code = cProfile.Profile(), 0
    with profile(activities=activities, acc_events=True) as operators:
        try:
            functions.runcall(main)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    _FOLDER.mkdir(exist_ok=True)
    calls, trace = (_FOLDER / f"{words[0]}.{kind}" for kind in ("pstats", "trace.json"))
    functions.dump_stats(calls)
    operators.export_chrome_trace(str(trace))
    sys.stderr.write(f"Profiled functions: {calls}. PyTorch's operators: {trace}.\n")
    return code


if __name__ == "__main__":
    sys.exit(profile_command(sys.argv[1:]))
