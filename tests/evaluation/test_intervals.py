"""Intervals by resampling, and areas under ROC curves, against counting pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.evaluation.intervals import (
    area_interval,
    area_under_roc,
    mean_interval,
    midranks,
    rank_correlation,
)
from tests.helpers.presence import present

# Few values, so that many are equal.
LABELLED = st.lists(st.tuples(st.integers(-2, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: 0 < sum(positive for _, positive in pairs) < len(pairs)
)


def arrays(pairs):
    scores, positives = zip(*pairs, strict=True)
    return np.array(scores, dtype=np.float64), np.array(positives)


def count_pairs(scores, positives):
    """The slow way: each positive against each negative, ties half."""
    wins = [
        1.0 if first > second else 0.5 if first == second else 0.0
        for first in scores[positives]
        for second in scores[~positives]
    ]
    return sum(wins) / len(wins)


@settings(max_examples=200, deadline=None)
@given(LABELLED)
def test_the_area_is_the_share_of_pairs_in_order(pairs):
    scores, positives = arrays(pairs)
    assert area_under_roc(scores, positives) == pytest.approx(count_pairs(scores, positives))
    assert area_under_roc(-scores, positives) == pytest.approx(
        1 - area_under_roc(scores, positives)
    )


@pytest.mark.parametrize(("scores", "area"), [([1, 2], 1), ([2, 1], 0), ([3, 3], 0.5)])
def test_the_area_of_one_pair(scores, area):
    assert area_under_roc(np.array(scores, dtype=float), np.array([False, True])) == area


def test_the_interval_of_an_area_covers_it_and_narrows(rng):
    def width(count):
        positives = np.arange(count) < count // 4
        scores = rng.normal(size=count) + positives
        low, high = present(area_interval(scores, positives, np.random.default_rng(0), 400))
        assert low < area_under_roc(scores, positives) < high
        return high - low

    assert width(800) < 0.5 * width(40)


@pytest.mark.parametrize(
    "positives",
    [[False, True], [False, True, True, True], [False, True, False, False], [0, 1, 1, 0]],
)
def test_an_area_that_resampling_cannot_vary_has_no_interval(positives, rng):
    positives = np.array(positives, dtype=bool)
    assert area_interval(positives.astype(float), positives, rng, 20) is None


def test_intervals_of_means_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        low, high = present(mean_interval(rng.normal(2, 5, size=40), rng, 300))
        hits += low <= 2 <= high
    assert 0.9 <= hits / 300 <= 0.98


@pytest.mark.parametrize("values", [[], [0.25], [0.25, 0.25], [0.0] * 30])
def test_a_mean_of_values_that_do_not_vary_has_no_interval(values, rng):
    assert mean_interval(np.array(values), rng) is None


def test_two_values_that_differ_have_an_interval(rng):
    assert mean_interval(np.array([0.25, 0.5]), rng) == (0.25, 0.5)


def test_equal_seeds_give_equal_intervals():
    values = np.arange(9.0)
    found = [mean_interval(values, np.random.default_rng(5)) for _ in range(2)]
    assert found[0] == found[1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_midranks_are_means_of_places_in_order(values):
    ordered = sorted(values)
    expected = [
        np.mean([place for place, other in enumerate(ordered, 1) if other == value])
        for value in values
    ]
    assert midranks(np.array(values, dtype=float)) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_values_have_no_correlation(count, rng):
    # Any two are perfectly correlated.
    assert rank_correlation(rng.normal(size=count), rng.normal(size=count)) is None


def test_rank_correlations_see_order_only(rng):
    values = rng.normal(size=15)
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert rank_correlation(values, -(values**3)) == pytest.approx(-1)
    assert rank_correlation(values, np.ones(15)) is None
