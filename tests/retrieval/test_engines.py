"""An attack on the search engines: what they say is proven, against loops in 64-bit integers."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from patchcollide.config_files import load_config
from patchcollide.retrieval.ann import open_index
from patchcollide.retrieval.exhaustive import ExhaustiveSearcher
from patchcollide.retrieval.scan import Scan
from patchcollide.retrieval.searcher import NO_DISTANCE, Question, Searcher, SearchResult
from patchcollide.store.index_builder import build_index
from tests.conftest import SMALL
from tests.helpers.modes import TORCH_MODES, torch_state
from tests.retrieval.test_search import search_in_a_loop, store_of

NOTHING = np.empty(0, np.int64)
KS = (1, 2, 7, 60, 400)


def adversarial_images(rng: np.random.Generator) -> list[np.ndarray]:
    """Noise, copies, flat ones, and ones that differ by a grey level: distances tie, or nearly."""
    noise = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    nearly = noise[0].copy()
    nearly[rng.integers(32), rng.integers(32), rng.integers(3)] ^= 1
    flat = [np.full((32, 32, 3), level, np.uint8) for level in (0, 0, 255)]
    black_and_white = 255 * rng.integers(0, 2, (32, 32, 3), dtype=np.uint8)
    return [noise[0], flat[0], noise[0], nearly, flat[1], flat[2], black_and_white, noise[1]]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return store_of(adversarial_images(np.random.default_rng(3)), tmp_path_factory.mktemp("e"))


@pytest.fixture(scope="module")
def index_settings():
    return load_config(overrides=SMALL).index


@pytest.fixture(scope="module")
def index(store, index_settings):
    build_index(store, index_settings, seed=0)
    return open_index(store, index_settings)


@pytest.fixture(scope="module")
def every_distance(store):
    """Of all patches and the queries of an attack, by a loop in 64-bit integers."""
    patches = store.patches(np.arange(store.num_patches)).astype(np.int64)
    return lambda queries: np.stack(
        [np.square(patches - query.astype(np.int64)).sum(axis=(1, 2, 3)) for query in queries]
    )


def expected(distances, store, k, exclude):
    """The ``k`` nearest, ties by identifier, filled up with none."""
    distances = distances.copy()
    distances[:, np.isin(np.arange(store.num_patches) // store.grid.num_positions, exclude)] = -1
    found = SearchResult(
        np.full((len(distances), k), NO_DISTANCE),
        np.full((len(distances), k), -1),
        np.ones(len(distances), np.bool_),
    )
    for row, of_query in enumerate(distances):
        (allowed,) = np.nonzero(of_query >= 0)
        ids = allowed[np.argsort(of_query[allowed], kind="stable")][:k]
        found.ids[row, : len(ids)] = ids
        found.squared_distances[row, : len(ids)] = of_query[ids]
    return found


def attack_queries(store, rng):
    """Of each attack other queries: one, two or an odd number, in the store, near it or far."""
    number = int(rng.choice([1, 2, 5]))
    stored = store.patches(rng.integers(0, store.num_patches, number))
    changed = stored ^ rng.integers(0, 2, stored.shape, dtype=np.uint8)
    random = rng.integers(0, 256, stored.shape, dtype=np.uint8)
    black = np.zeros_like(stored)
    kinds = np.stack([stored, changed, random, black])
    return kinds[rng.integers(0, 4, number), np.arange(number)]


@pytest.mark.parametrize("mode", TORCH_MODES)
def test_engines_answer_as_a_loop_does_in_every_mode(mode, store, index, every_distance):
    rng = np.random.default_rng(sorted(TORCH_MODES).index(mode))
    engines = {
        "exact": ExhaustiveSearcher(store),
        "certified": ExhaustiveSearcher(store, index.basis.first(5), index),
        "certified, no guide": ExhaustiveSearcher(store, index.basis),
    }
    for k in rng.choice(KS, 3, replace=False).tolist():
        queries = attack_queries(store, rng)
        exclude = rng.choice(store.num_images, rng.integers(0, 4), replace=False)
        distances = every_distance(queries)
        wanted = expected(distances, store, k, exclude)
        for name, engine in engines.items():
            with TORCH_MODES[mode]():
                before = torch_state()
                found = engine.search(queries, k, exclude)
                assert torch_state() == before
            assert found.proven.all()
            np.testing.assert_array_equal(found.ids, wanted.ids, err_msg=name)
            np.testing.assert_array_equal(found.squared_distances, wanted.squared_distances)
        with TORCH_MODES[mode]():
            approximate = index.search(queries, k, exclude)
        there = approximate.ids >= 0
        rows = np.nonzero(there)[0]
        exact = distances[rows, approximate.ids[there]]
        np.testing.assert_array_equal(approximate.squared_distances[there], exact)
        assert not np.isin(approximate.ids[there] // store.grid.num_positions, exclude).any()


@pytest.mark.parametrize("mode", ["autocast", "medium precision", "float64", "meta device"])
def test_an_index_built_in_any_mode_is_the_same(mode, store, index, index_settings, tmp_path):
    del index  # built without modes
    other = store_of(adversarial_images(np.random.default_rng(3)), tmp_path)
    with TORCH_MODES[mode]():
        build_index(other, index_settings, seed=0)
    for name in ("index.faiss", "basis.h5"):
        expected_bytes = (store.path / name).read_bytes()
        assert (other.path / name).read_bytes() == expected_bytes


@dataclass(frozen=True)
class Liar(Searcher):
    """Answers what it likes, and calls it proven.

    Attributes:
        answer: Gives identifiers and squared distances, for queries and ``k``.
    """

    answer: Callable[[int, int], tuple[np.ndarray, np.ndarray]]

    def search_all(self, questions, k):
        return [
            SearchResult(distances, ids, np.ones(len(ids), bool))
            for distances, ids in (self.answer(len(each.queries), k) for each in questions)
        ]


def repeated(value, distance=0):
    return lambda queries, k: (
        np.full((queries, k), distance, np.int64),
        np.full((queries, k), value, np.int64),
    )


LIES = {
    "one patch again and again": repeated(5),
    "two patches in turns": lambda queries, k: (
        np.zeros((queries, k), np.int64),
        np.tile(np.arange(k) % 2, (queries, 1)),
    ),
    "an excluded image": lambda queries, k: (
        np.zeros((queries, k), np.int64),
        np.tile(np.arange(k) + 2 * 49, (queries, 1)),
    ),
    "no such patch": repeated(10**12),
    "negative": repeated(-7),
    "none": repeated(-1, NO_DISTANCE),
    "too near": lambda queries, k: (
        np.zeros((queries, k), np.int64),
        np.tile(np.arange(k), (queries, 1)),
    ),
    "negative distances": lambda queries, k: (
        np.full((queries, k), -1, np.int64),
        np.tile(np.arange(k), (queries, 1)),
    ),
    "fewer": lambda queries, k: (
        np.zeros((queries, k - 1), np.int64),
        np.tile(np.arange(k - 1), (queries, 1)),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_guide_is_not_believed(lie, store, index, every_distance):
    guide = Liar(LIES[lie])
    rng = np.random.default_rng(8)
    queries = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    found = ExhaustiveSearcher(store, index.basis, guide).search(queries, 6, np.array([2]))
    wanted = expected(every_distance(queries), store, 6, [2])
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.squared_distances, wanted.squared_distances)


def test_a_guide_is_not_believed_about_what_only_one_question_excludes(store, every_distance):
    rng = np.random.default_rng(8)
    queries = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    questions = [Question(queries, np.array([number])) for number in (0, 2)]
    guide = Liar(LIES["too near"])
    for question, found in zip(
        questions, ExhaustiveSearcher(store, guide=guide).search_all(questions, 4), strict=True
    ):
        wanted = expected(every_distance(queries), store, 4, question.exclude)
        np.testing.assert_array_equal(found.ids, wanted.ids)


def test_an_index_that_names_patches_twice_is_answered_from_once(store, index, every_distance):
    class Twice:
        """The index, which finds each patch twice, and some that do not exist."""

        def search(self, descriptors, k, params):
            distances, ids = index.index.search(descriptors, k, params=params)
            ids[:, 1::2] = ids[:, ::2][:, : ids[:, 1::2].shape[1]]
            ids[:, -2:] = [10**9, -5]
            return distances, ids

    searcher = type(index)(store, index.basis, Twice(), None, rerank=40, probes=4)
    queries = store.patches(np.arange(3) * 20)
    found = searcher.search(queries, 30, NOTHING)
    distances = every_distance(queries)
    for row, (ids, squared) in enumerate(zip(found.ids, found.squared_distances, strict=True)):
        there = ids >= 0
        assert len(set(ids[there])) == there.sum() >= 20
        np.testing.assert_array_equal(squared[there], distances[row, ids[there]])
    guided = ExhaustiveSearcher(store, index.basis, searcher).search(queries, 30, NOTHING)
    np.testing.assert_array_equal(guided.ids, expected(distances, store, 30, []).ids)


@pytest.mark.parametrize("certified", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_ties_take_no_more_memory_than_other_distances(known, certified, store, index):
    images = np.zeros((50, 32, 32, 3), np.uint8)
    queries = np.zeros((9, 8, 8, 3), np.uint8)
    queries[4:] = 77
    queries[8, 0, 0, 0] = 1
    scan = Scan(queries, store.grid, 5, index.basis if certified else None)
    bounds = np.full(9, NO_DISTANCE)
    if known:
        bounds[:8] = [0] * 4 + [77**2 * 192] * 4
    found = scan.block(images, np.arange(50), bounds)
    assert len(found.ids) == 9 * 5
    assert found.ids.reshape(9, 5).tolist() == [[0, 1, 2, 3, 4]] * 9


def test_some_columns_tie_and_others_do_not(store):
    # A query that ties everywhere beside one that is near a single patch.
    rng = np.random.default_rng(0)
    images = np.zeros((8, 32, 32, 3), np.uint8)
    images[5] = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    queries = np.stack([np.zeros((8, 8, 3), np.uint8), images[5, :8, :8]])
    scan = Scan(queries, store.grid, 3)
    found = scan.block(images, np.arange(8), np.array([0, 0]))
    pairs = sorted(zip(found.queries.tolist(), found.ids.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2), (1, 5 * 49)]


def test_the_loop_of_this_attack_is_that_of_the_other_tests(store, every_distance):
    queries = store.patches(np.array([3, 100]))
    for k, exclude in itertools.product((1, 9, 400), ([], [0, 2])):
        wanted = search_in_a_loop(store, queries, k, set(exclude))
        found = expected(every_distance(queries), store, k, exclude)
        np.testing.assert_array_equal(found.ids, wanted[1])
        np.testing.assert_array_equal(found.squared_distances, wanted[0])
