"""The pass over the store, against loops in 64-bit integers and adversarial pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.errors import GeometryError
from patchcollide.geometry import PatchGrid
from patchcollide.retrieval.component_bounds import ComponentBounds
from patchcollide.retrieval.scan import Scan
from patchcollide.retrieval.searcher import NO_DISTANCE, Pairs
from patchcollide.store.descriptors import Basis
from patchcollide.store.integer_products import centred, row_norms

GRID = PatchGrid(16, 8, 4, 8)
KINDS = ("noise", "flat", "black and white", "nearly flat", "ramp", "copies")


def pictures(kind, num, rng):
    """Images of one kind: those on which distances tie, or differ least, or are largest."""
    shape = (num, GRID.image_size, GRID.image_size, 3)
    if kind == "flat":
        levels = rng.integers(0, 256, (num, 1, 1, 1), dtype=np.uint8)
        return np.broadcast_to(levels, shape).copy()
    if kind == "black and white":
        return 255 * rng.integers(0, 2, shape, dtype=np.uint8)
    if kind == "nearly flat":
        return 100 + rng.integers(0, 2, shape, dtype=np.uint8)
    if kind == "ramp":
        ramp = np.linspace(0, 255, shape[2], dtype=np.uint8)[None, None, :, None]
        return np.broadcast_to(ramp, shape) // rng.integers(1, 4, (num, 1, 1, 1), dtype=np.uint8)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "copies":
        images[1:] = images[0]
        images[-1, 3, 3, 1] ^= 1
    return images


def random_basis(rng, num_components, dimension=GRID.dimension):
    filters = rng.integers(-127, 128, (num_components, dimension)).astype(np.int8)
    wide = filters.astype(np.float64)
    transform = np.linalg.inv(np.linalg.cholesky(wide @ wide.T)).astype(np.float32)
    return Basis(filters, transform, variance_share=0.5)


def nearest_in_a_loop(images, queries, k):
    patches = GRID.patches(images).reshape(-1, GRID.dimension).astype(np.int64)
    found = []
    for number, query in enumerate(queries.reshape(len(queries), -1).astype(np.int64)):
        distances = ((patches - query) ** 2).sum(axis=1)
        order = np.lexsort((np.arange(len(patches)), distances))[:k]
        found += [(number, int(row), int(distances[row])) for row in order]
    return found


def as_tuples(pairs):
    return list(
        zip(
            pairs.queries.tolist(),
            pairs.ids.tolist(),
            pairs.squared_distances.tolist(),
            strict=True,
        )
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    query_kind=st.sampled_from(KINDS),
    num_images=st.integers(1, 19),
    k=st.sampled_from([1, 2, 7, 30]),
    num_components=st.sampled_from([None, 1, 2, 5, 64]),
    known=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_pass_finds_what_a_loop_in_integers_finds(
    seed, kind, query_kind, num_images, k, num_components, known
):
    rng = np.random.default_rng(seed)
    images = pictures(kind, num_images, rng)
    queries = GRID.patches(pictures(query_kind, 1, rng)).reshape(-1, 8, 8, 3)[:3]
    queries = np.concatenate([queries, GRID.patches(images[:1])[0, :1, 1]])
    basis = random_basis(rng, num_components) if num_components else None
    expected = nearest_in_a_loop(images, queries, k)
    bounds = np.full(len(queries), NO_DISTANCE)
    if known:
        # As tight as can be: the k-th distance itself.
        for query, _, distance in expected:
            bounds[query] = distance
    scan = Scan(queries, GRID, k, basis)
    found = scan.block(images, np.arange(num_images), bounds).nearest(k)
    assert as_tuples(found) == expected


@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    num_components=st.sampled_from([1, 3, 64, 192]),
)
@settings(max_examples=100, deadline=None)
def test_the_bound_is_never_below_the_inner_product(seed, kinds, num_components):
    rng = np.random.default_rng(seed)
    rows, queries = (
        torch.from_numpy(centred(GRID.patches(pictures(kind, 3, rng)))).reshape(-1, GRID.dimension)
        for kind in kinds
    )
    bound = ComponentBounds(random_basis(rng, num_components))
    described = [bound.describe(part, row_norms(part)).double() for part in (rows, queries)]
    upper = described[0] @ described[1].T
    products = rows.double() @ queries.double().T
    assert (upper >= products).all()


def test_the_bound_is_close_where_the_basis_holds_everything(rng):
    rows = torch.from_numpy(rng.integers(-128, 128, (50, GRID.dimension), dtype=np.int8))
    bound = ComponentBounds(random_basis(rng, GRID.dimension))
    described = bound.describe(rows, row_norms(rows)).double()
    excess = described @ described.T - rows.double() @ rows.double().T
    assert excess.max() <= 0.05 * row_norms(rows).max()


def test_most_patches_are_proven_too_far_without_a_comparison(rng, monkeypatch):
    compared = []
    original = Scan._compare

    def counted(self, rows, *rest):
        compared.append(len(rows))
        return original(self, rows, *rest)

    monkeypatch.setattr(Scan, "_compare", counted)
    images = pictures("noise", 20, rng) // 8 + rng.integers(0, 200, (20, 1, 1, 3), dtype=np.uint8)
    queries = GRID.patches(images[:1]).reshape(-1, 8, 8, 3)
    flat = np.ones((3, GRID.patch_size**2, 3), np.int8) * np.eye(3, dtype=np.int8)[:, None]
    filters = flat.reshape(3, -1)
    basis = Basis(filters, np.eye(3, dtype=np.float32) / 8, variance_share=0.9)
    scan = Scan(queries, GRID, 1, basis)
    found = scan.block(images, np.arange(20), np.zeros(len(queries), np.int64))
    assert as_tuples(found.nearest(1)) == nearest_in_a_loop(images, queries, 1)
    assert sum(compared) < 0.3 * 20 * GRID.num_positions


def test_a_basis_far_from_orthonormal_is_not_relied_on(rng):
    basis = random_basis(rng, 4)
    wrong = Basis(basis.filters, 2 * basis.transform, variance_share=0.5)
    assert basis.skewness < 1e-5 < 0.1 < wrong.skewness
    images = pictures("noise", 5, rng)
    queries = GRID.patches(images[4:]).reshape(-1, 8, 8, 3)
    bounds = np.full(len(queries), NO_DISTANCE)
    found = Scan(queries, GRID, 2, wrong).block(images, np.arange(5), bounds)
    assert as_tuples(found.nearest(2)) == nearest_in_a_loop(images, queries, 2)


def test_patches_too_large_for_32_bits_are_refused():
    queries = np.zeros((1, 105, 105, 3), np.uint8)
    with pytest.raises(GeometryError, match=r"105 x 105 pixels are too large.*104 x 104"):
        Scan(queries, PatchGrid(105, 105, 1, 105), 1)


def test_the_largest_patches_compare_right():
    grid = PatchGrid(104, 104, 1, 104)
    images = np.stack([np.full((104, 104, 3), level, np.uint8) for level in (0, 255, 254)])
    bounds = np.full(3, NO_DISTANCE)
    found = Scan(images, grid, 3).block(images, np.arange(3), bounds).nearest(3)
    assert as_tuples(found)[:3] == [
        (0, 0, 0),
        (0, 2, 254**2 * 3 * 104**2),
        (0, 1, 255**2 * 3 * 104**2),
    ]


def test_no_images_give_no_pairs(rng):
    queries = GRID.patches(pictures("noise", 1, rng)).reshape(-1, 8, 8, 3)
    nothing = np.empty((0, 16, 16, 3), np.uint8)
    bounds = np.full(len(queries), NO_DISTANCE)
    assert not as_tuples(Scan(queries, GRID, 1).block(nothing, np.arange(0), bounds))


@pytest.mark.parametrize("num_components", [None, 3])
@pytest.mark.parametrize("k", [1, 9, 20])
def test_a_query_never_finds_what_is_barred_to_it(num_components, k, rng):
    images = pictures("noise", 11, rng)
    queries = GRID.patches(images[:2]).reshape(-1, 8, 8, 3)
    numbers = 40 + np.arange(11)
    barred = {40: np.arange(9), 41: np.arange(9, 18), 45: np.array([2, 3, 11])}
    basis = random_basis(rng, num_components) if num_components else None
    bounds = np.full(len(queries), NO_DISTANCE)
    found = Scan(queries, GRID, k, basis, barred).block(images, numbers, bounds).nearest(k)
    every = nearest_in_a_loop(images, queries, 99)
    expected = []
    for query in range(18):
        mine = [
            (query, number + 40 * GRID.num_positions, distance)
            for q, number, distance in every
            if q == query and query not in barred.get(40 + number // GRID.num_positions, ())
        ]
        expected += mine[:k]
    assert as_tuples(found) == expected


@given(
    triplets=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40),
    k=st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_nearest_pairs_are_sorted_and_unique(triplets, k):
    # A pair has one distance, however often it is found.
    rows = [(query, number, (7 * query + 3 * number) % 4) for query, number in triplets]
    pairs = Pairs(*np.array(rows, np.int64).reshape(-1, 3).T)
    expected = []
    for query in range(4):
        mine = sorted({(distance, number) for q, number, distance in rows if q == query})
        expected += [(query, number, distance) for distance, number in mine[:k]]
    nearest = pairs.nearest(k)
    assert as_tuples(nearest) == expected
    distances, ids = nearest.table(4, k)
    for query in range(4):
        mine = [(d, n) for q, n, d in expected if q == query]
        mine += [(NO_DISTANCE, -1)] * (k - len(mine))
        assert list(zip(distances[query].tolist(), ids[query].tolist(), strict=True)) == mine
