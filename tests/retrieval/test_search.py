import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from patchcollide.config import Config
from patchcollide.config_files import load_config
from patchcollide.errors import IndexMismatchError, MissingLibraryError, StoreError
from patchcollide.images.pictures import write_png
from patchcollide.io.files import read_json, write_json
from patchcollide.io.provenance import self_digest
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.engines import open_searcher
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.searcher import NO_DISTANCE, Pairs
from patchcollide.store.descriptors import Basis, fit_basis, sample_ids
from patchcollide.store.index_builder import build_index, index_factory
from patchcollide.store.index_files import ABOUT_FILE, BASIS_FILE, INDEX_FILE
from patchcollide.store.integrity import inspect
from patchcollide.store.reader import PatchStore
from patchcollide.store.repair import repair_store
from patchcollide.store.writer import write_store
from tests.conftest import SMALL
from tests.retrieval.test_scan import random_basis

NOTHING = np.empty(0, np.int64)


def search_in_a_loop(store, queries, k, exclude=()):
    """The plainest search there is: integers, one patch at a time."""
    ids = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), NO_DISTANCE, np.int64)
    candidates = [
        patch
        for patch in range(store.num_patches)
        if store.valid[patch // store.grid.num_positions]
        and patch // store.grid.num_positions not in exclude
    ]
    patches = store.patches(np.array(candidates, dtype=np.int64)).astype(np.int64)
    for row, query in enumerate(queries.astype(np.int64)):
        found = sorted(
            (int(((patch - query) ** 2).sum()), number)
            for patch, number in zip(patches, candidates, strict=True)
        )
        for rank, (distance, number) in enumerate(found[:k]):
            distances[row, rank], ids[row, rank] = distance, number
    return distances, ids


def assert_same(result, expected):
    np.testing.assert_array_equal(result.squared_distances, expected[0])
    np.testing.assert_array_equal(result.ids, expected[1])


def store_of(images, tmp_path: Path, *overrides: str) -> PatchStore:
    folder = tmp_path / "pictures"
    for number, image in enumerate(images):
        write_png(folder / f"{number:03}.png", image)
    return write_store(load_config(overrides=[*SMALL, *overrides]), folder, tmp_path / "a-store")


@pytest.fixture(params=["exact", "certified"])
def exhaustive_searcher(request):
    """Opens the exact engine, with and without the bound that saves comparisons."""

    def searcher(store, num_components=4):
        if request.param == "exact":
            return ExhaustiveSearcher(store)
        # Any basis will do; finding the best one takes minutes in 12,288 dimensions.
        rng = np.random.default_rng(0)
        return ExhaustiveSearcher(store, random_basis(rng, num_components, store.grid.dimension))

    return searcher


@pytest.fixture
def queries(rng, small_store):
    random = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    return np.concatenate([random, small_store.patches(np.array([0, 60, 293], np.int64))])


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 9), k=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_the_nearest_pairs_are_sorted_by_distance_then_identifier(seed, width, k):
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 3, (2, width))
    ids = rng.permuted(np.tile(np.arange(width), (2, 1)), axis=1)
    found, named = Pairs.of_table(ids, distances).nearest(k).table(2, k)
    for row in range(2):
        pairs = sorted(zip(distances[row].tolist(), ids[row].tolist(), strict=True))[:k]
        pairs += [(NO_DISTANCE, -1)] * (k - len(pairs))
        assert list(zip(found[row], named[row], strict=True)) == pairs


@pytest.mark.parametrize("k", [1, 2, 7])
def test_the_exact_engine_equals_a_loop_bit_for_bit(k, exhaustive_searcher, small_store, queries):
    result = exhaustive_searcher(small_store).search(queries, k, NOTHING)
    assert_same(result, search_in_a_loop(small_store, queries, k))


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_exact_engine_breaks_ties_by_identifier(k, exhaustive_searcher, tmp_path, rng):
    flat = np.full((32, 32, 3), 90, np.uint8)
    store = store_of([flat, flat, flat + 1, flat], tmp_path)
    queries = np.stack([flat[:8, :8], rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)])
    result = exhaustive_searcher(store).search(queries, k, NOTHING)
    assert_same(result, search_in_a_loop(store, queries, k))
    np.testing.assert_array_equal(result.ids[0, : min(k, 98)], np.arange(min(k, 98)))


