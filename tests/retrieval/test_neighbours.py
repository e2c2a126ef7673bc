import re
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.config_files import load_config
from patchcollide.errors import RetrievalError
from patchcollide.geometry import PatchGrid
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.neighbours import Neighbours, Omissions
from patchcollide.retrieval.policy import drop_overlapping, find_neighbours, find_neighbours_of_each
from patchcollide.retrieval.searcher import NO_DISTANCE, SearchResult
from patchcollide.store.descriptors import fit_basis
from tests.conftest import SMALL

GOLDEN = Path(__file__).parent.parent / "golden"
GRID = PatchGrid(image_size=32, window_size=8, stride=4, patch_size=8)


def find(store, source, *overrides, targets=()):
    config = load_config(overrides=[*SMALL, *overrides])
    return find_neighbours(config, source, list(targets), store, ExhaustiveSearcher(store))


@pytest.fixture
def source(rng):
    return rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def drop_in_a_loop(ids, distances, k):
    """Keeps a patch unless it shares a pixel with one kept before, pixel by pixel."""
    kept: list[tuple[int, int, set[tuple[int, int, int]]]] = []
    for distance, patch in zip(distances.tolist(), ids.tolist(), strict=True):
        if patch < 0 or len(kept) == k:
            continue
        image, row, col = (int(value[0]) for value in GRID.locate(np.array([patch])))
        pixels = {(image, 4 * row + y, 4 * col + x) for y in range(8) for x in range(8)}
        if not any(pixels & other for _, _, other in kept):
            kept.append((distance, patch, pixels))
    return [(distance, patch) for distance, patch, _ in kept]


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 6), num=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_of_overlapping_patches_the_nearest_is_kept(seed, k, num):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(2 * GRID.num_positions)[:num] for _ in range(3)])
    distances = np.sort(rng.integers(0, 50, (3, num)), axis=1)
    kept, _ = drop_overlapping(SearchResult(distances, ids, np.ones(len(ids), np.bool_)), GRID, k)
    for row in range(3):
        expected = drop_in_a_loop(ids[row], distances[row], k)
        expected += [(NO_DISTANCE, -1)] * (k - len(expected))
        assert list(zip(kept.squared_distances[row], kept.ids[row], strict=True)) == expected


def test_patches_passed_over_are_counted():
    ids = np.array([[0, 1, 48, 49]])  # 1 overlaps 0; 48 is the far corner; 49 another image
    proven = np.ones(1, np.bool_)
    result, dropped = drop_overlapping(SearchResult(np.arange(4)[None], ids, proven), GRID, 3)
    assert (result.ids[0].tolist(), dropped.tolist()) == ([0, 48, 49], [1])


def test_neighbours_are_the_nearest_of_each_location(small_store, source):
    found = find(small_store, source, "retrieval.deduplicate=false")
    windows = GRID.patches(source[None]).reshape(-1, 8, 8, 3)
    expected = ExhaustiveSearcher(small_store).search(windows, 3, np.empty(0, np.int64))
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
    np.testing.assert_array_equal(
        found.patches.reshape(-1, 8, 8, 3), small_store.patches(found.ids.ravel())
    )


@pytest.mark.parametrize("deduplicate", ["true", "false"])
@pytest.mark.parametrize("certified", [False, True])
def test_several_sources_are_served_by_one_pass(
    deduplicate, certified, small_store, source, monkeypatch
):
    """Each finds what it finds alone, though its own image is open to the others."""
    config = load_config(overrides=[*SMALL, f"retrieval.deduplicate={deduplicate}"])
    basis = fit_basis(small_store, num_components=4, num_patches=200, seed=0)
    searcher = ExhaustiveSearcher(small_store, basis if certified else None)
    sources = [source, small_store.image(1), small_store.image(4)]
    alone = [find_neighbours(config, each, [], small_store, searcher) for each in sources]
    passes = []
    search = ExhaustiveSearcher.search_all
    monkeypatch.setattr(
        ExhaustiveSearcher, "search_all", lambda *given: passes.append(given) or search(*given)
    )
    together = find_neighbours_of_each(config, sources, [], small_store, searcher)
    if deduplicate == "false":
        assert len(passes) == 1
    for one, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found.ids, one.ids)
        np.testing.assert_array_equal(found.squared_distances, one.squared_distances)
        assert found.omissions == one.omissions
        assert found.proven.all()
    assert 1 in together[2].image_names
    assert 4 not in together[2].image_names


def test_locations_may_be_denser_than_the_stored_patches(small_store, source):
    found = find(small_store, source, "retrieval.query_stride_px=2")
    assert found.ids.shape == (13 * 13, 3)
    assert found.grid.positions_per_side == 13


