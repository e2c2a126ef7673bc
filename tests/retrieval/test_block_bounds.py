"""Bounds by block sums, against loops in 64-bit integers and adversarial pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.geometry import PatchGrid
from patchcollide.retrieval import block_bounds, exhaustive
from patchcollide.retrieval.block_bounds import BlockBounds, SumBounds
from patchcollide.retrieval.scan import Scan
from patchcollide.retrieval.searcher import NO_DISTANCE
from patchcollide.store.descriptors import Basis
from patchcollide.store.integer_products import centred, row_norms
from tests.helpers.blocks import blocks_of

GRIDS = {4: PatchGrid(24, 16, 4, 16), 2: PatchGrid(16, 8, 4, 8)}
KINDS = ("noise", "flat", "black and white", "nearly flat", "bright", "copies", "details")


def pictures(grid, kind, num, rng):
    """Images of one kind: those on which bounds tie, are nearly exact, or say nothing."""
    side = grid.image_size
    shape = (num, side, side, 3)
    if kind == "flat":
        return np.broadcast_to(rng.integers(0, 256, (num, 1, 1, 1), dtype=np.uint8), shape).copy()
    if kind == "black and white":
        return 255 * rng.integers(0, 2, shape, dtype=np.uint8)
    if kind == "nearly flat":
        return 100 + rng.integers(0, 2, shape, dtype=np.uint8)
    if kind == "bright":
        return 254 + rng.integers(0, 2, shape, dtype=np.uint8)
    if kind == "details":
        # Of blocks that all have the same sum.
        board = np.indices((side, side)).sum(axis=0) % 2
        signs = rng.choice([-1, 1], (num, 1, 1, 1)) * rng.integers(1, 100, (num, 1, 1, 1))
        return (128 + signs * (2 * board[:, :, None] - 1)).astype(np.uint8).repeat(3, axis=3)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "copies":
        images[1:] = images[0]
        images[-1, 3, 3, 1] ^= 1
    return images


def cut(grid, images):
    return grid.patches(images).reshape(-1, grid.patch_size, grid.patch_size, 3)


def filters_of(blocks, rng, num):
    return rng.integers(-127, 128, (num, blocks.width)).astype(np.int8)


def every_distance(patches, queries):
    wide = patches.reshape(len(patches), -1).astype(np.int64)
    return np.stack(
        [((wide - query.ravel().astype(np.int64)) ** 2).sum(axis=1) for query in queries], axis=1
    )


def bounds_of(grid, queries, rng, num):
    blocks = blocks_of(grid)
    norms = row_norms(torch.from_numpy(centred(queries).reshape(len(queries), -1)))
    return BlockBounds(blocks, filters_of(blocks, rng, num), queries, norms)


@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([2, 4]),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    num_images=st.integers(1, 18),
    num_filters=st.sampled_from([1, 2, 7, 40]),
    most=st.sampled_from([0, 1]),
)
@settings(max_examples=150, deadline=None)
def test_a_patch_within_its_bound_is_never_proven_too_far(
    seed, side, kinds, num_images, num_filters, most
):
    rng, grid = np.random.default_rng(seed), GRIDS[side]
    images = pictures(grid, kinds[0], num_images, rng)
    patches, queries = cut(grid, images), cut(grid, pictures(grid, kinds[1], 1, rng))[:5]
    distances = every_distance(patches, queries)
    # As tight as can be: of each query the distance of some patch itself.
    chosen = rng.integers(len(patches), size=len(queries))
    limits = distances[chosen, np.arange(len(queries))]
    bounds = bounds_of(grid, queries, rng, num_filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_bounds, "MOST_BOUNDED", most)
        found = bounds.near(blocks_of(grid).summed(images), limits)
    within = distances <= limits
    assert set(np.flatnonzero(within.any(axis=1))) <= set(found.rows)
    assert set(np.flatnonzero(within.any(axis=0))) <= set(found.queries)


@pytest.mark.parametrize("side", [2, 4])
def test_the_bound_is_exact_where_patches_are_constant_on_blocks(side, rng, monkeypatch):
    monkeypatch.setattr(block_bounds, "MOST_BOUNDED", 1)
    grid = GRIDS[side]
    small = rng.integers(0, 256, (6, *[grid.image_size // side] * 2, 3), dtype=np.uint8)
    images = small.repeat(side, axis=1).repeat(side, axis=2)
    patches = cut(grid, images)
    queries = patches[:1]
    distances = every_distance(patches, queries)[:, 0]
    limits = np.sort(distances)[[7]]
    found = bounds_of(grid, queries, rng, 3).near(blocks_of(grid).summed(images), limits)
    np.testing.assert_array_equal(found.rows, np.flatnonzero(distances <= limits))


def test_where_the_first_bound_leaves_most_the_second_is_not_asked(rng, monkeypatch):
    grid, asked = GRIDS[4], []
    near = SumBounds.near
    monkeypatch.setattr(
        SumBounds, "near", lambda self, *given: asked.append(len(given[0])) or near(self, *given)
    )
    images = pictures(grid, "noise", 40, rng)
    images[5:] //= 8
    bounds = bounds_of(grid, cut(grid, images[:1]), rng, 12)
    num_queries, sums = grid.num_positions, blocks_of(grid).summed(images)
    few = bounds.near(sums, np.full(num_queries, 1000))
    assert asked == [len(few.rows)]
    most = bounds.near(sums, np.full(num_queries, 10**9))
    assert len(asked) == 1
    assert most.rows.tolist() == list(range(40 * grid.num_positions))
    assert most.queries.tolist() == list(range(num_queries))


def test_most_patches_are_proven_too_far(rng):
    grid = GRIDS[4]
    images = pictures(grid, "noise", 20, rng) // 8
    images += rng.integers(0, 200, (20, 1, 1, 3), dtype=np.uint8)
    queries = cut(grid, images[:1])
    found = bounds_of(grid, queries, rng, 12).near(
        blocks_of(grid).summed(images), np.full(len(queries), 1000)
    )
    assert set(range(len(queries))) <= set(found.rows)
    assert len(found.rows) < 0.3 * 20 * grid.num_positions


@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([2, 4]),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    num_images=st.integers(1, 18),
    k=st.sampled_from([1, 2, 30]),
    known=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_pass_over_sums_finds_what_a_loop_in_integers_finds(
    seed, side, kinds, num_images, k, known
):
    rng, grid = np.random.default_rng(seed), GRIDS[side]
    blocks = blocks_of(grid)
    images = pictures(grid, kinds[0], num_images, rng)
    patches, queries = cut(grid, images), cut(grid, pictures(grid, kinds[1], 1, rng))[:3]
    distances = every_distance(patches, queries)
    order = np.lexsort((np.arange(len(patches))[:, None].repeat(3, 1), distances), axis=0)[:k]
    expected = np.take_along_axis(distances, order, axis=0)
    limits = expected[-1] if known else np.full(3, NO_DISTANCE)
    filters = filters_of(blocks, rng, 4)
    basis = Basis(blocks.spread(filters), np.eye(4, dtype=np.float32), 0.5, blocks)
    scan = Scan(queries, grid, k, basis)
    assert scan.takes_sums
    read = []

    def pixels(places):
        read.extend(places.tolist())
        return images[places]

    pairs = scan.block_of_sums(blocks.summed(images), np.arange(num_images), limits, pixels)
    ids, found = pairs.nearest(k).table(3, len(order))[::-1]
    np.testing.assert_array_equal(ids, order.T)
    np.testing.assert_array_equal(found, expected.T)
    assert len(read) == len(set(read))


@pytest.mark.parametrize(
    ("threads", "num_images", "expected"),
    [(2, 2048, 512), (2, 600, 150), (16, 2048, 64), (1, 5000, 512), (64, 3, 64)],
)
def test_every_thread_has_several_turns_at_a_shard(threads, num_images, expected, monkeypatch):
    monkeypatch.setattr(exhaustive, "num_threads", lambda: threads)
    scan = Scan(np.zeros((1, 16, 16, 3), np.uint8), GRIDS[4], 1)
    assert exhaustive.images_at_once(scan, num_images) == 64
    monkeypatch.setattr(Scan, "takes_sums", True)
    assert exhaustive.images_at_once(scan, num_images) == expected
