import copy

import pytest
import torch
from torch import nn

from patchcollide.networks import clamped
from patchcollide.networks.clamped import ClampedConvolution, clamped_together
from patchcollide.networks.folding import quick_copy
from patchcollide.networks.network import CollisionNetwork

SIZE = 12

CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 8, 3),
    "without bias": nn.Conv2d(4, 8, 3, bias=False),
    "strided": nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2)),
    "grouped": nn.Conv2d(4, 8, 3, groups=4, padding=1),
    "dilated": nn.Conv2d(4, 8, 2, dilation=2),
    "of one pixel": nn.Conv2d(4, 8, 1),
}

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6 in place": nn.ReLU6(inplace=True),
    "hardtanh": nn.Hardtanh(-0.3, 0.4),
    "threshold": nn.Threshold(0.2, 0.2),
}


def frozen(module):
    torch.manual_seed(3)
    for parameter in module.parameters():
        parameter.data.normal_()
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def answer_and_gradient(run, images):
    images = images.clone().requires_grad_()
    found = run(images)
    weights = torch.linspace(-1, 1, found.numel()).reshape(found.shape)
    (gradient,) = torch.autograd.grad((found * weights).sum(), images)
    return found.detach(), gradient


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_convolution_and_its_clamp_in_one_are_equal_bit_for_bit(convolution, activation, count):
    conv = frozen(copy.deepcopy(CONVOLUTIONS[convolution]))
    act = copy.deepcopy(ACTIVATIONS[activation])
    both = clamped_together(conv, act)
    assert both is not None
    images = torch.randn((count, 4, SIZE, SIZE), generator=torch.Generator().manual_seed(count))
    found = answer_and_gradient(both, images)
    expected = answer_and_gradient(lambda images: act(conv(images)), images)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("change", ["double", "one image", "not by oneDNN"])
def test_what_the_operation_cannot_do_is_done_in_two(change, monkeypatch):
    both = ClampedConvolution(frozen(nn.Conv2d(4, 8, 3)), 0.0, float("inf"))
    images = torch.randn(2, 4, SIZE, SIZE)
    if change == "double":
        both, images = both.double(), images.double()
    elif change == "one image":
        images = images[0]
    else:
        monkeypatch.setattr(clamped, "_by_onednn", lambda *_: False)
    assert torch.equal(both(images), both.conv(images).relu())


@pytest.mark.parametrize(
    ("conv", "activation"),
    [
        (nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        (nn.Conv2d(4, 8, 3, padding="same"), nn.ReLU()),
        (nn.Conv1d(4, 8, 3), nn.ReLU()),
        (nn.Linear(4, 8), nn.ReLU()),
        (nn.Conv2d(4, 8, 3).double(), nn.ReLU()),
        (nn.Conv2d(4, 8, 3), nn.SiLU()),
        (nn.Conv2d(4, 8, 3), nn.LeakyReLU()),
        (nn.Conv2d(4, 8, 3), nn.Threshold(0.2, 0.0)),
    ],
)
def test_others_are_not_joined(conv, activation):
    assert clamped_together(conv, activation) is None


def network_of(*layers):
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)
    return CollisionNetwork(
        frozen(nn.Sequential(*layers, *head)),
        name="small",
        layer=str(len(layers) + 3),
        input_size=SIZE,
        mean=(0.5,) * 3,
        scale=(0.25,) * 3,
    )


def joined(network):
    return [part for part in network.module.modules() if isinstance(part, ClampedConvolution)]


class Read(nn.Module):
    """Something else reads what is clamped."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3), nn.ReLU()

    def forward(self, images):
        found = self.conv(images)
        return self.act(found) + found.tanh()


class Twice(nn.Module):
    """One activation serves two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.ReLU6()

    def forward(self, images):
        return self.act(self.second(self.act(self.first(images))))


@pytest.mark.parametrize("layers", [[Read()], [Twice()], [nn.Conv2d(3, 8, 3), nn.Tanh()]])
def test_activations_that_are_not_the_only_reader_stay(layers):
    network = network_of(*layers)
    assert not joined(quick_copy(network))


def test_a_quick_copy_joins_what_a_pass_shows_to_belong_together():
    network = network_of(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
    quick = quick_copy(network)
    assert len(joined(quick)) == 1
    assert not joined(network)
    assert type(network.module[2]) is nn.ReLU6
    images = torch.rand((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    for found, expected in zip(quick(images), network(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_layer_that_is_shown_is_not_joined():
    network = network_of(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.ReLU())
    shown = network.at_layer("1")
    quick = quick_copy(shown)
    assert [part.conv.in_channels for part in joined(quick)] == [8]
    images = torch.rand((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    assert torch.equal(quick.pre_activation(images), shown.pre_activation(images))


def test_activations_with_hooks_of_the_caller_stay():
    network = network_of(nn.Conv2d(3, 8, 3), nn.ReLU())
    network.module[1].register_forward_hook(lambda *args: args[-1] + 1)
    assert quick_copy(network) is network


def test_a_torch_without_the_operation_does_without(monkeypatch):
    monkeypatch.setattr(clamped, "can_clamp", lambda: False)
    assert clamped_together(nn.Conv2d(4, 8, 3), nn.ReLU()) is None