def test_the_exact_engine_is_right_where_float32_is_not(exhaustive_searcher, tmp_path, rng):
    """Patches that differ by one grey level in one value, with the largest norms there are."""
    base = rng.integers(254, 256, (64, 64, 3), dtype=np.uint8)
    images = [base.copy() for _ in range(12)]
    for number, image in enumerate(images):
        image[number, 2 * number, number % 3] -= 1
    sizes = ["images.size_px=64", "patches.window_px=64", "patches.patch_px=64"]
    store = store_of(images, tmp_path, *sizes, "patches.stride_px=1", "retrieval.query_stride_px=1")
    queries = np.stack([np.zeros_like(base), base, images[5]])
    result = exhaustive_searcher(store).search(queries, 12, NOTHING)
    assert_same(result, search_in_a_loop(store, queries, 12))


def test_the_exact_engine_crosses_blocks_and_shards(exhaustive_searcher, tmp_path, rng):
    images = rng.integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    store = store_of(images, tmp_path, "store.images_per_shard=33", "patches.stride_px=8")
    queries = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    result = exhaustive_searcher(store).search(queries, 9, np.array([1, 69]))
    assert_same(result, search_in_a_loop(store, queries, 9, exclude={1, 69}))


def test_the_exact_engine_averages_windows_down_to_patches(exhaustive_searcher, tmp_path, rng):
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    store = store_of(images, tmp_path, "patches.window_px=16", "patches.stride_px=8",
                     "retrieval.query_stride_px=8")  # fmt: skip
    queries = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    result = exhaustive_searcher(store).search(queries, 4, NOTHING)
    assert_same(result, search_in_a_loop(store, queries, 4))


