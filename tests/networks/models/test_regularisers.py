"""The penalty on collinear hyperplanes, against loops over pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.regularisers import (
    HyperplaneCollinearity,
    hidden_layers,
    mean_squared_cosine,
    normals,
)

SIZES = [(1, 1), (1, 5), (2, 3), (3, 2), (7, 7), (9, 31), (31, 9)]


def slow(rows, groups=1):
    """Pair by pair; rows of different groups are perpendicular."""
    size = len(rows) // groups
    kept = [(number // size, row) for number, row in enumerate(rows.tolist()) if any(row)]
    total, pairs = 0.0, 0
    for place, (group, first) in enumerate(kept):
        for other, (other_group, second) in enumerate(kept):
            if place != other:
                pairs += 1
                inner = sum(a * b for a, b in zip(first, second, strict=True))
                lengths = math.hypot(*first) * math.hypot(*second)
                total += (inner / lengths) ** 2 * (group == other_group)
    return total / pairs if pairs else 0.0


def number(penalty):
    return penalty.item()


def draw(num, inputs, generator):
    """Halves, so that parallel rows, zero rows and ties occur."""
    return torch.randint(-3, 4, (num, inputs), generator=generator).double() / 2


@pytest.mark.parametrize(("num", "inputs"), SIZES)
def test_the_penalty_is_the_mean_over_pairs(num, inputs, generator):
    for _ in range(5):
        rows = draw(num, inputs, generator)
        assert number(mean_squared_cosine(rows)) == pytest.approx(slow(rows), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num=st.integers(1, 12),
    inputs=st.integers(1, 12),
    scale=st.sampled_from([1e-30, 1.0, 1e25]),
)
def test_length_sign_and_order_of_rows_do_not_matter(seed, num, inputs, scale):
    generator = torch.Generator().manual_seed(seed)
    rows = draw(num, inputs, generator)
    found = number(mean_squared_cosine(rows))
    assert -1e-12 <= found <= 1 + 1e-12
    lengths = torch.randn(num, 1, generator=generator, dtype=torch.float64)
    changed = scale * lengths * rows[torch.randperm(num, generator=generator)]
    assert number(mean_squared_cosine(changed)) == pytest.approx(found, abs=1e-9)
    assert found == pytest.approx(slow(rows), abs=1e-9)


def test_perpendicular_and_parallel_hyperplanes_are_the_ends():
    eye = torch.eye(6)
    assert number(mean_squared_cosine(eye)) == pytest.approx(0, abs=1e-6)
    assert number(mean_squared_cosine(torch.cat([eye, -2 * eye]))) == pytest.approx(1 / 11)
    parallel = torch.tensor([[3.0], [-1.0], [0.5]]) * torch.tensor([1.0, 2.0, -1.0])
    assert number(mean_squared_cosine(parallel)) == pytest.approx(1)


def test_more_units_than_inputs_reach_no_less_than_a_tight_frame(generator):
    angles = torch.arange(5) * math.pi / 5
    frame = torch.stack([angles.cos(), angles.sin()], dim=1)
    least = (5 / 2 - 1) / (5 - 1)
    assert number(mean_squared_cosine(frame)) == pytest.approx(least)
    for _ in range(10):
        rows = torch.randn(5, 2, generator=generator)
        assert number(mean_squared_cosine(rows)) >= least - 1e-6


@pytest.mark.parametrize("zero", [[0], [0, 2], [0, 1, 2]])
def test_units_without_a_hyperplane_are_left_out(zero):
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], requires_grad=True)
    dead = torch.ones(3, 1)
    dead[zero] = 0
    penalty = mean_squared_cosine(rows * dead)
    assert number(penalty) == pytest.approx(slow(rows.detach() * dead), abs=1e-6)
    (gradient,) = torch.autograd.grad(penalty, rows)
    assert gradient.isfinite().all()
    assert not gradient[zero].any()


@pytest.mark.parametrize(("num", "inputs"), SIZES)
@pytest.mark.parametrize("values_at_once", [1, 8, 20])
def test_blocks_of_rows_give_the_same_value_and_gradient(num, inputs, values_at_once, generator):
    rows = draw(num, inputs, generator).requires_grad_()
    plain = mean_squared_cosine(rows)
    (expected,) = torch.autograd.grad(plain, rows)
    blocks = mean_squared_cosine(rows, values_at_once=values_at_once)
    (found,) = torch.autograd.grad(blocks, rows)
    torch.testing.assert_close(blocks, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num", "inputs"), [(2, 3), (3, 2), (5, 5)])
@pytest.mark.parametrize("values_at_once", [2, 100])
def test_the_gradient_is_that_of_differences(num, inputs, values_at_once, generator):
    rows = torch.randn(num, inputs, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda rows: mean_squared_cosine(rows, values_at_once=values_at_once), rows
    )


def test_no_product_holds_more_values_than_allowed(generator, monkeypatch):
    largest = 0
    plain = torch.Tensor.__matmul__

    def watched(first, second):
        nonlocal largest
        found = plain(first, second)
        largest = max(largest, found.numel())
        return found

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    rows = torch.randn(50, 300, generator=generator, requires_grad=True)
    mean_squared_cosine(rows, values_at_once=200).backward()
    assert 0 < largest <= 200
    # Of many units with few inputs the smaller Gram matrix is taken.
    largest = 0
    mean_squared_cosine(torch.randn(1000, 3, generator=generator))
    assert largest == 9


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("values_at_once", [3, 1000])
def test_groups_are_those_of_the_unrolled_convolution(groups, values_at_once, generator):
    layer = nn.Conv2d(4, 8, (3, 2), stride=2, groups=groups).double()
    with torch.no_grad():
        layer.weight.copy_(draw(8, layer.weight[0].numel(), generator).reshape(layer.weight.shape))
    found = HyperplaneCollinearity([layer], values_at_once=values_at_once)()
    # The kernels as they act on all channels, zero on those that they do not read.
    full = torch.zeros(8, 4, 3, 2, dtype=torch.float64)
    for unit in range(8):
        first = unit // (8 // groups) * (4 // groups)
        full[unit, first : first + 4 // groups] = layer.weight[unit].detach()
    assert number(found) == pytest.approx(slow(full.flatten(1)), abs=1e-12)
    assert number(found) == pytest.approx(slow(normals(layer).detach(), groups), abs=1e-12)


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_kernels_are_rows_whatever_the_stride(kind):
    layer = kind(2, 5, 3, stride=2, padding=1)
    assert normals(layer).shape == (5, layer.weight[0].numel())
    assert number(HyperplaneCollinearity([layer])()) == pytest.approx(
        slow(layer.weight.detach().flatten(1)), abs=1e-6
    )


def test_with_biases_parallel_hyperplanes_differ():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        layer.bias.copy_(torch.tensor([1.0, -1.0]))
    assert number(HyperplaneCollinearity([layer])()) == pytest.approx(1)
    assert number(HyperplaneCollinearity([layer], biases=True)()) == pytest.approx(0, abs=1e-6)
    without = nn.Linear(2, 2, bias=False)
    assert normals(without, biases=True).shape == (2, 2)


def test_of_several_layers_the_penalty_is_the_mean():
    layers = [nn.Linear(4, 3), nn.Linear(3, 5)]
    each = [number(HyperplaneCollinearity([layer])()) for layer in layers]
    assert number(HyperplaneCollinearity(layers)()) == pytest.approx(sum(each) / 2)


def test_hidden_layers_are_all_but_the_last():
    module = build_digit_network("lenet5", "relu", 0)
    names = {part: name for name, part in module.named_modules()}
    assert [names[part] for part in hidden_layers(module)] == ["conv1", "conv2", "fc1", "fc2"]
    assert hidden_layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) == []


def test_descent_spreads_hyperplanes(generator):
    layer = nn.Linear(20, 10)
    with torch.no_grad():
        layer.weight.copy_(1 + 0.1 * torch.randn(10, 20, generator=generator))
    penalty = HyperplaneCollinearity([layer])
    assert number(penalty()) > 0.9
    optimiser = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        penalty().backward()
        optimiser.step()
    assert number(penalty()) < 0.01


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "no layer is given"),
        ([nn.Linear(2, 2), nn.ConvTranspose2d(1, 1, 3)], "found a ConvTranspose2d"),
        ([nn.ReLU()], "found a ReLU"),
    ],
)
def test_what_has_no_hyperplanes_is_refused(layers, message):
    with pytest.raises(NetworkError, match=message):
        HyperplaneCollinearity(layers)
