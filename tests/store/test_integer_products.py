import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.geometry import PatchGrid
from patchcollide.store import integer_products as products
from patchcollide.store.integer_products import (
    centred,
    inner_products,
    row_norms,
    squared_norms,
    window_rows,
)

GRIDS = [
    PatchGrid(32, 8, 4, 8),
    PatchGrid(31, 7, 3, 7),
    PatchGrid(8, 8, 1, 8),
    PatchGrid(9, 1, 1, 1),
]


@pytest.fixture(autouse=True)
def _fresh_choice_of_kernel():
    # Before a test replaces them.
    caches = products._kernel, products._kernels
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def random_rows(rng, num, dimension):
    """Centred values; in the first rows the extremes, whose sums are the largest there are."""
    rows = rng.integers(-128, 128, (num, dimension), dtype=np.int8)
    rows[:1] = -128
    rows[1:2] = 127
    rows[2:3, ::2], rows[2:3, 1::2] = -128, 127
    return rows


def test_centred_values_are_those_less_128(rng):
    pixels = rng.integers(0, 256, (3, 5), dtype=np.uint8)
    np.testing.assert_array_equal(centred(pixels), pixels.astype(int) - 128)


@pytest.mark.parametrize("fastest", [products._by_integers, products._by_floats])
@pytest.mark.parametrize("dimension", [1, 3, 192, 1024, 1025, 3072, 12288])
@pytest.mark.parametrize(("num_rows", "num_filters"), [(1, 1), (2, 1), (1, 3), (5, 7), (33, 2)])
def test_products_are_those_of_int64(fastest, dimension, num_rows, num_filters, monkeypatch, rng):
    monkeypatch.setattr(products, "_kernels", lambda _: (fastest, products._by_floats))
    rows = random_rows(rng, num_rows, dimension)
    filters = random_rows(rng, num_filters, dimension)
    found = inner_products(torch.from_numpy(rows), torch.from_numpy(filters))
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found, rows.astype(np.int64) @ filters.astype(np.int64).T)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_products_of_nothing_are_empty(shape):
    rows, filters = (torch.zeros(n, 12, dtype=torch.int8) for n in shape)
    assert inner_products(rows, filters).shape == shape


def test_a_kernel_that_overflows_is_not_used(monkeypatch, rng):
    def saturating(rows, filters):
        """Adds pairs of products in 16 bits, as processors without the instructions do.

        Only of the first row, which is enough to be told apart.
        """
        products = (rows.double() @ filters.double().T).int()
        pairs = (rows[:1].int() * filters.int()).unflatten(1, (-1, 2)).sum(dim=2)
        products[:1] = pairs.clamp(-(2**15), 2**15 - 1).sum(dim=1)
        return products

    monkeypatch.setattr(products, "_USUAL_SHAPE", (64, 16, 192))
    monkeypatch.setattr(products, "_by_integers", saturating)
    assert products._kernels("cpu") == (products._by_floats,)
    rows = torch.from_numpy(random_rows(rng, 4, 64))
    np.testing.assert_array_equal(inner_products(rows, rows), rows.long() @ rows.long().T)


def test_a_kernel_that_this_torch_lacks_is_not_used(monkeypatch):
    def missing(rows, filters):
        raise RuntimeError("not implemented")

    monkeypatch.setattr(products, "_by_integers", missing)
    assert products._kernels("cpu") == (products._by_floats,)


def wide_products(rows, filters):
    return (rows.long() @ filters.long().T).int()


class Shape(NamedTuple):
    rows: int
    filters: int
    values: int


WRONG_AT = {
    "one value": lambda shape: shape.values == 1,
    "odd values": lambda shape: shape.values % 2 == 1,
    "64 values": lambda shape: shape.values == 64,
    "one row": lambda shape: shape.rows == 1,
    "one filter": lambda shape: shape.filters == 1,
    "one row of one value": lambda shape: shape.rows == shape.values == 1,
    "few rows": lambda shape: shape.rows < 16,
    "many rows": lambda shape: shape.rows > 16,
    "rows that are no multiple of 8": lambda shape: shape.rows % 8 > 0,
    "filters that are half a multiple of 8": lambda shape: shape.filters % 8 == 4,
    "odd rows of three values": lambda shape: shape.rows % 2 == 1 and shape.values == 3,
    "odd rows and even filters": lambda shape: shape.rows % 2 == 1 and shape.filters % 2 == 0,
}


