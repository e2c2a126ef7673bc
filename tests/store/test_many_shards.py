"""A store of more shards than files may be open is served like any other."""

import contextlib
import errno
import os
import resource
from pathlib import Path

import numpy as np
import psutil
import pytest

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.errors import OpenFilesError, StoreError
from patchcollide.images.pictures import read_image
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.store import faiss_library
from patchcollide.store.reader import PatchStore
from tests.conftest import SMALL

NUM_SHARDS = 36


@pytest.fixture
def few_files(monkeypatch):
    """Leaves 24 files to be opened, whatever else is open here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = psutil.Process()
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, process.num_fds()) + 24, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def config():
    return load_config(overrides=[*SMALL, "store.images_per_shard=1", "index.kind=flat"])


def test_every_stage_works_with_few_open_files(few_files, config, write_images, tmp_path):
    images, out = write_images(num=NUM_SHARDS), tmp_path / "store"
    pipeline.index(config, images, out)
    assert len(list(out.glob("shard-*.h5"))) == NUM_SHARDS
    write_images("images", num=NUM_SHARDS + 5)
    pipeline.index(config, images, out, extend=True)
    assert pipeline.verify(out).damages == ()
    (out / "shard-00007.h5").unlink()
    pipeline.repair(out)
    assert pipeline.verify(out).damages == ()
    pipeline.export(out, tmp_path / "patches.h5", compress=False, patches_per_shard=1000)
    found = {}
    for engine in ("exact", "certified", "ann"):
        own = config.model_copy(
            update={"retrieval": config.retrieval.model_copy(update={"engine": engine})}
        )
        path = pipeline.retrieve(
            own, [images / "class-0" / "0.png"], out, tmp_path / f"{engine}.h5"
        )
        found[engine] = Neighbours.load(path)
    assert np.array_equal(found["exact"].ids, found["certified"].ids)


def test_all_patches_are_those_of_the_images(few_files, config, write_images, tmp_path):
    images = write_images(num=NUM_SHARDS)
    pipeline.index(config, images, tmp_path / "store")
    store = PatchStore.open(tmp_path / "store")
    ids = np.random.default_rng(0).permutation(store.num_patches)[:500]
    number, row, col = store.grid.locate(ids)
    for patch, image, top, left in zip(store.patches(ids), number, row, col, strict=True):
        pixels = read_image(images / store.names[image], size=32, fit="crop", max_pixels=10_000)
        top, left = 4 * top, 4 * left
        assert np.array_equal(patch, pixels[top : top + 8, left : left + 8])


TOO_MANY = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_an_image_that_could_not_be_opened_is_not_stored_as_damaged(
    config, write_images, tmp_path, monkeypatch
):
    images, original = write_images(num=3), Path.open

    def refuse(path, *arguments, **options):
        if path.suffix == ".png":
            raise TOO_MANY
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OpenFilesError, match=r"\.png cannot be opened: \d+ files .*`ulimit -n"):
        pipeline.index(config, images, tmp_path / "store")


def test_a_shard_that_could_not_be_opened_is_not_taken_for_damaged(
    config, write_images, tmp_path, monkeypatch
):
    pipeline.index(config, write_images(num=3), tmp_path / "store")
    original = os.open

    def refuse(path, *arguments, **options):
        if str(path).endswith(".h5"):
            raise TOO_MANY
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    for stage in (pipeline.verify, pipeline.repair):
        with pytest.raises(OpenFilesError, match=r"\.h5 cannot be opened"):
            stage(tmp_path / "store")


def test_an_index_that_could_not_be_opened_is_not_taken_for_damaged(tmp_path, monkeypatch):
    class Faiss:
        IO_FLAG_MMAP = 0

        @staticmethod
        def read_index(path, _kind):
            raise RuntimeError(f"Error: could not open {path} for reading: Too many open files")

    monkeypatch.setattr(faiss_library, "import_faiss", lambda: Faiss)
    with pytest.raises(OpenFilesError, match=r"index\.faiss cannot be opened"):
        faiss_library.read_index(tmp_path / "index.faiss", "Remove it.")


def test_hdf5_says_too_many_open_files(few_files, tmp_path):
    path = tmp_path / "a.h5"
    write_hdf5(path, encoding="test", version="1", datasets={}, attributes={})
    opened = []
    with contextlib.suppress(OSError):
        while True:
            opened.append(path.open("rb"))
    try:
        with (
            pytest.raises(OpenFilesError, match=r"a\.h5 cannot be opened"),
            open_hdf5(path, encoding="test", version="1", error=StoreError),
        ):
            pass
    finally:
        for file in opened:
            file.close()
