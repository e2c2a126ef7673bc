"""Tours walk edges as often as parity forces them to, and stay in the polytope."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchcollide.evaluation.simplex import CENTRE, leg_labels, tour, tour_stops


def legs(num_vertices):
    return list(itertools.pairwise(tour_stops(num_vertices)))


def edges(num_vertices):
    """How often each edge between two vertices is walked, in either direction."""
    return Counter(frozenset(leg) for leg in legs(num_vertices) if CENTRE not in leg)


@pytest.mark.parametrize("num", range(2, 11))
def test_every_edge_is_walked_and_as_few_as_can_be_again(num):
    walked = edges(num)
    assert set(walked) == {frozenset(pair) for pair in itertools.combinations(range(num), 2)}
    # All vertices have odd degree if their number is even; a walk may leave two of them so.
    forced = num // 2 - 1 if num % 2 == 0 else 0
    assert walked.total() - len(walked) == forced


@pytest.mark.parametrize("num", range(2, 11))
def test_every_vertex_is_reached_from_the_centre(num):
    spokes = {frozenset(leg) for leg in legs(num) if CENTRE in leg}
    assert spokes == {frozenset({CENTRE, vertex}) for vertex in range(num)}


@pytest.mark.parametrize("num", [11, 12, 33, 64])
def test_long_tours_are_cut_but_see_every_vertex(num):
    assert set(tour_stops(num)) == {CENTRE, *range(num)}
    walked = edges(num)
    assert num - 1 <= walked.total() <= max(50, num)
    assert walked.total() - len(walked) <= 50 // num


@given(st.integers(1, 64), st.integers(1, 7))
def test_points_are_convex_and_lie_on_their_legs(num, samples):
    stops, points = tour_stops(num), tour(num, samples)
    assert points.shape == (1 + samples * (len(stops) - 1), num)
    assert points.min() >= 0
    np.testing.assert_allclose(points.sum(axis=1), 1, atol=1e-12)
    places = [np.full(num, 1 / num) if stop == CENTRE else np.eye(num)[stop] for stop in stops]
    np.testing.assert_array_equal(points[::samples], places)
    for leg, (start, stop) in enumerate(itertools.pairwise(places)):
        for step in range(samples + 1):
            expected = start + (stop - start) * step / samples
            np.testing.assert_allclose(points[leg * samples + step], expected, atol=1e-12)


@pytest.mark.parametrize("num", [*range(1, 14), 64])
def test_tours_are_closed_and_never_stand_still(num):
    stops = tour_stops(num)
    assert stops[0] == stops[-1] == 0
    assert all(first != second for first, second in itertools.pairwise(stops))


def test_one_vertex_is_a_point():
    assert tour(1, 5).tolist() == [[1.0]]
    assert leg_labels(1) == []


def test_legs_are_named():
    assert leg_labels(2) == [
        "vertex 0 to vertex 1",
        "vertex 1 to the centre",
        "the centre to vertex 0",
    ]
    assert leg_labels(5)[:3] == [
        "vertex 0 to vertex 1",
        "vertex 1 to vertex 2",
        "vertex 2 to vertex 4",
    ]
    assert len(leg_labels(5)) == 20


def test_there_must_be_something_to_tour():
    with pytest.raises(ValueError, match="at least one vertex"):
        tour_stops(0)
    with pytest.raises(ValueError, match="at least one sample a leg"):
        tour(3, 0)