def test_the_source_and_the_target_lend_no_patches(small_store):
    source, target = small_store.image(1), small_store.image(4)
    found = find(small_store, source, targets=[target])
    assert found.omissions.leaked_images == 2
    assert not {1, 4} & set((found.ids // GRID.num_positions).ravel().tolist())
    leaking = find(small_store, source, "retrieval.leak_guard=false", targets=[target])
    assert leaking.omissions.leaked_images == 0
    assert (leaking.squared_distances[:, 0] == 0).all()


def test_images_are_left_out_by_name(small_store, source):
    found = find(small_store, source, 'retrieval.exclude=["class-0/*", "*/5.png"]')
    assert found.omissions.excluded_images == 4
    assert set(found.image_names.values()) <= {"class-1/1.png", "class-1/3.png"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_an_accent_excludes_in_whatever_form_it_is_written(small_store, source, stored, form):
    small_store.names[2] = unicodedata.normalize(stored, "caf\u00e9/\u00fcber.png")
    pattern = unicodedata.normalize(form, "caf\u00e9/*")
    found = find(small_store, source, f'retrieval.exclude=["{pattern}"]')
    assert found.omissions.excluded_images == 1


def test_a_name_with_brackets_is_excluded_by_itself(small_store, source):
    small_store.names[2] = "class-0/photo[1].png"
    found = find(small_store, source, 'retrieval.exclude=["class-0/photo[1].png"]')
    assert found.omissions.excluded_images == 1


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("CLASS-0/*", r"; did you mean 'class-0/0\.png'\? Letters count"),
        ("5.png", r"; did you mean 'class-1/5\.png'\? .* and so do folders"),
        ("dogs/*", r", whose names are like 'class-0/0\.png'"),
    ],
)
def test_a_pattern_that_excludes_nothing_is_refused(small_store, source, pattern, hint):
    message = rf"retrieval\.exclude names '{re.escape(pattern)}', which matches none of the 6 "
    with pytest.raises(RetrievalError, match=f"{message}images of .*{hint}.*Correct it"):
        find(small_store, source, f'retrieval.exclude=["class-1/*", "{pattern}"]')


def test_a_location_has_no_two_overlapping_patches_of_one_image(small_store, source):
    found = find(small_store, source, "retrieval.k=7")
    for ids, distances in zip(found.ids, found.squared_distances, strict=True):
        assert len(drop_in_a_loop(ids, distances, 7)) == 7
    assert found.omissions.overlapping_patches > 0


@pytest.mark.parametrize("deduplicate", ["true", "false"])
def test_more_neighbours_than_the_store_can_give_are_refused(deduplicate, small_store, source):
    for k in (100, 295):
        if k == 100 and deduplicate == "false":
            continue  # there are 294 patches
        with pytest.raises(RetrievalError, match=rf"retrieval\.k = {k}, but .* only \d+ allowed"):
            find(small_store, source, f"retrieval.k={k}", f"retrieval.deduplicate={deduplicate}")


def test_all_neighbours_there_are_can_be_had(small_store, source):
    found = find(small_store, source, "retrieval.k=294", "retrieval.deduplicate=false")
    assert (np.sort(found.ids, axis=1) == np.arange(294)).all()


def test_a_store_of_which_all_is_left_out_gives_none(small_store, source):
    with pytest.raises(RetrievalError, match="only 0 allowed patches: 0 of its 6 images"):
        find(small_store, source, 'retrieval.exclude=["*"]')


def test_a_file_gives_back_what_was_saved(small_store, source, tmp_path):
    found = find(small_store, source)
    found.save(tmp_path / "n.h5", settings={}, seed=0, store=small_store.fingerprint)
    loaded = Neighbours.load(tmp_path / "n.h5")
    for name in ("source", "ids", "squared_distances", "patches"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    assert (loaded.grid, loaded.image_names) == (found.grid, found.image_names)
    assert loaded.omissions == found.omissions


def test_a_file_of_another_kind_is_refused(small_store, tmp_path):
    shard = small_store.path / "shard-00000.h5"
    with pytest.raises(RetrievalError, match="should be 'patchcollide-neighbours' version 3"):
        Neighbours.load(shard)


def test_patches_reach_over_their_windows_by_the_margin(small_store, source, tmp_path):
    bare = find(small_store, source)
    found = find(small_store, source, "composition.margin_px=5")
    np.testing.assert_array_equal(found.ids, bare.ids)
    np.testing.assert_array_equal(found.windows, bare.patches)
    assert found.patches.shape == (49, 3, 18, 18, 3)
    found.save(tmp_path / "n.h5", settings={}, seed=0, store=small_store.fingerprint)
    loaded = Neighbours.load(tmp_path / "n.h5")
    assert loaded.margin == 5
    np.testing.assert_array_equal(loaded.patches, found.patches)


def test_a_file_of_version_2_still_reads():
    found = Neighbours.load(GOLDEN / "neighbours-v2.h5")
    assert (found.grid, found.margin) == (PatchGrid(8, 4, 4, 2), 0)
    assert found.ids.tolist() == [[0, 9], [1, 6], [2, 4], [11, 3]]
    assert found.squared_distances.tolist() == [[0, 5], [1, 2], [3, 4], [4, 4]]
    assert found.proven.tolist() == [True, False, True, True]
    rng = np.random.default_rng(2)
    np.testing.assert_array_equal(found.source, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    expected = rng.integers(0, 256, (4, 2, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(found.patches, expected)
    np.testing.assert_array_equal(found.windows, expected)
    assert found.image_names == {0: "a/0.png", 1: "a/1.png", 2: "b/é.png"}
    assert found.omissions == Omissions(1, 2, 3)


@pytest.mark.parametrize("margin", [-1, 33, 2.5, "two"])
def test_a_file_with_an_impossible_margin_is_refused(margin, small_store, source, tmp_path):
    path = tmp_path / "n.h5"
    find(small_store, source).save(path, settings={}, seed=0, store=small_store.fingerprint)
    with h5py.File(path, "r+") as file:
        file.attrs["margin_px"] = margin
    with pytest.raises(RetrievalError, match=r"n\.h5 is damaged \(.*\)\. Make it again"):
        Neighbours.load(path)


def test_a_file_whose_patches_lack_the_margin_is_refused(small_store, source, tmp_path):
    path = tmp_path / "n.h5"
    find(small_store, source).save(path, settings={}, seed=0, store=small_store.fingerprint)
    with h5py.File(path, "r+") as file:
        file.attrs["margin_px"] = 2
    with pytest.raises(RetrievalError, match=r"'patches' should have shape \(49, 3, 12, 12, 3\)"):
        Neighbours.load(path)
