"""Which candidates of a query are nearest, against comparing all of them with a loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.retrieval import candidates
from patchcollide.retrieval.candidates import nearest_candidates
from patchcollide.retrieval.searcher import NO_DISTANCE
from patchcollide.store.patch_sums import PatchSums
from patchcollide.store.sums_making import make_sums
from tests.retrieval.test_engines import adversarial_images, attack_queries
from tests.retrieval.test_search import store_of


@pytest.fixture(scope="module", params=["sums on the disk", "no sums", "no blocks"])
def store(request, tmp_path_factory):
    images = adversarial_images(np.random.default_rng(3))
    stride = 3 if request.param == "no blocks" else 4
    sizes = [f"patches.stride_px={stride}", f"retrieval.query_stride_px={stride}"]
    made = store_of(images, tmp_path_factory.mktemp("candidates"), *sizes)
    if request.param == "sums on the disk":
        make_sums(made)
    return made


def in_a_loop(store, queries, named, k):
    """The plainest there is: every candidate compared, one at a time."""
    patches = store.patches(np.arange(store.num_patches)).astype(np.int64)
    distances = np.full((len(queries), k), NO_DISTANCE)
    ids = np.full((len(queries), k), -1)
    for row, (query, of_query) in enumerate(zip(queries, named, strict=True)):
        found = []
        for number in of_query[of_query >= 0].tolist():
            found.append((int(np.square(patches[number] - query).sum()), number))
        for rank, pair in enumerate(sorted(found)[:k]):
            distances[row, rank], ids[row, rank] = pair
    return distances, ids


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.sampled_from([1, 2, 7]),
    num_named=st.sampled_from([0, 1, 2, 5, 41]),
    gone=st.sampled_from([0.0, 0.3, 1.0]),
    at_once=st.sampled_from([1, 90, 10_000]),
)
@settings(max_examples=40, deadline=None)
def test_the_nearest_are_those_of_a_loop(store, seed, k, num_named, gone, at_once):
    rng = np.random.default_rng(seed)
    queries = attack_queries(store, rng)
    named = np.stack(
        [rng.choice(store.num_patches, num_named, replace=False) for _ in range(len(queries))]
    )
    named[rng.random(named.shape) < gone] = -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "PAIRS_AT_ONCE", at_once)
        found = nearest_candidates(PatchSums(store), queries, named, k).table(len(queries), k)
    wanted = in_a_loop(store, queries.astype(np.int64), named, k)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_of_candidates_far_behind_the_first_no_pixel_is_read(tmp_path, rng, monkeypatch):
    images = [np.full((32, 32, 3), 10 * level, np.uint8) for level in range(8)]
    store = store_of(images, tmp_path)
    make_sums(store)
    positions, read = store.grid.num_positions, []
    gather = type(store).patches
    query = store.patches(np.array([3]))
    monkeypatch.setattr(
        type(store), "patches", lambda self, ids: read.extend(ids.tolist()) or gather(self, ids)
    )
    named = np.array([[7, 8, *(positions * np.arange(1, 8) + 5)]])
    found = nearest_candidates(PatchSums(store), query, named, 1)
    assert (found.ids.tolist(), read) == ([7], [7, 8])


def test_sums_that_lie_hide_neighbours_and_make_none(tmp_path, monkeypatch):
    """They are not checked here: what is found is found at its own distance all the same."""
    store = store_of(adversarial_images(np.random.default_rng(3)), tmp_path)
    queries = store.patches(np.array([3]))

    gather = PatchSums.gather

    def lying(sums, ids):
        rows, norms = gather(sums, ids)
        return -rows, norms[::-1].copy()

    monkeypatch.setattr(PatchSums, "gather", lying)
    named = np.arange(9, 60)[None]
    found = nearest_candidates(PatchSums(store), queries, named, 3)
    patches = store.patches(found.ids).astype(np.int64)
    assert len(found.ids) == 3
    assert np.isin(found.ids, named).all()
    assert found.squared_distances.tolist() == [
        int(np.square(patch - queries[0]).sum()) for patch in patches
    ]
