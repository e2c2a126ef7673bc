"""What an index misses, images that it names for other queries hold."""

import dataclasses

import numpy as np
import pytest

from patchcollide.config_files import load_config
from patchcollide.retrieval import ann, shared_images
from patchcollide.retrieval.ann import AnnSearcher, open_index
from patchcollide.retrieval.searcher import NO_DISTANCE, Pairs
from patchcollide.retrieval.shared_images import SharedImages
from patchcollide.store.descriptors import fit_basis
from patchcollide.store.index_builder import build_index
from patchcollide.store.sums_files import has_sums
from patchcollide.store.sums_making import make_sums
from tests.conftest import SMALL
from tests.retrieval.test_engines import adversarial_images, attack_queries, expected
from tests.retrieval.test_search import store_of

NOTHING = np.empty(0, np.int64)
POSITIONS = 49


class Namer:
    """Stands in for an index: names what it is told, and notes what it is asked."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def search(self, descriptors, k, params):
        del params
        self.asked.append((len(descriptors), k))
        ids = np.full((len(descriptors), k), -1, np.int64)
        for row, answer in zip(ids, self.answers[len(self.asked) - 1], strict=True):
            row[: len(answer)] = answer[:k]
        return np.zeros(ids.shape, np.float32), ids


def distances_of(store, queries):
    patches = store.patches(np.arange(store.num_patches)).astype(np.int64)
    return np.stack(
        [np.square(patches - query.astype(np.int64)).sum(axis=(1, 2, 3)) for query in queries]
    )


def others(store, images):
    return np.setdiff1d(np.arange(store.num_images), images)


def pairs_of(queries, ids, distances):
    queries, ids = np.array(queries), np.array(ids)
    return Pairs(queries, ids, distances[queries, ids])


@pytest.fixture(scope="module", params=[4, 3], ids=["blocks", "no blocks"])
def store(request, tmp_path_factory):
    images = adversarial_images(np.random.default_rng(3))
    sizes = [f"patches.stride_px={request.param}", f"retrieval.query_stride_px={request.param}"]
    return store_of(images, tmp_path_factory.mktemp("shared"), *sizes)


@pytest.fixture(scope="module")
def basis(store):
    return fit_basis(store, num_components=5, num_patches=1000, seed=0)


@pytest.mark.parametrize("k", [1, 2, 7, 60, 400])
def test_all_patches_of_the_images_that_were_found_are_compared(k, store, basis):
    rng = np.random.default_rng(k)
    positions = store.grid.num_positions
    for _ in range(4):
        queries = attack_queries(store, rng)
        distances = distances_of(store, queries)
        images = rng.choice(store.num_images, 3, replace=False)
        of_query = rng.integers(0, len(queries), 3)
        found = pairs_of(of_query, images * positions + 5, distances).nearest(k)
        best = SharedImages(store, basis, queries, k).nearest(found).table(len(queries), k)
        kept = np.unique(found.ids // positions)
        wanted = expected(distances, store, k, others(store, kept))
        np.testing.assert_array_equal(best[0], wanted.squared_distances)
        np.testing.assert_array_equal(best[1], wanted.ids)


def test_sums_on_the_disk_change_no_answer(tmp_path):
    store = store_of(adversarial_images(np.random.default_rng(3)), tmp_path)
    basis = fit_basis(store, num_components=5, num_patches=1000, seed=0)
    queries = attack_queries(store, np.random.default_rng(5))
    found = pairs_of([0], [3 * POSITIONS], distances_of(store, queries))
    assert not has_sums(store.path)
    before = SharedImages(store, basis, queries, 9).nearest(found)
    make_sums(store)
    after = SharedImages(store, basis, queries, 9).nearest(found)
    for name in ("queries", "ids", "squared_distances"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_images_in_which_most_was_found_come_first_and_each_once(store, basis, monkeypatch):
    monkeypatch.setattr(shared_images, "MOST_IMAGES", 1)
    queries = store.patches(np.array([0, 1, 2]))
    distances, positions = distances_of(store, queries), store.grid.num_positions
    found = pairs_of([0, 0, 1], np.array([2, 7, 7]) * positions + 1, distances)
    images = SharedImages(store, basis, queries, 4)
    first = images.nearest(found)
    assert first.table(3, 4)[1][1:].tolist() == (
        expected(distances, store, 4, others(store, [7])).ids[1:].tolist()
    )
    # Of what remains the second is the only one.
    second = images.nearest(found).table(3, 4)
    wanted = expected(distances, store, 4, others(store, [2]))
    np.testing.assert_array_equal(second[1][0], wanted.ids[0])
    monkeypatch.setattr(SharedImages, "_pixels", lambda *_: pytest.fail("compared again"))
    monkeypatch.setattr(SharedImages, "_sums", lambda *_: pytest.fail("compared again"))
    assert len(images.nearest(found).ids) == len(found.ids)


def searcher_of(store, basis, answers, rerank=5):
    return AnnSearcher(store, basis, Namer(answers), None, rerank=rerank, probes=1)


def test_what_one_query_misses_is_found_where_another_found_something(store, basis):
    positions = store.grid.num_positions
    queries = store.patches(np.array([7 * positions + 3, 7 * positions + 20]))
    answers = [[[5 * positions + n for n in range(4)], [7 * positions + 20]]]
    found = searcher_of(store, basis, [*answers, [[]]]).search(queries, 1, NOTHING)
    assert found.ids[:, 0].tolist() == [7 * positions + 3, 7 * positions + 20]
    assert found.squared_distances.tolist() == [[0], [0]]
    assert not found.proven.any()


def test_only_unsure_queries_are_asked_again_for_more(store, basis):
    positions = store.grid.num_positions
    queries = store.patches(np.array([7 * positions + 3, 7 * positions + 20]))
    first = [[5 * positions], [7 * positions + 20]]
    # What it names the second time is in no image that was named before.
    again = [[2 * positions + n for n in range(9)]]
    searcher = searcher_of(store, basis, [first, again])
    found = searcher.search(queries, 1, NOTHING)
    few, more = ann.num_shortlisted(5, 1, store.num_patches), ann.EFFORTS[1] * 5
    assert searcher.index.asked == [(2, few), (1, more)]
    assert found.ids[:, 0].tolist() == [7 * positions + 3, 7 * positions + 20]


def test_queries_are_unsure_whose_images_are_too_many_to_compare(store, basis, monkeypatch):
    monkeypatch.setattr(shared_images, "MOST_IMAGES", 1)
    positions = store.grid.num_positions
    queries = store.patches(np.array([7, 7, 3]) * positions + [3, 20, 5])
    first = [[7 * positions + 3], [7 * positions + 20], [3 * positions + 5]]
    searcher = searcher_of(store, basis, [first, first[2:]])
    found = searcher.search(queries, 1, NOTHING)
    assert [count for count, _ in searcher.index.asked] == [3, 1]
    assert found.squared_distances.tolist() == [[0], [0], [0]]


def test_a_tie_that_another_identifier_wins_makes_nobody_unsure(store, basis):
    # Images 0 and 2 are copies.
    positions = store.grid.num_positions
    queries = store.patches(np.array([9, 30]))
    answers = [[[2 * positions + 9], [30]]]
    searcher = searcher_of(store, basis, answers)
    found = searcher.search(queries, 1, NOTHING)
    assert len(searcher.index.asked) == 1
    assert found.ids[:, 0].tolist() == [9, 30]


def test_excluded_images_are_not_found_among_those_of_others(store, basis, monkeypatch):
    positions = store.grid.num_positions
    queries = store.patches(np.array([9, 30]))
    answer = [[9, 3 * positions + 9], [30, 7 * positions + 1]]
    # Where too few are left it is asked for others than the excluded.
    searcher = searcher_of(store, basis, [answer, [of_query[-1:] for of_query in answer]])
    monkeypatch.setattr(ann, "EFFORTS", (1,))
    found = searcher.search(queries, 1, np.array([0]))
    wanted = expected(distances_of(store, queries), store, 1, others(store, [3, 7]))
    np.testing.assert_array_equal(found.ids, wanted.ids)


def test_an_index_that_names_nothing_gives_no_neighbours(store, basis):
    searcher = searcher_of(store, basis, [[[], []]] * len(ann.EFFORTS))
    found = searcher.search(store.patches(np.array([9, 30])), 3, NOTHING)
    assert (found.ids == -1).all()
    assert (found.squared_distances == NO_DISTANCE).all()


def test_patches_too_large_for_a_pass_are_found_by_the_index_alone(tmp_path, rng):
    sizes = [f"{name}=112" for name in ("images.size_px", "patches.window_px", "patches.patch_px")]
    images = rng.integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
    store = store_of(images, tmp_path, *sizes)
    basis = dataclasses.replace(
        fit_basis(store_of(images[:, :8, :8], tmp_path / "small", "images.size_px=8"),
                  num_components=2, num_patches=9, seed=0),
        filters=np.ones((2, 3 * 112 * 112), np.int8), blocks=None)  # fmt: skip
    found = searcher_of(store, basis, [[[4, 1]]] * 2).search(images[1:2], 2, NOTHING)
    assert found.ids.tolist() == [[1, 4]]


def test_an_index_of_few_lists_finds_more_with_the_images_of_others(tmp_path, rng):
    """Against the plain loop: an index asked for far too little has a recall of its own below."""
    coarse = rng.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2) ^ rng.integers(0, 16, (40, 32, 32, 3), "u1")
    store = store_of(images, tmp_path)
    settings = load_config(overrides=[*SMALL, "index.kind=ivf-flat", "index.probes=1"]).index
    build_index(store, settings, 0)
    searcher = dataclasses.replace(open_index(store, settings), rerank=4)
    queries = store.patches(7 * POSITIONS + np.arange(POSITIONS))
    wanted = expected(distances_of(store, queries), store, 5, [7])

    def recall(found):
        return (found <= wanted.squared_distances[:, -1:]).mean()

    named = searcher.named(queries, 10).nearest(10).table(len(queries), 10)[0]
    alone = recall(np.sort(np.where(named == 0, NO_DISTANCE, named))[:, :5])
    together = recall(searcher.search(queries, 5, np.array([7])).squared_distances)
    assert together > alone + 0.1
