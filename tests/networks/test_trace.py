"""Many layers in one forward pass, against a network asked layer by layer."""

import pytest
import torch
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.trace import run_capturing, units_of_layers


class Twice(nn.Module):
    """One activation serves two places."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.shared = nn.ReLU()
        self.out = nn.Linear(2 * 36, 3)

    def forward(self, x):
        x = self.act(self.conv(x))
        return self.out(self.shared(self.shared(x)).flatten(1))


def network_of(module, layer, size=6):
    return CollisionNetwork(
        module, name="small", layer=layer, input_size=size, mean=(0.5,), scale=(0.5,)
    )


def several():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(2, 3, 3),
        nn.ReLU6(inplace=True),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.ReLU(inplace=True),
        nn.Linear(5, 4),
    )


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("size", [6, 9])
def test_each_layer_is_as_when_asked_alone(batch, size, generator):
    module = several()
    images = torch.rand(batch, 1, size, size, generator=generator)
    kept = {}

    def keep(layer, z):
        kept[layer] = z.clone()

    layers = ["1", "3", "6"]
    logits = run_capturing(network_of(module, "1"), images, layers, keep)
    assert list(kept) == layers
    for layer in layers:
        alone = network_of(module, layer)(images)
        torch.testing.assert_close(kept[layer], alone.pre_activation)
        torch.testing.assert_close(logits, alone.logits)
    # What an activation in place would have left is not what was handed over.
    assert min(float(z.min()) for z in kept.values()) < 0
    assert not logits.requires_grad


def test_no_hook_outlives_a_pass(generator):
    network = network_of(several(), "1")
    seen = []
    run_capturing(
        network, torch.rand(1, 1, 6, 6, generator=generator), ["1"], lambda *it: seen.append(it)
    )
    network(torch.rand(1, 1, 6, 6, generator=generator))
    assert len(seen) == 1


def test_runs_of_one_activation_are_layers_of_their_own(generator):
    network = network_of(Twice(), "act")
    assert units_of_layers(network) == {"act": 72, "shared": 72, "shared_1": 72}
    images = torch.rand(1, 1, 6, 6, generator=generator)
    kept = {}
    run_capturing(network, images, ["shared_1"], lambda layer, z: kept.update({layer: z.clone()}))
    first = network.at_layer("act")(images).pre_activation
    torch.testing.assert_close(kept, {"shared_1": first.relu()})


def test_a_layer_that_does_not_run_is_refused(generator):
    module = Twice()
    module.add_module("unused", nn.ReLU())
    images = torch.rand(1, 1, 6, 6, generator=generator)
    with pytest.raises(NetworkError, match=r"'unused' of small should run .* but did not"):
        run_capturing(network_of(module, "act"), images, ["unused"], lambda *_: None)


def test_all_layers_are_counted():
    assert units_of_layers(network_of(several(), "1")) == {"1": 72, "3": 48, "6": 5}