def test_unreadable_and_excluded_images_are_never_found(write_images, small_config, tmp_path):
    folder = write_images()
    (folder / "class-0" / "2.png").write_bytes(b"no picture")
    store = write_store(small_config, folder, tmp_path / "store")
    build_index(store, small_config.index, seed=0)
    queries = np.zeros((1, 8, 8, 3), np.uint8)  # an unreadable image is all zeros
    unreadable = int(np.flatnonzero(~store.valid)[0])
    for engine in ("exact", "ann"):
        config = load_config(overrides=[*SMALL, f"retrieval.engine={engine}"])
        result = open_searcher(config, store).search(queries, 300, np.array([4]))
        found = set((result.ids[result.ids >= 0] // store.grid.num_positions).tolist())
        assert found == set(range(6)) - {unreadable, 4}
        assert (result.ids >= 0).sum() == 4 * store.grid.num_positions
        assert (result.squared_distances[result.ids < 0] == NO_DISTANCE).all()


# Two components: FAISS takes a second to train each of as many quantisers.
@pytest.mark.parametrize(("kind", "components"), [("flat", 64), ("ivf-flat", 64), ("ivf-pq", 2)])
def test_ann_finds_what_the_exact_engine_finds(kind, components, small_store, queries):
    # Few components order badly: as many candidates as there are patches.
    settings = [f"index.kind={kind}", f"index.components={components}", "index.rerank=300"]
    config = load_config(overrides=[*SMALL, *settings])
    build_index(small_store, config.index, seed=0)
    result = open_index(small_store, config.index).search(queries, 5, NOTHING)
    expected = ExhaustiveSearcher(small_store).search(queries, 5, NOTHING)
    assert_same(result, (expected.squared_distances, expected.ids))


def test_ann_agrees_with_scikit_learn_up_to_ties(small_store, small_config, queries):
    build_index(small_store, small_config.index, seed=0)
    result = open_index(small_store, small_config.index).search(queries, 3, NOTHING)
    every = small_store.patches(np.arange(small_store.num_patches)).reshape(-1, 192)
    reference = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(every.astype(np.float64))
    distances, _ = reference.kneighbors(queries.reshape(-1, 192).astype(np.float64))
    np.testing.assert_allclose(np.sqrt(result.squared_distances), distances, atol=1e-6)


@pytest.mark.parametrize(
    ("num_patches", "factory"),
    [
        (1, "IDMap,Flat"),
        (20_000, "IDMap,Flat"),
        (20_001, "IVF512,Flat"),
        (199_988, "IVF1789,Flat"),
        (2_000_001, "IVF5657_HNSW32,PQ32"),
        (37_011_074, "IVF16384_HNSW32,PQ32"),
    ],
)
def test_kind_of_index_follows_the_number_of_patches(num_patches, factory):
    assert index_factory(load_config().index, num_patches) == factory


def test_no_more_lists_than_there_are_patches_to_train_them():
    settings = load_config(overrides=["index.training_patches=100_000"]).index
    assert index_factory(settings, 37_011_074) == "IVF2564,PQ32"


@pytest.mark.parametrize(("components", "bytes_each"), [(1, 1), (16, 16), (48, 16), (96, 32)])
def test_compressed_descriptors_divide_evenly(components, bytes_each):
    overrides = ["index.kind=ivf-pq", f"index.components={components}"]
    factory = index_factory(load_config(overrides=overrides).index, 10**6)
    assert factory.endswith(f"PQ{bytes_each}")


@pytest.mark.parametrize("factor", [1, 2])
def test_descriptors_by_convolution_equal_those_of_cut_patches(factor, tmp_path, rng):
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    store = store_of(images, tmp_path, f"patches.window_px={8 * factor}")
    basis = fit_basis(store, num_components=5, num_patches=1000, seed=0)
    every = store.patches(np.arange(store.num_patches))
    blocks = [basis.describe_images(images, store.grid) for _, images in store.blocks(2)]
    np.testing.assert_allclose(np.concatenate(blocks), basis.describe_patches(every), atol=0.02)


@pytest.mark.parametrize("stride", [4, 3])
def test_basis_is_that_of_scikit_learn(stride, tmp_path, rng):
    """Of sums of blocks, each times the width of one; of pixels where a grid has no blocks."""
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    sizes = [f"patches.stride_px={stride}", f"retrieval.query_stride_px={stride}"]
    store = store_of(images, tmp_path, *sizes)
    basis = fit_basis(store, num_components=6, num_patches=10_000, seed=0)
    every = store.patches(np.arange(store.num_patches)).astype(np.float64)
    side = 2 if stride == 4 else 1
    assert (basis.blocks.side if basis.blocks else 1) == side
    means = every.reshape(-1, 8 // side, side, 8 // side, side, 3).mean(axis=(2, 4), keepdims=True)
    constant = np.broadcast_to(means, (len(every), 8 // side, side, 8 // side, side, 3))
    reference = PCA(n_components=6).fit(constant.reshape(-1, 192))
    directions = basis.transform @ basis.filters
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-5)
    # Rounding to 8 bits turns a component by less than a degree.
    cosines = np.abs((directions * reference.components_).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=2e-4)
    total = every.reshape(-1, 192).var(axis=0).sum()
    share = reference.explained_variance_.sum() * (1 - 1 / len(every)) / total
    assert basis.variance_share == pytest.approx(share, rel=1e-3)


def test_sampled_patches_are_of_readable_images_and_seeded(small_store):
    first = sample_ids(small_store, 40, seed=1)
    np.testing.assert_array_equal(first, sample_ids(small_store, 40, seed=1))
    assert (first != sample_ids(small_store, 40, seed=2)).any()
    assert len(np.unique(sample_ids(small_store, 10**6, seed=1))) == small_store.num_patches


def test_the_first_components_are_a_basis_of_their_own(small_store):
    whole = fit_basis(small_store, num_components=6, num_patches=1000, seed=0)
    first = whole.first(2)
    patches = small_store.patches(np.arange(9))
    np.testing.assert_allclose(
        first.describe_patches(patches), whole.describe_patches(patches)[:, :2], atol=0.05
    )
    assert first.skewness < 1e-5
    assert whole.first(99).num_components == 6


def test_more_components_than_a_patch_has_values_are_refused(small_store):
    with pytest.raises(StoreError, match=r"patches of 192 values.*index\.components = 193"):
        fit_basis(small_store, num_components=193, num_patches=10, seed=0)


def test_an_index_is_built_once(small_store, small_config, caplog):
    build_index(small_store, small_config.index, seed=0)
    written = (small_store.path / INDEX_FILE).stat().st_mtime_ns
    with caplog.at_level("INFO", logger="patchcollide"):
        build_index(small_store, small_config.index, seed=0)
    assert "nothing to do" in caplog.text
    assert (small_store.path / INDEX_FILE).stat().st_mtime_ns == written


def test_an_index_of_other_settings_is_refused(small_store, small_config):
    build_index(small_store, small_config.index, seed=0)
    other = load_config(overrides=[*SMALL, "index.components=8"])
    with pytest.raises(
        IndexMismatchError, match=r"index\.components: found 16, expected 8.*remove"
    ):
        build_index(small_store, other.index, seed=0)


def test_an_index_of_another_store_is_refused(small_store, small_config, write_images, tmp_path):
    other = write_store(small_config, write_images("others", seed=1), tmp_path / "other")
    for store in (small_store, other):
        build_index(store, small_config.index, seed=0)
    for file in other.path.glob("index.*"):
        file.replace(small_store.path / file.name)
    with pytest.raises(IndexMismatchError, match="built for another store than the one in"):
        open_index(small_store, small_config.index)


def without_sample(store):
    """Turns ``index.json`` into what it was before the bytes of an index were sampled."""
    about = read_json(store.path / ABOUT_FILE, error=StoreError)
    del about["sampled_digest"]
    write_json(store.path / ABOUT_FILE, {**about, "digest": self_digest(about)})


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ["flat", "ivf-flat"])
def test_only_the_index_of_the_store_itself_is_served(kind, old, write_images, tmp_path):
    # All that names the store stays in place: only the descriptors are of other images.
    config = load_config(overrides=[*SMALL, f"index.kind={kind}"])
    stores = [
        write_store(config, write_images(name, seed=seed), tmp_path / f"{name}-store")
        for seed, name in enumerate(("these", "others"))
    ]
    for store in stores:
        build_index(store, config.index, seed=0)
    own, foreign = (store.path / INDEX_FILE for store in stores)
    assert own.stat().st_size == foreign.stat().st_size
    if old:
        without_sample(stores[0])
    open_index(stores[0], config.index)
    shutil.copyfile(foreign, own)
    found = r"finds \d+ of 64: it is damaged, or of another" if old else "not the file that index"
    with pytest.raises(IndexMismatchError, match=found):
        open_index(stores[0], config.index)
    assert [damage.file for damage in inspect(stores[0].path).damages] == [INDEX_FILE]
    repair_store(stores[0].path)
    open_index(PatchStore.open(stores[0].path), config.index)


def test_another_basis_of_the_same_store_is_not_used(small_store, small_config):
    build_index(small_store, small_config.index, seed=0)
    build: Any = {}
    other = fit_basis(small_store, num_components=16, num_patches=50, seed=5)
    other.save(small_store.path / BASIS_FILE, store=small_store, settings=build)
    with pytest.raises(IndexMismatchError, match=r"basis\.h5 is not the file that index\.json"):
        open_index(small_store, small_config.index)


def test_a_basis_of_another_store_is_refused(small_store, small_config, write_images, tmp_path):
    other = write_store(small_config, write_images("others", seed=1), tmp_path / "other")
    build: Any = {}
    basis = fit_basis(other, num_components=2, num_patches=10, seed=0)
    basis.save(tmp_path / "b.h5", store=other, settings=build)
    with pytest.raises(IndexMismatchError, match="fitted to another store"):
        Basis.load(tmp_path / "b.h5", store=small_store)


def test_a_store_without_an_index_says_how_to_make_one(small_store, small_config):
    with pytest.raises(IndexMismatchError, match=rf"{ABOUT_FILE} is missing"):
        open_index(small_store, small_config.index)


@pytest.mark.parametrize("damage", ["truncate", "remove", "garbage"])
def test_a_damaged_index_is_refused(damage, small_store, small_config):
    build_index(small_store, small_config.index, seed=0)
    path = small_store.path / INDEX_FILE
    if damage == "remove":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"x" * 4096)
    found = "is missing or damaged" if damage == "remove" else "is not the file that index"
    with pytest.raises(IndexMismatchError, match=rf"index\.faiss {found}"):
        open_index(small_store, small_config.index)


@pytest.mark.parametrize("damage", ["truncate", "garbage"])
def test_a_damaged_index_without_a_sample_of_its_bytes_is_refused(
    damage, small_store, small_config
):
    build_index(small_store, small_config.index, seed=0)
    without_sample(small_store)
    path = small_store.path / INDEX_FILE
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"x" * 4096)
    with pytest.raises(IndexMismatchError, match="missing or damaged"):
        open_index(small_store, small_config.index)


def test_without_faiss_the_error_says_what_to_install(
    small_store: PatchStore, small_config: Config, monkeypatch
):
    monkeypatch.setitem(sys.modules, "faiss", None)
    expected = r"FAISS is not installed.*patchcollide\[cpu\].*--engine exact"
    with pytest.raises(MissingLibraryError, match=expected):
        build_index(small_store, small_config.index, seed=0)


def test_the_exact_engine_works_without_faiss(small_store):
    code = (
        "import sys, numpy as np; sys.modules['faiss'] = None\n"
        "from pathlib import Path\n"
        "from patchcollide.store.reader import PatchStore\n"
        "from patchcollide.retrieval.exhaustive import ExhaustiveSearcher\n"
        "store = PatchStore.open(Path(sys.argv[1]))\n"
        "queries = store.patches(np.array([5]))\n"
        "print(ExhaustiveSearcher(store).search(queries, 1, np.empty(0, np.int64)).ids)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small_store.path)], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[[5]]", done.stderr
