"""Values and slopes along a line, against plain passes and differences of them."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.rays import trace

DOUBLE = torch.float64


class Residual(nn.Module):
    def __init__(self, *parts, in_place):
        super().__init__()
        self.parts, self.in_place = nn.Sequential(*parts), in_place

    def forward(self, x):
        out = self.parts(x)
        if self.in_place:
            out += x
            F.relu(out, inplace=True)
            return out
        return torch.relu(out + x)


class Functional(nn.Module):
    """Everything by functions and methods, as some networks are written."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3, 3, 3))

    def forward(self, x):
        assert len(x) == x.size(0) == x.shape[0]
        x = F.pad(x, (1, 1, 1, 1), value=0.3)
        x = F.relu6(F.conv2d(x, self.weight, stride=2).mul(3) - 0.2)
        x = torch.cat([x, x * 2, 0.5 - x, -x[:, :2] / 3], dim=1)
        x = F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)
        x = F.dropout(x, training=self.training)
        return x.mean(dim=(2, 3)).view(x.size(0), -1).clone()


def convolutions(*activations):
    layers = [nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), activations[0]]
    layers += [nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False), activations[-1]]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(24, 4)]
    return nn.Sequential(*layers)


NETWORKS = {
    "relu": lambda: convolutions(nn.ReLU()),
    "relu in place": lambda: convolutions(nn.ReLU(inplace=True)),
    "relu6": lambda: convolutions(nn.ReLU6(), nn.ReLU6(inplace=True)),
    "hardtanh": lambda: convolutions(nn.Hardtanh(-0.3, 0.2), nn.Hardtanh(inplace=True)),
    "leaky": lambda: convolutions(nn.LeakyReLU(0.2), nn.LeakyReLU(-0.5, inplace=True)),
    "max pool": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.MaxPool2d(3, stride=1, padding=1), nn.Flatten(1)
    ),
    "odd pools": lambda: nn.Sequential(
        nn.MaxPool2d((3, 2), stride=2, ceil_mode=True),
        nn.MaxPool2d(2, stride=1, dilation=2, padding=1),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.Flatten(),
    ),
    "residual": lambda: nn.Sequential(Residual(nn.Conv2d(3, 3, 1), nn.ReLU(), in_place=False)),
    "residual in place": lambda: nn.Sequential(Residual(nn.Conv2d(3, 3, 1), in_place=True)),
    "functional": Functional,
    "nothing": nn.Identity,
}


def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = NETWORKS[name]().double()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean)
                nn.init.uniform_(part.running_var, 0.5, 2)
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("points", [1, 2, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_piece_is_affine_from_end_to_end_and_no_further(name, points, generator):
    module = network(name)
    value = torch.rand(points, 3, 9, 9, generator=generator, dtype=DOUBLE)
    slope = torch.rand(3, 9, 9, generator=generator, dtype=DOUBLE) - 0.5
    ray = trace(module, value, slope)
    assert torch.allclose(ray.value, module(value), rtol=0, atol=1e-13)
    for reach, sign in ((ray.bounds.forward, 1), (ray.bounds.backward, -1)):
        assert (reach > 0).all()
        inside = sign * reach.clamp(max=10)
        shape = (-1,) + (1,) * (ray.value.ndim - 1)
        for share in (0.3, 1.0):
            step = share * inside
            plain = module(value + step.reshape(-1, 1, 1, 1) * slope)
            predicted = ray.value + step.reshape(shape) * ray.slope
            assert torch.allclose(plain, predicted, rtol=0, atol=1e-12)
        beyond = trace(module, value + (1.001 * inside).reshape(-1, 1, 1, 1) * slope, slope)
        back = beyond.bounds.backward if sign > 0 else beyond.bounds.forward
        finite = reach.isfinite()
        assert torch.allclose(back[finite], 1e-3 * reach[finite], rtol=1e-6, atol=1e-12)
    assert name == "nothing" or ray.bounds.forward.isfinite().all()


@pytest.mark.parametrize(
    ("module", "values", "speeds", "slopes", "forward", "backward"),
    [
        # Left of the corner, on it in both directions, at rest on it, right of it.
        (nn.ReLU(), [-1, 0, 0, 0, 3], [2, 2, -2, 0, -1], [0, 2, 0, 0, -1], 0.5, 0.0),
        (nn.ReLU6(), [7, 6, 6, 3, -1], [-1, 1, -2, 1, -1], [0, 0, -2, 1, 0], 1, 0.0),
        (nn.LeakyReLU(0.5), [-1, 0, 0], [-2, 2, -2], [-1, 2, -1], torch.inf, 0.0),
        (nn.Hardtanh(-1, 2), [5, -3], [1, -1], [0, 0], torch.inf, 2.0),
        (nn.ReLU(), [0, 0], [0, 0], [0, 0], torch.inf, torch.inf),
    ],
)
def test_a_unit_on_its_corner_goes_where_the_line_heads(
    module, values, speeds, slopes, forward, backward
):
    value = torch.tensor([values], dtype=DOUBLE)
    ray = trace(module, value, torch.tensor(speeds, dtype=DOUBLE))
    assert (ray.slope[0] == torch.tensor(slopes, dtype=DOUBLE)).all()
    assert ray.bounds.forward.item() == forward
    assert ray.bounds.backward.item() == backward


def test_of_tied_pixels_a_max_pool_takes_the_one_that_will_be_ahead():
    value = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]], dtype=DOUBLE)
    slope = torch.tensor([[[2.0, 3.0], [-1.0, 4.0]]], dtype=DOUBLE)
    ray = trace(nn.MaxPool2d(2), value, slope)
    assert ray.slope.item() == 3
    assert ray.bounds.forward.item() == 1
    assert ray.bounds.backward.item() == 0
    equal = trace(nn.MaxPool2d(2), torch.ones_like(value), torch.ones_like(slope))
    assert equal.slope.item() == 1
    assert equal.bounds.forward.item() == equal.bounds.backward.item() == torch.inf