@pytest.mark.parametrize("is_wrong", WRONG_AT.values(), ids=WRONG_AT)
def test_a_kernel_is_not_used_for_shapes_at_which_it_is_wrong(is_wrong, monkeypatch, rng):
    answers: list[torch.Tensor] = []

    def kernel(rows, filters):
        """Where it is wrong it returns what the last answer left in memory."""
        shape = Shape(len(rows), len(filters), rows.shape[1])
        if not is_wrong(shape) or not answers:
            answers.append(wide_products(rows, filters))
            return answers[-1]
        left = np.resize(answers[-1].numpy(), shape[:2])
        return torch.from_numpy(left)

    monkeypatch.setattr(products, "_USUAL_SHAPE", (64, 16, 192))
    monkeypatch.setattr(products, "_by_integers", kernel)
    monkeypatch.setattr(products, "_fastest_of_five", lambda each, *_: float(each is not kernel))
    for num_values in (1, 3, 64):
        rows, filters = (torch.from_numpy(random_rows(rng, 90, num_values)) for _ in range(2))
        expected = wide_products(rows, filters)
        for n, m in itertools.product([1, 2, 7, 12, 16, 17, 24, 90], repeat=2):
            assert torch.equal(inner_products(rows[:n], filters[:m]), expected[:n, :m])


def test_a_kernel_that_answers_from_memory_is_not_used(monkeypatch):
    answers: dict[tuple[int, int], torch.Tensor] = {}

    def kernel(rows, filters):
        return answers.setdefault((len(rows), len(filters)), wide_products(rows, filters))

    monkeypatch.setattr(products, "_kernels", lambda _: (kernel, products._by_floats))
    for shape in itertools.product([1, 2, 40], repeat=2):
        assert products._kernel("cpu", *shape, 1) is products._by_floats


def test_the_fastest_kernel_is_used_where_it_is_right(monkeypatch):
    def kernel(rows, filters):
        return wide_products(rows, filters) + (rows.shape[1] == 1)

    monkeypatch.setattr(products, "_by_integers", kernel)
    monkeypatch.setattr(products, "_fastest_of_five", lambda each, *_: float(each is not kernel))
    assert products._kernel("cpu", 5, 7, 3) is kernel
    assert products._kernel("cpu", 5, 7, 1) is products._by_floats


def test_the_program_is_told_when_no_kernel_is_right(monkeypatch):
    for name in ("_by_integers", "_by_floats"):
        monkeypatch.setattr(products, name, lambda *_: torch.zeros(1))
    rows = torch.zeros(2, 5, dtype=torch.int8)
    with pytest.raises(RuntimeError, match="gives the right answer on cpu, at 2 rows and 2 filt"):
        inner_products(rows, rows)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("num_images", [1, 2, 5])
def test_rows_are_the_windows_in_order(grid, num_images, rng):
    shape = (num_images, grid.image_size, grid.image_size, 3)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    rows = window_rows(torch.from_numpy(centred(images)), grid)
    expected = grid.patches(images).reshape(-1, grid.dimension)
    np.testing.assert_array_equal(rows.numpy().astype(int) + 128, expected)


@pytest.mark.parametrize(
    "grid", [*GRIDS, PatchGrid(224, 32, 12, 32), PatchGrid(66, 33, 33, 33)], ids=str
)
def test_norms_are_those_of_the_rows(grid, rng):
    images = rng.integers(-128, 128, (3, grid.image_size, grid.image_size, 3), dtype=np.int8)
    images[0] = -128
    pixels = torch.from_numpy(images)
    rows = window_rows(pixels, grid)
    expected = np.square(rows.numpy().astype(np.int64)).sum(axis=1)
    np.testing.assert_array_equal(squared_norms(pixels, grid), expected)
    np.testing.assert_array_equal(row_norms(rows), expected)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 9), d=st.integers(1, 2100))
@settings(max_examples=30, deadline=None)
def test_squared_distances_follow_from_norms_and_products(seed, n, d):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, d), dtype=np.uint8)
    rows = torch.from_numpy(centred(pixels))
    norms = row_norms(rows)
    found = norms[:, None] + norms[None] - 2 * inner_products(rows, rows)
    wide = pixels.astype(np.int64)
    np.testing.assert_array_equal(found, ((wide[:, None] - wide[None]) ** 2).sum(axis=2))


def test_faster_modes_of_a_program_do_not_reach_the_products(rng):
    grid = PatchGrid(32, 8, 4, 8)
    images = torch.from_numpy(rng.integers(-128, 128, (2, 32, 32, 3), dtype=np.int8))
    expected = squared_norms(images, grid)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(squared_norms(images, grid), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
