"""Values and slopes along a line, against plain passes and differences of them."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions.points import trace
from tests.helpers.presence import present

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


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


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
    "prelu": lambda: convolutions(nn.PReLU(6, 0.3), nn.PReLU(init=-0.4)),
    "other bends": lambda: convolutions(
        Function(lambda x: x.clamp(-0.3, 0.4).abs().clamp_max(0.2) + F.hardsigmoid(9 * x)),
        Function(lambda x: F.softshrink(torch.maximum(x, 0.3 - x), 0.1) - x.clip(min=0.1)),
    ),
    "crossed bounds": lambda: convolutions(nn.ReLU(), Function(lambda x: x + x.clamp(0.2, -0.1))),
    "global max pool": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.ReLU()
    ),
    "global mean, channels last": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1).to(memory_format=torch.channels_last),
        Function(lambda x: x.to(memory_format=torch.channels_last)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
    "largest": lambda: Function(lambda x: x.amax(dim=(2, 3)) - x.min(dim=3).values.amin(-1)),
    "views": lambda: Function(
        lambda x: sum(part.flatten(1) for part in x.mT.chunk(3, dim=2)).real.unflatten(1, (9, 9))
    ),
    "transposed": lambda: Function(lambda x: x.flatten(1).T.relu().T.data[:, ::5]),
    "scaled sums": lambda: Function(
        lambda x: torch.sub(torch.add(x, x.relu(), alpha=-3), x.abs(), alpha=0.5).flatten(1)
    ),
    "nothing": nn.Identity,
}


def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = NETWORKS[name]().double()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(present(part.running_mean))
                nn.init.uniform_(present(part.running_var), 0.5, 2)
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
    assert name in ("nothing", "views") or ray.bounds.forward.isfinite().all()


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


class Indexed(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, 2, return_indices=True)[1].double()


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
        (nn.Threshold(0.1, 20), "in '1' (Threshold): threshold with another value"),
        (nn.BatchNorm2d(3, track_running_stats=False), "(BatchNorm2d): batch_norm with the"),
        (Indexed(), "in '1' (Indexed): _to_copy of indices is not"),
        (Product(), "in '1' (Product): mul is not"),
        (Reciprocal(), "in '1' (Reciprocal): reciprocal is not"),
        (Blended(), "a row for each input, but Sequential returned logits of another batch"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused_by_name(part, words):
    module = nn.Sequential(nn.ReLU(), part, nn.ReLU()).double().eval()
    value = torch.ones(2, 3, 9, 9, dtype=DOUBLE)
    with pytest.raises(NetworkError, match=re.escape(words)):
        trace(module, value, torch.ones(3, 9, 9, dtype=DOUBLE))


class Renamed(nn.Module):
    def forward(this, x):  # noqa: N805
        return this._halved(x).exp()

    def _halved(self, x):
        return x / 2


def test_the_innermost_part_that_failed_is_named_however_it_calls_itself():
    inner = nn.Sequential(nn.Linear(4, 4), Renamed())
    module = nn.Sequential(nn.Flatten(), inner).double().eval()
    with pytest.raises(NetworkError, match=re.escape("'1.1' (Renamed): exp is not piecewise")):
        trace(module, torch.zeros(2, 4, dtype=torch.float64), torch.ones(4, dtype=torch.float64))


def test_dropout_that_drops_is_refused():
    module = nn.Sequential(nn.Dropout())
    with pytest.raises(NetworkError, match=r"\(Dropout\): bernoulli is not piecewise linear"):
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


VIEWS = {
    "T": lambda x: x.T.T,
    "mT": lambda x: x.mT.mT,
    "H": lambda x: x.H.mH,
    "real": lambda x: x.real,
    "data": lambda x: x.data,
    "detach": lambda x: x.detach(),
    "type": lambda x: x.type(torch.float64).type_as(x).to(x.dtype).double(),
    "tensor": lambda x: torch.as_tensor(x),
    "chunk": lambda x: torch.cat(x.chunk(3, 1), 1),
    "split": lambda x: torch.hstack(torch.tensor_split(x, 2, 1)),
    "unbind": lambda x: torch.stack(x.unbind(1), 1),
    "iteration": lambda x: torch.stack(list(x)),
    "movedim": lambda x: x.unflatten(1, (2, 3)).movedim(1, -1).swapaxes(1, 2).ravel().view(-1, 6),
    "roll": lambda x: x.flip(1).roll(2, 1).roll(-2, 1).fliplr(),
    "matrix from the left": lambda x: (torch.eye(6, dtype=DOUBLE) @ x.T).T,
    "einsum": lambda x: torch.einsum("bi,io->bo", x, torch.eye(6, dtype=DOUBLE)),
    "addmm": lambda x: torch.addmm(x, x, torch.eye(6, dtype=DOUBLE), beta=-1, alpha=2),
    "index": lambda x: x[:, [1, 0, 2, 3, 4, 5]][..., torch.tensor([1, 0, 2, 3, 4, 5])],
    "where": lambda x: torch.where(torch.arange(6) < 3, x, x.clone()),
    "lerp": lambda x: torch.lerp(x, 2 * x, 0.5) / 1.5,
    "fourier": lambda x: torch.fft.irfft(torch.fft.rfft(x), 6),
}


@pytest.mark.parametrize("points", [1, 3, 6])
@pytest.mark.parametrize("name", VIEWS)
def test_views_keep_values_slopes_and_whose_breakpoint_it_is(name, points, generator):
    value = torch.randn(points, 6, generator=generator, dtype=DOUBLE)
    slope = torch.randn(6, generator=generator, dtype=DOUBLE)
    expected = trace(nn.ReLU(), value, slope)
    found = trace(Function(lambda x: VIEWS[name](x).relu()), value, slope)
    for part in ("value", "slope"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part))
    torch.testing.assert_close(found.bounds.forward, expected.bounds.forward)
    torch.testing.assert_close(found.bounds.backward, expected.bounds.backward)


def through_half(x):
    x = x.clone()
    x[:, :3].relu_()
    return x


def written(x):
    made = x.new_zeros(len(x), 6)
    made[:, 3:] = x[:, :3]
    made.view(len(x), 2, 3)[:, 0].copy_(x[:, 3:]).add_(1).sub_(x[:, :3], alpha=2)
    made[:, 1] = 0.5
    return made


def through_index(x):
    x = x.clone()
    x[:, [0, 2]] = -x[:, [1, 4]]
    return x


IN_PLACE = {
    "half": through_half,
    "written": written,
    "index": through_index,
    "input": lambda x: x.flatten(1).relu_() + x,
    "clamp": lambda x: F.hardtanh_(F.relu6(x, inplace=True).mul_(2).neg_().clamp_(-3, -1) + 1),
    "transposed": lambda x: (x.T.relu_(), x.T.abs())[1].T,
    "filled": lambda x: x.masked_fill_(torch.arange(6) < 2, 7.0).clamp_min_(0),
    "data": lambda x: (x.data.mul_(3), x)[1],
}


@pytest.mark.parametrize("points", [1, 4, 6])
@pytest.mark.parametrize("name", IN_PLACE)
def test_changes_in_place_reach_every_view(name, points, generator):
    value = torch.randn(points, 6, generator=generator, dtype=DOUBLE)
    slope = torch.randn(6, generator=generator, dtype=DOUBLE)
    kept = value.clone()
    found = trace(Function(IN_PLACE[name]), value, slope)
    assert torch.equal(value, kept)
    step = 0.5 * torch.minimum(found.bounds.forward, torch.ones(points, dtype=DOUBLE))[:, None]
    torch.testing.assert_close(found.value, IN_PLACE[name](value.clone()))
    later = IN_PLACE[name](value + step * slope)
    torch.testing.assert_close(found.value + step * found.slope, later)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.count: torch.Tensor
        self.register_buffer("count", torch.ones((), dtype=DOUBLE))

    def forward(self, x):
        self.count += 1
        return x * self.count


class Keeping(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept: torch.Tensor
        self.register_buffer("kept", torch.ones(4, dtype=DOUBLE))

    def forward(self, x):
        self.kept.copy_(x[0])
        return x + self.kept


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x if x.sum() > 0 else -x, "gt is not piecewise linear"),
        (lambda x: x * 2 if bool(x[0, 0]) else x, "_local_scalar_dense lets values decide"),
        (lambda x: x * x.max().item(), "_local_scalar_dense lets values decide"),
        (lambda x: x + float(x[0, 0]), "_local_scalar_dense lets values decide"),
        (lambda x: x if torch.equal(x, x) else -x, "equal lets values decide"),
        (lambda x: x + x.numpy().sum(), "numpy() is not supported"),
        (lambda x: x + torch.tensor(x.tolist()), "tolist() is not supported"),
        (lambda x: x.float(), "a cast from torch.float64 to torch.float32 rounds"),
        (lambda x: x.type(torch.float32).double(), "float64 to torch.float32 rounds"),
        (lambda x: x.int().double(), "float64 to torch.int32 rounds"),
        (lambda x: x.bool().double(), "float64 to torch.bool rounds"),
        (lambda x: x.view(torch.int64), "view as another type"),
        (lambda x: x.round(), "round is not"),
        (lambda x: torch.zeros(2, 4, dtype=DOUBLE).copy_(x), "copy_ writes what depends on"),
        (lambda x: x.unsqueeze_(1), "unsqueeze_ changes a tensor's shape"),
        (lambda x: torch.add(x, 1, out=torch.zeros(2, 4, dtype=DOUBLE)), "add changes a tensor's"),
        (lambda x: setattr(x, "data", x + 1) or x, "__set__ on a tensor's memory"),
        (lambda x: x.data_ptr() + x, "data_ptr on a tensor's memory"),
        (lambda x: x.div(0.3, rounding_mode="floor"), "div is not"),
        (lambda x: x @ x.T, "mm is not"),
    ],
)
def test_what_values_cannot_follow_is_refused_in_one_sentence(function, words):
    with pytest.raises(NetworkError, match=re.escape(words)) as caught:
        trace(Function(function), torch.ones(2, 4, dtype=DOUBLE), torch.ones(4, dtype=DOUBLE))
    assert "in '' (Function): " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "words"), [(Counting(), "changes its own parameters"), (Keeping(), "copy_ writes")]
)
def test_a_network_that_changes_itself_is_refused(module, words):
    with pytest.raises(NetworkError, match=words):
        trace(module, torch.ones(2, 4, dtype=DOUBLE), torch.ones(4, dtype=DOUBLE))


def test_a_value_kept_from_another_pass_is_refused():
    kept = []
    module = Function(lambda x: (kept.append(x), x + kept[0])[1])
    value, slope = torch.ones(2, 4, dtype=DOUBLE), torch.ones(4, dtype=DOUBLE)
    trace(module, value, slope)
    with pytest.raises(NetworkError, match="add uses a value that was kept from another pass"):
        trace(module, value, slope)


def test_what_does_not_depend_on_the_input_has_no_slope():
    module = Function(lambda _: torch.arange(6.0, dtype=DOUBLE).view(2, 3))
    ray = trace(module, torch.ones(2, 4, dtype=DOUBLE), torch.ones(4, dtype=DOUBLE))
    assert not ray.slope.any()
    assert ray.bounds.forward.isinf().all()
