"""Commands that are stopped by a signal or by a full disk."""

import json
import subprocess
import sys

from typer.testing import CliRunner

from patchcollide.cli.framework import app
from tests.helpers.commands import SETTINGS, World

# The signal comes when the first checkpoint is there, however fast or slow the machine is.
INTERRUPTED = """
import os, signal
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.cli import main
save = Checkpoint.save
def save_and_be_interrupted(*state):
    save(*state)
    Checkpoint.save = save
    os.kill(os.getpid(), signal.SIGINT)
Checkpoint.save = save_and_be_interrupted
main()
"""


def test_interrupted_work_stops_at_a_checkpoint_and_goes_on(tmp_path):
    world = World(tmp_path)
    words = ["collide", "--pixels", "--source", world.source, "--target", world.target]
    words += ["--out", world.run, *SETTINGS]
    for setting in ("name=lenet5", "weights=random", "layer=fc1", "min_confidence=0"):
        words += ["--set", f"network.{setting}"]
    texts = [str(word) for word in words]
    process = [sys.executable, "-c", INTERRUPTED, *texts]
    stopped = subprocess.run(process, capture_output=True, text=True)
    assert stopped.returncode == 1, stopped.stderr
    assert "InterruptedWorkError" in stopped.stderr
    assert "Run the same command again to go on" in stopped.stderr
    assert (world.folder / "run.partial" / "checkpoint.h5").exists()
    assert not world.run.exists()
    done = CliRunner().invoke(app, texts)
    assert done.exit_code == 0, done.stderr
    assert "Going on with what was begun" in " ".join(done.stderr.split())
    assert json.loads((world.run / "summary.json").read_text())["steps"] == 6


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(tmp_path, write_images):
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from patchcollide.cli import main\n"
        "main()\n"
    )
    words = ["index", str(write_images(num=20)), *SETTINGS, "--out", str(tmp_path / "store")]
    full = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert full.returncode == 1, full.stderr
    assert "DiskFullError: No space to write" in full.stderr
    assert "run the same command again" in full.stderr
    assert not (tmp_path / "store").exists()
    assert not list((tmp_path / "store.partial").iterdir())
    assert CliRunner().invoke(app, words).exit_code == 0
