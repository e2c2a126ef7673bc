import numpy as np
import pytest
import torch
from scipy import stats

from patchcollide.evaluation.simplex import (
    combine,
    edge_middles,
    face_weights,
    round_to_8_bits,
    stick_breaking_weights,
    sticks_among,
    uniform_weights,
)
from patchcollide.randomness import seeded

DRAWS = [uniform_weights, stick_breaking_weights]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("num_vertices", [1, 2, 5, 64])
@pytest.mark.parametrize("num_samples", [1, 2, 33])
def test_weights_are_shares_that_sum_to_one(draw, num_vertices, num_samples, generator):
    weights = draw(num_samples, num_vertices, generator)
    assert weights.shape == (num_samples, num_vertices)
    assert weights.dtype == torch.float64
    assert (weights >= 0).all()
    torch.testing.assert_close(
        weights.sum(dim=1), torch.ones(num_samples, dtype=torch.float64), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("draw", DRAWS)
def test_a_single_vertex_has_all_the_weight(draw, generator):
    assert draw(3, 1, generator).tolist() == [[1.0]] * 3


@pytest.mark.parametrize("draw", DRAWS)
def test_weights_depend_on_the_seed_alone(draw):
    assert torch.equal(draw(4, 3, seeded(5)), draw(4, 3, seeded(5)))
    assert not torch.equal(draw(4, 3, seeded(5)), draw(4, 3, seeded(6)))


@pytest.mark.parametrize("num_vertices", [2, 3, 5])
def test_points_on_faces_are_uniform_on_faces_of_each_size_alike(num_vertices, generator):
    count = 20_000
    weights = face_weights(count, num_vertices, generator)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(count, dtype=torch.float64))
    sizes = (weights > 0).sum(dim=1)
    expected = count / (num_vertices - 1)
    for size in range(2, num_vertices + 1):
        assert int((sizes == size).sum()) == pytest.approx(expected, rel=0.1)
        # A weight of a uniform point of a face of n vertices has the distribution beta(1, n - 1).
        face = weights[sizes == size]
        one = face[face > 0].numpy()[::size]
        assert stats.kstest(one, stats.beta(1, size - 1).cdf).pvalue > 1e-4
    assert (weights > 0).double().mean(dim=0).std() < 0.02


@pytest.mark.parametrize("num_vertices", [2, 3, 5])
def test_uniform_weights_are_distributed_as_dirichlet_of_ones(num_vertices, generator):
    num_samples = 20_000
    weights = uniform_weights(num_samples, num_vertices, generator).numpy()
    # Each marginal of the uniform distribution on the simplex is Beta(1, V - 1).
    for column in weights.T:
        assert stats.kstest(column, stats.beta(1, num_vertices - 1).cdf).pvalue > 1e-3
    expected = (np.eye(num_vertices) - 1 / num_vertices) / (num_vertices * (num_vertices + 1))
    assert np.allclose(np.cov(weights.T), expected, rtol=0, atol=5 / np.sqrt(num_samples) / 10)
    assert np.allclose(weights.mean(axis=0), 1 / num_vertices, rtol=0, atol=0.01)


def test_stick_breaking_favours_the_first_vertex_as_the_released_code_does(generator):
    weights = stick_breaking_weights(20_000, 4, generator).numpy()
    assert stats.kstest(weights[:, 0], "uniform").pvalue > 1e-3
    assert np.allclose(weights.mean(axis=0), [1 / 2, 1 / 4, 1 / 8, 1 / 8], rtol=0, atol=0.01)


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
def test_stick_breaking_matches_a_loop_over_what_is_left(num_vertices):
    weights = stick_breaking_weights(7, num_vertices, torch.Generator().manual_seed(11))
    same = torch.Generator().manual_seed(11)
    shares = torch.rand(7, num_vertices, generator=same, dtype=torch.float64).tolist()
    for sample, row in enumerate(shares):
        left = 1.0
        for vertex, share in enumerate(row):
            weight = left if vertex == num_vertices - 1 else share * left
            assert float(weights[sample, vertex]) == pytest.approx(weight, abs=1e-15)
            left -= weight


@pytest.mark.parametrize(
    ("num_vertices", "shared"), [(1, 1.0), (2, 1.0), (3, 0.75), (5, 0.365), (8, 0.08)]
)
def test_sticks_among_uniform_points_are_independent_and_shared_as_often_as_can_be(
    num_vertices, shared, generator
):
    uniform = uniform_weights(20_000, num_vertices, generator)
    before = uniform.clone()
    weights, stays = sticks_among(uniform, generator)
    assert torch.equal(uniform, before)
    assert torch.equal(weights[stays], uniform[stays])
    assert float(stays.double().mean()) == pytest.approx(shared, abs=0.015)
    # By stick-breaking each weight's share of what is left is uniform, whatever came before.
    left = 1 - weights.cumsum(dim=1) + weights
    shares = (weights / left)[:, :-1].numpy()
    for column in shares.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    if shares.shape[1] > 1:
        correlated = np.corrcoef(shares.T) - np.eye(shares.shape[1])
        assert np.abs(correlated).max() < 4 / np.sqrt(20_000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_samples", "num_vertices"), [(1, 1), (2, 1), (1, 2), (5, 3)])
def test_a_combination_is_the_weighted_sum_of_the_vertices(
    num_samples, num_vertices, dtype, generator
):
    weights = uniform_weights(num_samples, num_vertices, generator)
    vertices = torch.rand(num_vertices, 3, 4, 5, generator=generator, dtype=torch.float64)
    samples = combine(weights, vertices.to(dtype))
    assert samples.dtype == dtype
    for sample in range(num_samples):
        expected = torch.zeros(3, 4, 5, dtype=torch.float64)
        for vertex in range(num_vertices):
            expected += weights[sample, vertex] * vertices[vertex]
        torch.testing.assert_close(samples[sample].double(), expected, rtol=0, atol=1e-6)


def test_gradients_flow_through_combinations_to_the_vertices(generator):
    weights = uniform_weights(4, 3, generator)
    vertices = torch.rand(3, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    combine(weights, vertices).sum().backward()
    expected = weights.sum(dim=0)[:, None, None, None].expand(3, 3, 2, 2)
    torch.testing.assert_close(vertices.grad, expected)


def test_all_8_bit_values_survive_rounding_and_others_move_to_the_nearest():
    levels = torch.arange(256) / 255
    assert torch.equal(round_to_8_bits(levels), levels)
    between = (torch.arange(255)[:, None] + torch.tensor([0.1, 0.49, 0.51, 0.9])) / 255
    nearest = torch.arange(255)[:, None] + torch.tensor([0, 0, 1, 1])
    assert torch.equal(round_to_8_bits(between), nearest / 255)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_purposes_of_one_seed_get_generators_of_their_own(seed):
    draws = {tuple(torch.rand(3, generator=seeded(seed, purpose)).tolist()) for purpose in range(4)}
    assert len(draws) == 4
    again = torch.rand(3, generator=seeded(seed, 2)).tolist()
    assert tuple(again) in draws


@pytest.mark.parametrize(
    ("num_vertices", "most", "expected"), [(1, 4, 0), (2, 4, 1), (3, 3, 3), (5, 64, 10), (5, 4, 4)]
)
def test_edge_middles_are_halfway_between_two_vertices(num_vertices, most, expected):
    weights = edge_middles(num_vertices, most)
    assert weights.shape == (expected, num_vertices)
    assert len(set(map(tuple, weights.tolist()))) == expected
    assert all(sorted(row)[-2:] == [0.5, 0.5] and sum(row) == 1 for row in weights.tolist())
