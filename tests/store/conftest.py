"""Inputs that tests of stores share."""

import shutil

import pytest

from patchcollide import pipeline
from tests.helpers.indexed_stores import CONFIG, INDEX_FILES, STORE_FILES, make_images
from tests.helpers.killing import contents


@pytest.fixture
def images(write_images):
    return write_images(num=7)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "store"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """An indexed store of ten images in four shards, and its images; never changed."""
    folder = tmp_path_factory.mktemp("original")
    images = make_images(folder / "images", 10)
    (images / "class-0" / "bad.png").write_text("no picture")
    pipeline.index(CONFIG, images, folder / "store")
    return folder


@pytest.fixture
def store(original, tmp_path):
    shutil.copytree(original / "store", tmp_path / "store")
    assert contents(tmp_path / "store").keys() == STORE_FILES | INDEX_FILES
    return tmp_path / "store"
