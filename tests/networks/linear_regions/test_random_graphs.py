"""Random networks of bends, views, casts and changes in place: what is claimed against samples.

Each network is drawn as a list of steps, most of which keep the shape ``(inputs, WIDTH)``.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.affine import read_image_map
from patchcollide.networks.linear_regions.walk import margins, walk_segment
from patchcollide.networks.network import CollisionNetwork

DOUBLE = torch.float64
WIDTH = 6


def written(x):
    y = torch.empty_like(x)
    y[:, ::2], y[:, 1::2] = x[:, 3:], -x[:, :3]
    return y


def through_view(x):
    y = x.clone()
    y.view(-1, 2, 3).mT[:, 1:].mul_(-1.5)
    return y


def of_buffer(x):
    y = x.new_ones(len(x), WIDTH)
    y.sub_(x.flip(1), alpha=0.5).T[:2].add_(x.T[2:4])
    return y


STRAIGHT = {
    "T": lambda x: x.T.roll(1, 0).T,
    "mT": lambda x: x.unflatten(1, (2, 3)).mT.flatten(1),
    "real": lambda x: x.real - 0.1,
    "data": lambda x: x.data.neg(),
    "type": lambda x: x.type(DOUBLE).to(x).double(),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "unbind": lambda x: torch.stack((*x.unbind(1)[1:], x[:, 0]), 1),
    "alpha": lambda x: torch.add(x, x.flip(1), alpha=-0.7),
    "sub": lambda x: torch.sub(0.3, x, alpha=0.5) + x.roll(2, 1),
    "addmm": lambda x: torch.addmm(x, x, weights(x), beta=0.5, alpha=2),
    "left": lambda x: (weights(x) @ x.t()).t(),
    "einsum": lambda x: torch.einsum("bi,io->bo", x, weights(x)) + 0.2,
    "linear": lambda x: F.linear(x, weights(x), weights(x)[0]),
    "rows": lambda x: F.linear(x.view(-1, 3, 2), weights(x)[:2, :2]).movedim(1, 2).reshape(-1, 6),
    "written": written,
    "through view": through_view,
    "of buffer": of_buffer,
    "lerp": lambda x: torch.lerp(x, x.flip(1), 0.3).mul_(1.2),
    "pad": lambda x: F.pad(x[:, 1:], (0, 1), value=0.4),
    "pool": lambda x: F.avg_pool1d(F.pad(x, (1, 1)), 3, 1) - x / 3,
}

BENT = {
    "relu": lambda x: x.relu() - 0.2,
    "relu_": lambda x: x.clone().relu_() - 0.1,
    "half": lambda x: (x[:, :3].relu_(), x)[1],
    "transposed": lambda x: (x.T[1:4].clamp_(-0.4, 0.6), x - 0.1)[1],
    "leaky": lambda x: F.leaky_relu_(x - 0.1, 0.3),
    "prelu": lambda x: F.prelu(x, weights(x)[0]),
    "clamp": lambda x: x.clamp(min=-0.5).clamp_max(0.7),
    "tensors": lambda x: x.clamp(-weights(x)[1].abs(), weights(x)[2].abs()),
    "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.8) + x / 4,
    "relu6": lambda x: F.relu6(8 * x + 1) / 8,
    "abs": lambda x: abs(x) - 0.5,
    "maximum": lambda x: torch.maximum(x, x.flip(1)) - torch.min(x, x.new_full((WIDTH,), 0.1)),
    "max pool": lambda x: F.max_pool1d(F.pad(x, (1, 1)), 3, 1),
    "amax": lambda x: x - x.amax(1, keepdim=True) / 2,
    "dead": lambda x: (x - 50).relu() + x,
    "softshrink": lambda x: F.softshrink(x, 0.2) + 0.1,
}


def weights(x):
    """A fixed matrix."""
    return torch.linspace(-1, 1, WIDTH**2, dtype=DOUBLE).cos().reshape(WIDTH, WIDTH).to(x) / 2


class Steps(nn.Module):
    """Some steps by name, between two linear layers."""

    def __init__(self, names, generator, num_inputs=3):
        super().__init__()
        self.functions = [(STRAIGHT | BENT)[name] for name in names]
        self.first, self.last = nn.Linear(num_inputs, WIDTH), nn.Linear(WIDTH, 3)
        self.act = nn.ReLU()
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x):
        x = self.first(x.flatten(1))
        for function in self.functions:
            x = function(x)
        return self.last(self.act(x))


def drawn(seed, kinds, count):
    names = sorted(kinds)
    return [names[i] for i in np.random.default_rng(seed).integers(len(names), size=count)]


@pytest.mark.parametrize("seed", range(24))
def test_a_complete_walk_is_below_every_sample_and_meets_the_lowest(seed, generator):
    generator.manual_seed(seed)
    module = Steps(drawn(seed, STRAIGHT | BENT, 5), generator).double().requires_grad_(False)
    start, stop = torch.randn(2, 3, generator=generator, dtype=DOUBLE)
    places = torch.linspace(0, 1, 4001, dtype=DOUBLE)[:, None]
    sampled = margins(module(start + places * (stop - start)), 0)
    # As many inputs as values of each, so that the two could be mistaken for each other.
    found = walk_segment(
        module, start, stop, 0, sampled[::400].tolist(), max_pieces=2000, batch_size=WIDTH
    )
    assert found.is_complete
    steepest = sampled.diff().abs().max()
    assert sampled.min() - steepest - 1e-9 <= found.worst_margin <= sampled.min() + 1e-9
    for piece in found.pieces:
        between = torch.tensor([[piece.start], [piece.stop]], dtype=DOUBLE)
        between = torch.cat([between, between.mean(0, keepdim=True)])
        inside = margins(module(start + between * (stop - start)), 0)
        assert (inside >= min(piece.start_margin, piece.stop_margin) - 1e-9).all()


def network_of(names, generator):
    module = Steps(names, generator, num_inputs=16)
    return CollisionNetwork(
        module.double(), name="drawn", layer="act", input_size=4, mean=(0.5,), scale=(0.5,)
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_layer_is_read_as_affine_exactly_when_nothing_bends_before(seed, generator):
    generator.manual_seed(seed)
    network = network_of(names := drawn(seed, STRAIGHT, 6), generator)
    layer = read_image_map(network)
    images = 20 * torch.randn(9, 1, 4, 4, generator=generator, dtype=DOUBLE)
    expected = network.in_float64().pre_activation(images).numpy()
    found = images.flatten(1).numpy() @ layer.matrix.T + layer.offset
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * abs(expected).max())
    hidden = [*names[:3], *drawn(seed, BENT, 1), *names[3:]]
    with pytest.raises(NetworkError, match=r"'act' of drawn is not affine.*it bends"):
        read_image_map(network_of(hidden, generator))