def test_a_batch_is_as_many_lines_as_it_has_points(generator):
    module = network("relu6")
    value = torch.rand(4, 3, 9, 9, generator=generator, dtype=DOUBLE)
    slope = torch.rand(3, 9, 9, generator=generator, dtype=DOUBLE)
    together = trace(module, value, slope)
    for row in range(4):
        alone = trace(module, value[row : row + 1], slope)
        assert torch.allclose(together.slope[row], alone.slope[0])
        assert torch.allclose(together.bounds.forward[row], alone.bounds.forward[0])


class Product(nn.Module):
    def forward(self, x):
        return x * x


class Reciprocal(nn.Module):
    def forward(self, x):
        return 1 / x


class Blended(nn.Module):
    def forward(self, x):
        return x.flatten()[None].relu()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (nn.GELU(), "in '1' (GELU): gelu is not piecewise linear"),
        (nn.SiLU(), "in '1' (SiLU): silu"),
        (nn.Sigmoid(), "in '1' (Sigmoid): sigmoid"),
        (nn.Softmax(dim=1), "in '1' (Softmax): softmax"),
        (nn.Hardswish(), "in '1' (Hardswish): hardswish"),
        (nn.LayerNorm(9), "in '1' (LayerNorm): layer_norm"),
        (nn.Threshold(0.1, 20), "in '1' (Threshold): _threshold"),
        (nn.BatchNorm2d(3, track_running_stats=False), "(BatchNorm2d): batch_norm with the"),
        (nn.MaxPool2d(2, return_indices=True), "(MaxPool2d): max_pool2d_with_indices"),
        (Product(), "in '1' (Product): mul is not"),
        (Reciprocal(), "in '1' (Reciprocal): __rdiv__ is not"),
        (Blended(), "in '1' (Blended): an activation should see a batch of 2"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused_by_name(part, words):
    module = nn.Sequential(nn.ReLU(), part, nn.ReLU()).double().eval()
    value = torch.ones(2, 3, 9, 9, dtype=DOUBLE)
    with pytest.raises(NetworkError, match=re.escape(words)):
        trace(module, value, torch.ones(3, 9, 9, dtype=DOUBLE))


def test_dropout_that_drops_is_refused():
    module = nn.Sequential(nn.Dropout())
    with pytest.raises(NetworkError, match="dropout is not piecewise linear"):
        trace(module.train(), torch.ones(1, 3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE))


class Listed(nn.Module):
    def forward(self, x):
        return [x]


def test_a_network_that_returns_no_logits_is_refused():
    with pytest.raises(NetworkError, match="Listed returned a list"):
        trace(Listed(), torch.ones(1, 3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE))


def test_hooks_are_gone_afterwards():
    module = nn.Sequential(nn.GELU())
    with pytest.raises(NetworkError, match="gelu"):
        trace(module, torch.ones(1, 3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE))
    assert not module[0]._forward_hooks
    assert not module[0]._forward_pre_hooks
