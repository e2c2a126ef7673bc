"""Inputs that tests of stores share."""

import pytest


@pytest.fixture
def images(write_images):
    return write_images(num=7)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "store"
