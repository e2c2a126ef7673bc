"""Folders in which commands are run."""

import shutil

import pytest

from patchcollide.networks import feature_files
from patchcollide.runs import collide, networks
from tests.helpers.commands import World


@pytest.fixture
def world(tmp_path, small_network, monkeypatch):
    for stage in (collide, networks, feature_files):
        monkeypatch.setattr(stage, "load_network", lambda *_: small_network)
    return World(tmp_path)


@pytest.fixture
def indexed(world, write_images):
    outcome = world.index(write_images())
    assert outcome.exit_code == 0, outcome.said
    return world


def finished_in(world, tmp_path_factory, *more, images=None):
    """Gives a world copies of a run, and of a store of images, which the first to ask makes."""
    kept = tmp_path_factory.getbasetemp() / ("composed" if images else "finished")
    if not kept.exists():
        kept.mkdir()
        maker = World(kept)
        outcomes = [maker.index(images)] if images else []
        outcomes.append(maker.collide(*more))
        assert all(outcome.exit_code == 0 for outcome in outcomes), outcomes[-1].said
    for name in ("run", "store") if images else ("run",):
        shutil.copytree(kept / name, world.folder / name)
    return world


@pytest.fixture
def finished(world, tmp_path_factory):
    """A world with a run of pixels."""
    return finished_in(world, tmp_path_factory, "--pixels")


@pytest.fixture
def composed(world, write_images, tmp_path_factory):
    """A world with a store and a run of its patches."""
    return finished_in(world, tmp_path_factory, images=write_images())
