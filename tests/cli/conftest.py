"""Folders in which commands are run."""

import pytest

from patchcollide.networks import feature_files
from patchcollide.runs import collide, inputs
from tests.helpers.commands import World


@pytest.fixture
def world(tmp_path, small_network, monkeypatch):
    for stage in (collide, feature_files, inputs):
        monkeypatch.setattr(stage, "load_network", lambda *_: small_network)
    return World(tmp_path)


@pytest.fixture
def indexed(world, write_images):
    outcome = world.index(write_images())
    assert outcome.exit_code == 0, outcome.said
    return world
