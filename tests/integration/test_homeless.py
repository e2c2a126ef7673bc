"""Users without a home or a name, as in many containers, are served like others."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

import patchcollide
from patchcollide import pipeline
from patchcollide.errors import InputError, NetworkError
from patchcollide.io.files import cache_file
from patchcollide.networks.models import training
from patchcollide.networks.models.vgg16 import pretrained_path
from patchcollide.networks.models.weights import checked_file


def nameless(user):
    raise KeyError(f"getpwuid(): uid not found: {user}")


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    """Takes the home and the name of the user away; returns the folder of temporary files."""
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nameless)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_home_a_network_is_trained_once_and_kept(temporary, monkeypatch):
    trained = []

    def train(options, data, path):
        trained.append(path)
        path.touch()

    monkeypatch.setattr(training, "train", train)
    for _ in range(2):
        path = training.default_weights("mlp")
    assert trained == [path]
    assert path.parent == temporary / f"patchcollide-{os.getuid()}"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_without_a_home_no_folder_is_called_like_one(temporary):
    assert torch.hub.get_dir().startswith("~")
    assert pretrained_path().parent == temporary / f"patchcollide-{os.getuid()}"
    for path in ("~/weights.pth", "~nobody-of-this-name/weights.pth"):
        with pytest.raises(NetworkError, match=rf"The weights file {path} is missing"):
            checked_file(path)
    assert not (temporary / "~").exists()


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_a_home_that_cannot_be_written_to_is_passed_over(name, temporary, monkeypatch):
    monkeypatch.setenv(name, "/proc/none")
    assert cache_file("x") == temporary / f"patchcollide-{os.getuid()}" / "x"
    monkeypatch.setenv(name, str(temporary / "home"))
    assert cache_file("x").is_relative_to(temporary / "home")


def test_what_is_in_a_home_that_cannot_be_written_to_is_found(temporary, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(temporary))
    cache_file("x").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cache_file("x") == temporary / "patchcollide" / "x"


def test_a_relative_cache_is_passed_over(temporary, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_file("x") == temporary / f"patchcollide-{os.getuid()}" / "x"


def test_a_temporary_folder_of_somebody_else_is_not_trusted(temporary):
    folder = temporary / f"patchcollide-{os.getuid()}"
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    with pytest.raises(InputError, match=r"x should be kept in .*\. Set XDG_CACHE_HOME"):
        cache_file("x")
    folder.rmdir()
    folder.symlink_to(temporary)
    with pytest.raises(InputError, match="another user has made"):
        cache_file("x")


def test_stages_need_neither_a_home_nor_a_name(temporary, small_config, write_images):
    images = write_images()
    pipeline.index(small_config, images, temporary / "store")
    assert pipeline.verify(temporary / "store").damages == ()
    assert sorted(path.name for path in temporary.iterdir()) == ["images", "store"]


def test_the_command_line_needs_neither_an_environment_nor_a_name(tmp_path):
    code = (
        "import pwd, sys\n"
        "pwd.getpwuid = {}.__getitem__\n"
        "from patchcollide.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(patchcollide.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Finds feature collisions" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
