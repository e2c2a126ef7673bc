"""What can be asked of a network, layer by layer, and why the rest cannot."""

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.errors import NetworkError
from patchcollide.networks.overview import overview_of
from patchcollide.networks.probes import noise_image
from patchcollide.proofs.tracing import read_program
from tests.helpers.small_networks import SIZE, small_module, wrap


def seen_of(module, tolerance=0.0):
    network = wrap(module, "")
    return overview_of(network, noise_image(3, SIZE), tolerance, {"proof": read_program})


def test_of_a_network_of_relus_everything_can_be_asked_where_it_can():
    found = seen_of(small_module(torch.Generator().manual_seed(0)))
    assert not found.refusals
    assert [(layer.call.name, layer.units, layer.regions) for layer in found.layers] == [
        ("1", 5 * SIZE**2, "<= 0"),
        ("5", 9, "<= 0"),
    ]
    first, last = (layer.can for layer in found.layers)
    assert first == ("pixels", "patches", "exact", "walk", "proof")
    assert last == ("pixels", "patches", "walk", "proof")


def test_what_a_network_has_no_answer_for_is_left_out_and_told():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 4, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.LayerNorm(64),
        nn.GELU(),
        nn.Linear(64, 3),
    )
    found = seen_of(module)
    assert set(found.refusals) == {"walk", "proof"}
    assert "(LayerNorm)" in found.refusals["walk"]
    assert "no bound of native_layer_norm" in found.refusals["proof"]
    # Neither the walk nor the proof is of a part of a network; a smooth layer needs a tolerance.
    assert [layer.can for layer in found.layers] == [("pixels", "patches", "exact"), ()]
    tolerated = seen_of(module, 0.1)
    assert [layer.can for layer in tolerated.layers] == [
        ("pixels", "patches", "exact"),
        ("pixels", "patches"),
    ]


class PartsFirst(nn.Module):
    """As MobileViT does, it has the parts of an image stand where images do."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 4, 4), nn.ReLU()
        self.parts, self.last = nn.ReLU(), nn.Linear(64, 3)

    def forward(self, images):
        features = self.act(self.conv(images)).flatten(2)
        mixed = self.parts(features.flatten(0, 1) - 0.1).reshape(features.shape)
        return self.last(mixed.flatten(1))


def test_layers_that_see_parts_of_images_are_not_said_to_be_usable():
    found = seen_of(PartsFirst())
    assert [(layer.call.name, layer.regions, bool(layer.can)) for layer in found.layers] == [
        ("act", "<= 0", True),
        ("parts", "sees parts of images", False),
    ]
    network = wrap(PartsFirst(), "")
    assert (network.layer, network.usable_layers) == ("act", ["act"])
    with pytest.raises(NetworkError, match=r"should see a batch of 1 first.* usable are act"):
        wrap(PartsFirst(), "parts").pre_activation(noise_image(3, SIZE))


def test_the_command_shows_what_can_be_proved():
    settings = ["--network", "torchvision:squeezenet1_1", "--weights", "random"]
    result = CliRunner().invoke(app, ["layers", *settings, "--input-size", "32"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if "ReLU" in line]
    assert len(lines) == 26
    assert all(line.rstrip().endswith("walk, proof") for line in lines)
