"""Samples where a failure is likely find what uniform ones miss, and estimate the same share."""

import math

import numpy as np
import pytest

from patchcollide.evaluation.aimed import (
    edge_parameters,
    estimate_share,
    mixture_density,
    worst_parameters,
)
from patchcollide.evaluation.intervals import wilson_interval


def drawn(kind, count, rng):
    return np.stack([rng.dirichlet(kind[rng.integers(len(kind))]) for _ in range(count)])


def kinds_around(worst):
    return [edge_parameters(len(worst)), worst_parameters(np.asarray(worst, dtype=np.float64))]


def test_densities_are_those_of_dirichlet_distributions():
    points = np.asarray([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    found = np.exp(mixture_density(points, [np.asarray([2.0, 1.0, 3.0])]))
    # Gamma(6) / (Gamma(2) Gamma(3)) x z^2, over Gamma(3) of the uniform one.
    expected = 120 / 2 * points[:, 0] * points[:, 2] ** 2 / 2
    np.testing.assert_allclose(found, expected)
    uniform = mixture_density(points, [np.ones(3)])
    np.testing.assert_allclose(uniform, 0, atol=1e-12)


@pytest.mark.parametrize("num_vertices", [2, 3, 5])
def test_a_density_is_one_on_average(num_vertices, rng):
    points = rng.dirichlet(np.ones(num_vertices), 200_000)
    kind = [np.full(num_vertices, 1.5), 1 + 3 * np.eye(num_vertices)[0]]
    assert np.exp(mixture_density(points, kind)).mean() == pytest.approx(1, abs=0.03)


def outside(points):
    """Beyond 96 % of the first vertex: 0.04 ** 4 of the volume of five."""
    return points[:, 0] > 0.96


def test_a_corner_that_uniform_samples_never_meet_is_found_and_measured(rng):
    truth = 0.04**4
    kinds = kinds_around([0.98, 0.02, 0, 0, 0])
    weights = [rng.dirichlet(np.ones(5), 2000), *(drawn(kind, 500, rng) for kind in kinds)]
    hits = [outside(part) for part in weights]
    assert hits[0].sum() == 0
    assert hits[1].sum() > 0
    assert hits[2].sum() > 0
    share, (low, high) = estimate_share(weights, hits, kinds)
    assert share == pytest.approx(truth, rel=0.5)
    assert low <= truth <= high


def test_shares_are_without_bias_and_within_their_intervals(rng):
    kinds = kinds_around([0.5, 0.5, 0])
    truth = 0.3**2  # Of a corner of a triangle.
    found = []
    for _ in range(60):
        weights = [rng.dirichlet(np.ones(3), 100), *(drawn(kind, 50, rng) for kind in kinds)]
        share, (low, high) = estimate_share(weights, [w[:, 2] > 0.7 for w in weights], kinds)
        assert low <= truth <= high
        found.append(share)
    assert np.mean(found) == pytest.approx(truth, abs=float(4 * np.std(found) / math.sqrt(60)))


def test_where_nothing_is_found_the_interval_promises_no_more_than_wilson_s(rng):
    kinds = kinds_around([1, 0, 0])
    weights = [rng.dirichlet(np.ones(3), 2000), *(drawn(kind, 500, rng) for kind in kinds)]
    share, (low, high) = estimate_share(weights, [np.zeros(len(w), bool) for w in weights], kinds)
    assert (share, low) == (0, 0)
    assert high > wilson_interval(0, 3000)[1]
    share, (low, high) = estimate_share(weights, [np.ones(len(w), bool) for w in weights], kinds)
    assert share > 0.9
    assert low <= high == 1
