"""What a plan measures of the engines is what they do in a pass over a store."""

import numpy as np
import pytest

from patchcollide import pipeline
from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.retrieval import exhaustive
from patchcollide.retrieval.block_bounds import COMPONENTS
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.planning import passes
from patchcollide.retrieval.planning.durations import H100, accelerated_seconds
from patchcollide.retrieval.planning.footprint import Workload
from patchcollide.retrieval.scan import Scan
from patchcollide.store.blocks import Blocks
from patchcollide.store.reader import PatchStore
from tests.conftest import SMALL

# Windows of these begin and end between blocks of four pixels, SMALL's of two, others of none.
BLOCKS = ["images.size_px=48", "patches.window_px=16", "patches.patch_px=16"]
BLOCKS += ["patches.stride_px=8", "retrieval.query_stride_px=8", "index.components=4"]
NO_BLOCKS = ["patches.stride_px=3", "retrieval.query_stride_px=3"]


@pytest.fixture
def asked(monkeypatch):
    """Notes how passes ask for pairs: the method, images at once, and the filters of the bound."""
    seen = []
    inner = {name: getattr(Scan, name) for name in ("block", "block_of_sums")}

    def noting(name):
        def note(scan, images, *others):
            count = len(images.sums) if name == "block_of_sums" else len(images)
            seen.append((name, count, scan.takes_sums))
            return inner[name](scan, images, *others)

        return note

    for name in inner:
        monkeypatch.setattr(Scan, name, noting(name))
    return seen


def sampled(config, rng):
    images = rng.integers(0, 256, (5, *(config.images.size_px,) * 2, 3), dtype=np.uint8)
    size = config.grid.patch_size
    queries = rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    return passes.Sample(images, queries, config.grid, 1.0)


def test_a_plan_passes_over_a_store_as_the_certified_engine_does(
    asked, write_images, tmp_path, rng
):
    config = load_config(overrides=[*SMALL, *BLOCKS, "retrieval.engine=certified"])
    images = write_images(num=exhaustive.IMAGES_AT_ONCE)
    store = PatchStore.open(pipeline.index(config, images, tmp_path / "store"))
    sample = sampled(config, rng)
    asked.clear()
    open_searcher(config, store).search(sample.queries, 2, np.empty(0, np.int64))
    engine = {("block_of_sums", exhaustive.IMAGES_AT_ONCE, True)}
    # Its guide looks through fewer images, those that it has named, in the same way.
    assert {seen for seen in asked if seen[1] == exhaustive.IMAGES_AT_ONCE} == engine
    assert {(name, bounded) for name, _, bounded in asked} == {("block_of_sums", True)}
    asked.clear()
    passes.scan_lines(sample, config, 100, "cpu")
    # The rest measure the exact engine, or find the distances of neighbours.
    assert {seen for seen in asked if seen[2]} == engine


def test_without_blocks_a_plan_passes_over_pixels(asked, rng):
    config = load_config(overrides=[*SMALL, *NO_BLOCKS])
    passes.scan_lines(sampled(config, rng), config, 100, "cpu")
    assert {name for name, *_ in asked} == {"block"}


def test_the_bound_that_is_measured_is_as_long_as_the_engines_own(monkeypatch, rng):
    config = load_config(overrides=[*SMALL, *BLOCKS, "index.components=40"])
    wanted = []
    inner = passes.rough_basis
    monkeypatch.setattr(
        passes, "rough_basis", lambda sample, count: wanted.append(count) or inner(sample, count)
    )
    passes.scan_lines(sampled(config, rng), config, 100, "cpu")
    assert wanted == [COMPONENTS]


@pytest.mark.parametrize("components", [1, 4, 48, 60])
def test_a_rough_basis_is_orthonormal_and_on_blocks_where_an_index_is(components, rng):
    config = load_config(overrides=[*SMALL, *BLOCKS])
    basis = passes.rough_basis(sampled(config, rng), components)
    assert basis.skewness < 1e-4
    blocks = Blocks.of(config.grid)
    assert blocks is not None
    assert basis.blocks == (blocks if components <= blocks.width else None)


def test_what_is_measured_finds_what_a_pass_over_the_images_finds(rng):
    """The sums that are made ready stand for the images: the nearest are among the pairs."""
    config = load_config(overrides=[*SMALL, *BLOCKS])
    sample = sampled(config, rng)
    far = np.full(len(sample.queries), 2**40)
    found = {}
    for basis in (None, passes.rough_basis(sample, 4)):
        scan = Scan(sample.queries, sample.grid, 3, basis)
        ready = passes.Pass(scan, sample.images, passes.sums_of(sample), far, 64)
        found[basis is None] = ready.block(0).nearest(3).table(len(sample.queries), 3)[0]
    # Images come again and again: of 64 at once the nearest is there thirteen times.
    assert (found[False][:, 0] == found[True][:, 0]).all()


def test_a_card_is_sent_sums_of_blocks_for_the_certified_engine():
    work = Workload(Config(), 10_000_000, cores=2)
    seconds = accelerated_seconds(work, H100, 1)
    assert seconds["exact"] > work.store_bytes / H100.bytes_transferred
    assert seconds["certified"] < seconds["exact"] / 2
