import copy
import threading

import pytest
import torch
from torch import nn

from patchcollide.networks.folding import fold_batch_norm, quick_copy
from patchcollide.networks.network import CollisionNetwork

SIZE = 8


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(5)


def randomise(module, rng):
    """Gives parameters and statistics values, as training does."""
    for part in module.modules():
        for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data.copy_(0.5 * torch.randn(tensor.shape, generator=rng))
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
            part.running_var.abs_().add_(0.1)
    return module


def network_of(rng, *layers, channels=6):
    body = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = randomise(nn.Sequential(body, nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, 3)), rng)
    return wrapped(module)


def wrapped(module):
    layer = [name for name, part in module.named_modules() if type(part) is nn.ReLU][-1]
    return CollisionNetwork(
        module, name="small", layer=layer, input_size=SIZE, mean=(0.5,) * 3, scale=(0.25,) * 3
    )


def norms(network):
    kinds = nn.modules.batchnorm._BatchNorm
    return [part for part in network.module.modules() if isinstance(part, kinds)]


def assert_same(network, quick, rng):
    images = torch.rand((5, 3, SIZE, SIZE), generator=rng)
    with torch.no_grad():
        for expected, found in zip(network(images), quick(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            quick.pre_activation(images), network(images).pre_activation, rtol=1e-4, atol=1e-5
        )


CONVOLUTIONS = {
    "plain": nn.Conv2d(3, 6, 3),
    "without bias": nn.Conv2d(3, 6, 3, bias=False),
    "strided": nn.Conv2d(3, 6, 3, stride=2, padding=1),
    "grouped": nn.Conv2d(3, 6, 3, groups=3, padding=1),
    "dilated": nn.Conv2d(3, 6, 2, dilation=2),
    "of one pixel": nn.Conv2d(3, 6, 1),
    "reflecting": nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
}

NORMS = {
    "plain": nn.BatchNorm2d(6),
    "large eps": nn.BatchNorm2d(6, eps=0.5),
    "without parameters": nn.BatchNorm2d(6, affine=False),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_batch_norm_behind_a_convolution_is_folded(convolution, norm, rng):
    parts = CONVOLUTIONS[convolution], NORMS[norm]
    network = network_of(rng, *map(copy.deepcopy, parts))
    before = copy.deepcopy(network.module.state_dict())
    quick = quick_copy(network)
    assert len(norms(network)) == 1
    assert not norms(quick)
    assert_same(network, quick, rng)
    after = network.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert quick.digest == network.digest


def test_a_batch_norm_behind_a_linear_layer_is_folded(rng):
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIZE**2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)
    )
    network = wrapped(randomise(module, rng))
    quick = quick_copy(network)
    assert not norms(quick)
    assert_same(network, quick, rng)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folding_is_exact_to_rounding(dtype, rng):
    conv, norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, eps=1e-3)
    randomise(nn.ModuleList([conv, norm]), rng)
    conv, norm = conv.to(dtype).eval(), norm.to(dtype).eval()
    images = torch.rand((2, 3, 7, 7), generator=rng, dtype=dtype)
    weight, bias = fold_batch_norm(conv, norm)
    found = torch.nn.functional.conv2d(images, weight, bias)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(found, norm(conv(images)), rtol=tolerance, atol=tolerance)


class Skipping(nn.Module):
    """Something else sees what goes into the norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, images):
        found = self.conv(images)
        return self.norm(found) + found.tanh()


class Twice(nn.Module):
    """One convolution serves two norms."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.wide = nn.Conv2d(3, 6, 1)

    def forward(self, images):
        return self.wide(self.second(self.conv(self.first(self.conv(images)))))


class Changed(nn.Module):
    """What goes into the norm was changed in place on the way."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, images):
        return self.norm(self.conv(images).relu_())


class Scaled(nn.Conv2d):
    """A kind whose weight is not what it multiplies with."""

    def forward(self, images):
        return self._conv_forward(images, 2 * self.weight, self.bias)


KEPT: dict[str, list[nn.Module]] = {
    "before the convolution": [nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3)],
    "behind an activation": [nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(6)],
    "seen by others": [Skipping()],
    "shared convolution": [Twice()],
    "changed in place": [Changed()],
    "unknown kind": [Scaled(3, 6, 3), nn.BatchNorm2d(6)],
}


@pytest.mark.parametrize("case", KEPT)
def test_other_batch_norms_stay(case, rng):
    network = network_of(rng, *(copy.deepcopy(part) for part in KEPT[case]))
    quick = quick_copy(network)
    assert len(norms(quick)) == len(norms(network))
    assert_same(network, quick, rng)


class Aliased(nn.Module):
    """A norm of two names."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.also = self.norm

    def forward(self, images):
        return self.also(self.conv(images))


def test_a_module_with_two_names_is_replaced_under_both(rng):
    network = network_of(rng, Aliased())
    quick = quick_copy(network)
    assert not norms(quick)
    assert_same(network, quick, rng)


class Same(nn.Conv2d):
    """Pads as TensorFlow does: more behind than before."""

    def forward(self, images):
        sides = []
        for size, kernel, stride in zip(
            images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(images, sides))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (2, 1), (2, 2), (1, 2), ((3, 2), (2, 1))]
)
def test_padding_that_a_convolution_does_itself_becomes_its_own(kernel, stride, groups, rng):
    same = Same(3, 6, kernel, stride, groups=groups)
    network = network_of(rng, same, nn.BatchNorm2d(6))
    quick = quick_copy(network)
    kinds = {type(part) for part in quick.module.modules()}
    assert Same not in kinds
    assert not norms(quick)
    assert_same(network, quick, rng)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_are_those_of_the_network(seed):
    rng = torch.Generator().manual_seed(seed)
    network = network_of(
        rng,
        Same(3, 4, 3, 2),
        nn.BatchNorm2d(4),
        nn.ReLU6(inplace=True),
        nn.Conv2d(4, 6, 1),
        nn.BatchNorm2d(6),
    )
    found = []
    for each in (network, quick_copy(network)):
        images = torch.rand((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed))
        images.requires_grad_()
        total = each.pre_activation(images).square().sum()
        found.append(torch.autograd.grad(total, images)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)


def test_a_network_with_nothing_to_fold_is_returned_itself(rng):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 5), nn.ReLU(), nn.Linear(5, 3))
    network = wrapped(randomise(module, rng))
    assert quick_copy(network) is network


def test_a_module_that_cannot_be_copied_is_used_as_it_is(rng):
    network = network_of(rng, nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    network.module.lock = threading.Lock()
    assert quick_copy(network) is network


def test_parts_with_hooks_of_the_caller_stay(rng):
    network = network_of(rng, nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    norms(network)[0].register_forward_hook(lambda *args: args[-1] + 1)
    assert quick_copy(network) is network


class Reading(nn.Module):
    """Answers otherwise when its norm is gone."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, images):
        found = self.norm(self.conv(images))
        return found if isinstance(self.norm, nn.BatchNorm2d) else 2 * found


def test_a_copy_that_answers_otherwise_is_not_used(rng):
    network = network_of(rng, Reading())
    assert quick_copy(network) is network


def test_the_callers_generator_is_left_alone(rng):
    network = network_of(rng, Same(3, 6, 3, 2), nn.BatchNorm2d(6))
    before = torch.get_rng_state()
    quick_copy(network)
    assert torch.equal(torch.get_rng_state(), before)
